"""What a census keeps of each photo while it runs, so that any machine can go on with it."""
