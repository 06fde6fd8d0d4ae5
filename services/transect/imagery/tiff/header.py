"""Detect TIFFs and read their header; camera raw files are rejected here."""

from pathlib import Path

from transect.errors import ImageError
from transect.imagery.decode import check_file, require_read_kind
from transect.imagery.tiff.tags import TiffTags, read_tiff_tags
from transect.pictures.kinds import DNG, RAW, TIFF_STARTS, kind_of_suffix


def is_tiff(source: Path | bytes) -> bool:
    """Whether a file starts like a TIFF; False if it cannot be read, since opening it reports the reason."""
    if isinstance(source, bytes):
        return source.startswith(TIFF_STARTS)
    try:
        if not source.is_file():
            return False
        with source.open("rb") as stream:
            return stream.read(4) in TIFF_STARTS
    except OSError:
        return False


def tags_of(source: Path | bytes, label: str) -> TiffTags:
    """The tags of a TIFF's first picture. Raises ImageError if it cannot be read, or is a camera raw file."""
    check_file(source, label)
    try:
        tags = read_tiff_tags(source)
    except OSError as error:
        raise ImageError(f"{label} cannot be read: {error.strerror}.") from error
    if tags is None:
        require_read_kind(source, label)
        raise ImageError(f"{label} is truncated or damaged and cannot be decoded; copy it again from its source.")
    suffix_kind = kind_of_suffix(source) if isinstance(source, Path) else None
    if tags.raw or suffix_kind in (DNG, RAW):
        # The first directory of many raw files is a thumbnail.
        raise ImageError((suffix_kind if suffix_kind in (DNG, RAW) and suffix_kind is not None else RAW).refusal(label))
    return tags
