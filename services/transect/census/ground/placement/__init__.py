"""The position, height and attitude of each photo, or the reason why it has none."""
