"""Where photos were taken and what ground they show, in grid metres."""
