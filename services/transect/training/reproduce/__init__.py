"""Reproduction: repeat a logged training and compare its metrics."""
