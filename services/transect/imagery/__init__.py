"""Images as arrays: decoding, EXIF and XMP, tiles, letterbox, drawing."""

from transect.imagery.annotate import PALETTE, annotate
from transect.imagery.decode import IMAGE_SUFFIXES, open_image
from transect.imagery.encode import LONGEST_JPEG_SIDE, encode_jpeg
from transect.imagery.letterbox import LetterboxTransform, letterbox
from transect.imagery.metadata.reader import FrameMetadata, read_frame_metadata
from transect.imagery.picture_cost import UNKNOWN_COST_BYTES, PictureCost, picture_cost
from transect.imagery.raster import AS_STORED, WHOLE_BELOW, Raster, Rendering, as_raster
from transect.imagery.reader import PictureFacts, decode_image, inspect_picture, open_raster
from transect.imagery.resample import resample
from transect.imagery.tiff.header import is_tiff
from transect.imagery.tiles import Tile, count_tiles, plan_tiles

__all__ = [
    "AS_STORED",
    "IMAGE_SUFFIXES",
    "LONGEST_JPEG_SIDE",
    "PALETTE",
    "UNKNOWN_COST_BYTES",
    "WHOLE_BELOW",
    "FrameMetadata",
    "LetterboxTransform",
    "PictureCost",
    "PictureFacts",
    "Raster",
    "Rendering",
    "Tile",
    "annotate",
    "as_raster",
    "count_tiles",
    "decode_image",
    "encode_jpeg",
    "inspect_picture",
    "is_tiff",
    "letterbox",
    "open_image",
    "open_raster",
    "picture_cost",
    "plan_tiles",
    "read_frame_metadata",
    "resample",
]
