"""Many trainings, and the best of them."""
