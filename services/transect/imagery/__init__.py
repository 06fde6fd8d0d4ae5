"""Images as arrays: decoding, EXIF and XMP, tiles, letterbox, drawing. Arrays in, arrays out."""

from transect.imagery.annotate import PALETTE, annotate
from transect.imagery.decode import IMAGE_SUFFIXES, decode_image, open_image
from transect.imagery.encode import LONGEST_JPEG_SIDE, encode_jpeg
from transect.imagery.letterbox import LetterboxTransform, letterbox
from transect.imagery.metadata import FrameMetadata, read_frame_metadata
from transect.imagery.raster import WHOLE_BELOW, Raster, as_raster, held_pixels, open_raster
from transect.imagery.tiles import Tile, count_tiles, plan_tiles

__all__ = [
    "IMAGE_SUFFIXES",
    "LONGEST_JPEG_SIDE",
    "PALETTE",
    "WHOLE_BELOW",
    "FrameMetadata",
    "LetterboxTransform",
    "Raster",
    "Tile",
    "annotate",
    "as_raster",
    "count_tiles",
    "decode_image",
    "encode_jpeg",
    "held_pixels",
    "letterbox",
    "open_image",
    "open_raster",
    "plan_tiles",
    "read_frame_metadata",
]
