"""What is read in the photos of a survey before they are placed."""
