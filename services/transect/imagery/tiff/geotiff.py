"""A GeoTIFF as itself: GDAL opens no other kind of file, and nothing that the file or its neighbours name.

Survey folders come from strangers. GDAL's other formats read any file and any address that they name (a VRT does, and
its name may end in .tif), and so do files beside a GeoTIFF. Even a GeoTIFF can: its metadata may name a file or an
address to take overviews from. Needs rasterio; imported where one is opened.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio.io import MemoryFile

# In force while a dataset is read too, not only while it is opened.
GDAL_OPTIONS = {
    "GDAL_CACHEMAX": 64,  # MB, shared by all images of the process
    # The file alone: no overviews, masks, georeference or statistics from files beside it.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    # A second lock: no file has this name, so that GDAL asks no network for any.
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
}
# By GDAL's order of trust, what stands in these would have come before what the file says.
_WORLD_FILES = (".tfw", ".tfwx", ".tifw", ".tiffw", ".wld")
_LONGEST_SIDECAR = 4 << 20


class RefersElsewhereError(Exception):
    """A GeoTIFF that names another file, or an address, to be read in its place."""


@contextmanager
def geotiff(path: Path) -> Iterator[Any]:
    """A dataset of rasterio for a file that is a GeoTIFF, and nothing else.

    Raises rasterio's errors for any other file, and RefersElsewhereError for one that names another.
    """
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(**GDAL_OPTIONS))
        yield open_geotiff(stack, path)


def open_geotiff(stack: ExitStack, source: Path | bytes) -> Any:
    """As `geotiff`, closed by `stack`; GDAL_OPTIONS must be in force (rasterio.Env), here and while it is read."""
    if isinstance(source, bytes):
        memory = stack.enter_context(MemoryFile(source, ext=".tif"))
        dataset = stack.enter_context(memory.open(driver="GTiff"))
    else:
        # Absolute: GDAL takes a name such as s3:photo.tif for an address.
        dataset = stack.enter_context(rasterio.open(source.absolute(), driver="GTiff"))
    if "OVERVIEW_FILE" in dataset.tags(ns="OVERVIEWS"):
        raise RefersElsewhereError("it names another file to take its overviews from")
    return dataset


def said_beside(path: Path, dataset: Any) -> str:
    """The name of a file beside a GeoTIFF that says what the GeoTIFF does not say itself; "" where there is none.

    What stands there is not read: a mask, or a georeference or a value for no data that the GeoTIFF lacks.
    """
    mask = path.with_name(f"{path.name}.msk")
    if mask.exists():
        return mask.name
    if dataset.crs is None or dataset.transform.is_identity:
        for suffix in _WORLD_FILES:
            if path.with_suffix(suffix).exists():
                return path.with_suffix(suffix).name
    aside = path.with_name(f"{path.name}.aux.xml")
    try:
        with aside.open("rb") as stream:
            text = stream.read(_LONGEST_SIDECAR)
    except OSError:
        return ""
    lacking = {
        b"<SRS": dataset.crs is None,
        b"<GeoTransform": dataset.transform.is_identity,
        b"<NoDataValue": dataset.nodata is None,
    }
    return aside.name if any(lacks and tag in text for tag, lacks in lacking.items()) else ""
