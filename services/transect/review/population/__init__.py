"""What a review is a sample of: the boxes of a census in bins, its photos in groups, each in a random order."""
