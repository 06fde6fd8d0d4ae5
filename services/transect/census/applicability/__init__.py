"""Whether a model's validation speaks for a survey: its area of applicability (Meyer and Pebesma 2021)."""
