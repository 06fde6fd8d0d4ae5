"""Made land: biomes, ground, cover, litter."""
