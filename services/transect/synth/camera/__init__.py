"""Made cameras: flight, view, light, metadata."""
