"""A detector on labelled images, alone or beside another."""
