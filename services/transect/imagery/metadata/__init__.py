"""Metadata of camera files: EXIF, XMP, and the position, time and angles in them."""
