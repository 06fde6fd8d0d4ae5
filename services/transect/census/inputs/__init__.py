"""What a survey folder and a census configuration say, checked."""
