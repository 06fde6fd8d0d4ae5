"""The path of one request from image bytes to boxes."""
