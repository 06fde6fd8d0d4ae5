"""A model package and an image in, boxes out."""
