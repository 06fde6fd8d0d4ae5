"""Drawing: the view, the canvas of ground and animals, noise."""
