"""The decisions of people on boxes and photos, and where they are kept."""
