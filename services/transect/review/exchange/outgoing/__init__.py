"""Out of a review: folders for people and files for labelling tools."""
