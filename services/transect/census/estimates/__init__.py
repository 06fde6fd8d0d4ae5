"""Estimates, their limits, corrections and tests of differences. Pure."""
