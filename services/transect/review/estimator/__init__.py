"""The total of a survey from the boxes and the photos that people checked. Pure: numbers in, numbers out."""
