"""Detection in each photo, the boxes' ground positions, and the unique animals."""
