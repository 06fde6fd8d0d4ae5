"""Evaluation of one detector, or comparison of two, on labelled images."""
