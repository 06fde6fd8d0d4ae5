"""Synthetic animals: species, herds, motion, sprites."""
