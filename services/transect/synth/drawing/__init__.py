"""Drawing: the view of a camera, the canvas that animals and ground are put on, noise."""
