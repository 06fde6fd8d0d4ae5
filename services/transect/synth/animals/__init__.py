"""Made animals: species, herds, motion, how they are drawn."""
