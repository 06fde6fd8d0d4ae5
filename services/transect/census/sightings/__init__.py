"""From photos to boxes, from boxes to places, from places to animals, each once."""
