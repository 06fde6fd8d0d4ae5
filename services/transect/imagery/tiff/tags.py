"""Read the tags of a TIFF's first directory (TIFF 6.0, section 2; BigTIFF by its 64-bit layout), without decoding."""

import io
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# Tags of TIFF 6.0, of DNG 1.7 (DNGVersion) and of Adobe's XMP.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 259, 262, 274
_SAMPLES, _MAX_SAMPLE, _S_MAX_SAMPLE, _XMP, _DNG_VERSION = 277, 281, 341, 700, 50706
_TAGS = (
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _MAX_SAMPLE, _S_MAX_SAMPLE, _XMP,
    _DNG_VERSION,
)  # fmt: skip
# Size in bytes and struct format of the types that are read.
_TYPES = {1: (1, "B"), 2: (1, "B"), 3: (2, "H"), 4: (4, "I"), 7: (1, "B"), 13: (4, "I"), 16: (8, "Q")}
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation(?:="|>)([1-8])""")
# Colour filter array (TIFF/EP) and LinearRaw (DNG).
_RAW_PHOTOMETRICS = frozenset({32803, 34892})
_MOST_ENTRIES = 4096
_MOST_XMP = 1 << 20


@dataclass(frozen=True, kw_only=True)
class TiffTags:
    """Stored width and height, orientation (1 to 8), photometric interpretation, bands, the largest sample if it is
    stated, whether this is a camera's raw file, and the most bits of a sample."""

    width: int
    height: int
    orientation: int = 1
    photometric: int | None = None
    samples: int = 1
    most: int | None = None
    raw: bool = False
    bits: int = 8


def read_tiff_tags(source: Path | bytes) -> TiffTags | None:
    """The tags of a TIFF; None without a complete directory with a size. Raises OSError."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            return _tags(_entries(stream))
    except (struct.error, ValueError, OverflowError):
        return None


def _tags(found: dict[int, tuple[int, ...] | bytes]) -> TiffTags | None:
    def first(tag: int) -> int | None:
        values = found.get(tag)
        return int(values[0]) if values else None

    width, height = first(_WIDTH), first(_HEIGHT)
    if not width or not height:
        return None
    orientation = first(_ORIENTATION)
    if orientation is None:
        match = _XMP_ORIENTATION.search(bytes(found.get(_XMP, b"")))
        orientation = int(match[1]) if match else 1
    photometric = first(_PHOTOMETRIC)
    stated = [max(found[tag]) for tag in (_MAX_SAMPLE, _S_MAX_SAMPLE) if found.get(tag)]
    return TiffTags(
        width=width,
        height=height,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        photometric=photometric,
        samples=first(_SAMPLES) or 1,
        most=max(stated) if stated else None,
        raw=_DNG_VERSION in found or photometric in _RAW_PHOTOMETRICS,
        bits=max(found.get(_BITS) or (1,)),
    )


def _entries(stream: BinaryIO) -> dict[int, tuple[int, ...] | bytes]:
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    offset = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0]
    stream.seek(offset)
    count = struct.unpack(order + ("Q" if big else "H"), stream.read(8 if big else 2))[0]
    if count > _MOST_ENTRIES:
        return {}
    size, inline = (20, 8) if big else (12, 4)
    table, found = stream.read(count * size), dict[int, tuple[int, ...] | bytes]()
    for at in range(0, len(table) - size + 1, size):
        tag, kind = struct.unpack_from(order + "HH", table, at)
        number = struct.unpack_from(order + ("Q" if big else "I"), table, at + 4)[0]
        if tag not in _TAGS or kind not in _TYPES or number * _TYPES[kind][0] > _MOST_XMP:
            continue
        width, letter = _TYPES[kind]
        value = table[at + size - inline : at + size]
        if number * width > inline:
            stream.seek(struct.unpack(order + ("Q" if big else "I"), value)[0])
            value = stream.read(number * width)
        found[tag] = value if tag == _XMP else struct.unpack_from(f"{order}{number}{letter}", value)
    return found
