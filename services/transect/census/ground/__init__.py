"""The poses of photos and the ground that they show, in grid metres."""
