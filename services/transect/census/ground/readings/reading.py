"""What one photo or map says of itself: metadata, depth, georeference."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from transect.census.ground.orthomosaic import Georeference, read_georeference
from transect.census.ground.unplaced import UnplacedError
from transect.census.inputs.photos import ChangedPhotoError, NotAFileError, Photo, Stamp
from transect.errors import ImageError
from transect.imagery import FrameMetadata, Rendering, inspect_picture, is_tiff, read_frame_metadata


@dataclass(frozen=True, kw_only=True)
class PhotoReading:
    """What was read in a file. One that is no picture has the reason in `failure`.

    A map that cannot be placed has the reason in `map_problem`. `stamp` is the file's when it was read. `depth` is the
    number of bits that its 16-bit samples use; `remarks` are on how its samples are read. `lasting` is false where the
    file's content is not to blame for the failure, so that it may be gone the next time.
    """

    metadata: FrameMetadata = field(default_factory=FrameMetadata)
    map: Georeference | None = None
    map_problem: str = ""
    failure: str = ""
    stamp: Stamp | None = None
    depth: int | None = None
    remarks: tuple[str, ...] = ()
    lasting: bool = True


def read_photo(name: str, photo: Photo, bands: tuple[int, ...] | None) -> PhotoReading:
    """Read a photo without decoding its pixels; `bands` are those that show a TIFF's colours.

    Raises StoreError where the photo's store is away.
    """
    try:
        stamp = photo.stamp()
        with photo.head() as path:
            return replace(_read(name, path, bands), stamp=stamp)
    except NotAFileError:
        return PhotoReading(failure=f"{name} is no regular file.")
    except ChangedPhotoError:
        return PhotoReading(failure=f"{name} changed while the census ran; run it again.", lasting=False)
    except OSError as error:
        return PhotoReading(failure=f"{name} cannot be read: {error.strerror or error}.", lasting=False)
    except ImageError as error:
        return PhotoReading(failure=str(error))


def _read(name: str, path: Path, bands: tuple[int, ...] | None) -> PhotoReading:
    facts = inspect_picture(path, name=name, rendering=Rendering(bands)) if is_tiff(path) else None
    try:
        metadata = read_frame_metadata(path, name=name)
    except ImageError:
        # Pillow does not open all TIFFs that GDAL reads; such maps have no EXIF.
        if facts is None:
            raise
        metadata = FrameMetadata(width=facts.width, height=facts.height, orientation=facts.orientation)
    if facts is None:
        return PhotoReading(metadata=metadata)
    read = PhotoReading(metadata=metadata, depth=facts.depth, remarks=facts.remarks)
    try:
        return replace(read, map=_read_map(path, metadata))
    except UnplacedError as error:
        return replace(read, map_problem=str(error))


def _read_map(path: Path, metadata: FrameMetadata) -> Georeference | None:
    """The georeference of a TIFF, None for an ordinary photo. Raises UnplacedError where a map cannot be placed."""
    georeference = read_georeference(path)
    if georeference is not None and metadata.orientation != 1:
        raise UnplacedError(
            "no position: it is a map with an EXIF orientation, so it could be meant either way; export it anew."
        )
    return georeference
