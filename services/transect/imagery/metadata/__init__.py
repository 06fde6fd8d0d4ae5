"""What a camera wrote beside the pixels: EXIF, XMP, and what they say of place, time and angles."""
