"""Whether a model's validation applies to a survey: its area of applicability (Meyer and Pebesma 2021)."""
