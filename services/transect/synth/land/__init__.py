"""Synthetic land: biomes, ground, cover, litter."""
