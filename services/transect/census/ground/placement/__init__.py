"""Where each photo was taken, at what height and angle, and why not."""
