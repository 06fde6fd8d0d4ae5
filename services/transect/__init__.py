"""Transect: train wildlife detectors, track every run, serve the best one, count animals."""

__version__ = "0.1.0"
