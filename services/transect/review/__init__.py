"""People's decisions on a census: samples to look at, storage, the checked estimate, and back into training sets."""
