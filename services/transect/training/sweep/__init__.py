"""Hyperparameter sweeps: many trainings of one recipe, of which the best is registered."""
