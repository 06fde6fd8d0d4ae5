"""Images in: decoding, EXIF and XMP, tiles, letterbox. Arrays in, arrays out."""
