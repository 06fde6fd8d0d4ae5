"""A training set from what people decided."""
