"""What images and detections look like to a model, so that a census can compare its own photos."""
