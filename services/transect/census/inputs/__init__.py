"""Read and validate a survey folder and a census configuration."""
