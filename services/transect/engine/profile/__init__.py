"""Appearance of images and detections of a model's validation, for comparison with the photos of a census."""
