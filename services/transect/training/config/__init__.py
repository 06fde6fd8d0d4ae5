"""Configuration of a training: recipe, architecture, starting weights, empty ground."""
