"""What HTML pages are made of: Jinja, numbers as text, a style, the elements of an SVG. Imports no other room."""
