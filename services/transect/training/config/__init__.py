"""What to train: recipe, architecture, starting weights, empty ground."""
