"""YOLO training sets: read, checked, summarised, digested."""
