"""What HTML pages are made of: one Jinja environment and the elements of an SVG. Imports no other room."""
