"""What a reviewer gets, and gives back: pictures, tables, and the formats of labelling tools."""
