"""Images as arrays: decoding, EXIF and XMP, tiles, letterbox, drawing. Arrays in, arrays out."""

from transect.imagery.decode import IMAGE_SUFFIXES, decode_image

__all__ = ["IMAGE_SUFFIXES", "decode_image"]
