"""Files of a finished census, read back as the objects that it was counted with."""
