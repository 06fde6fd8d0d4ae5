"""Images as arrays: decoding, EXIF and XMP, tiles, letterbox, drawing. Arrays in, arrays out."""

from transect.imagery.annotate import PALETTE, annotate
from transect.imagery.decode import IMAGE_SUFFIXES, decode_image
from transect.imagery.letterbox import LetterboxTransform, letterbox
from transect.imagery.metadata import FrameMetadata, read_frame_metadata
from transect.imagery.tiles import Tile, plan_tiles

__all__ = [
    "IMAGE_SUFFIXES",
    "PALETTE",
    "FrameMetadata",
    "LetterboxTransform",
    "Tile",
    "annotate",
    "decode_image",
    "letterbox",
    "plan_tiles",
    "read_frame_metadata",
]
