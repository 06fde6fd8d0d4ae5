"""Open a GeoTIFF safely: GDAL opens no other kind of file, and nothing that the file or its neighbours refer to.

Survey folders are untrusted. GDAL's other formats read any file or URL that they name (a VRT does, and its name may
end in .tif), and so do files beside a GeoTIFF. A GeoTIFF can too: its metadata may name a file or URL for overviews.
Needs rasterio, so import it lazily.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio.io import MemoryFile

# Must be active while a dataset is opened and while it is read.
GDAL_OPTIONS = {
    "GDAL_CACHEMAX": 64,  # MB, shared by all images of the process
    # The file alone: no overviews, masks, georeference or statistics from files beside it.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    # Defence in depth: no file has this name, so GDAL makes no network request.
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
}
# GDAL would give these precedence over the file's own values.
_WORLD_FILES = (".tfw", ".tfwx", ".tifw", ".tiffw", ".wld")
_LONGEST_SIDECAR = 4 << 20


class RefersElsewhereError(Exception):
    """A GeoTIFF that refers to another file or a URL."""


@contextmanager
def geotiff(path: Path) -> Iterator[Any]:
    """Open a GeoTIFF as a rasterio dataset.

    Raises rasterio's errors for any other kind of file, and RefersElsewhereError for one that refers to another.
    """
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(**GDAL_OPTIONS))
        yield open_geotiff(stack, path)


def open_geotiff(stack: ExitStack, source: Path | bytes) -> Any:
    """As `geotiff`, closed by `stack`; GDAL_OPTIONS must be active (rasterio.Env), here and while it is read."""
    if isinstance(source, bytes):
        memory = stack.enter_context(MemoryFile(source, ext=".tif"))
        dataset = stack.enter_context(memory.open(driver="GTiff"))
    else:
        # Absolute: GDAL would treat a name such as s3:photo.tif as a URL.
        dataset = stack.enter_context(rasterio.open(source.absolute(), driver="GTiff"))
    if "OVERVIEW_FILE" in dataset.tags(ns="OVERVIEWS"):
        raise RefersElsewhereError("it names another file to take its overviews from")
    return dataset


def sidecar_name(path: Path, dataset: Any) -> str:
    """The name of a sidecar file with values that the GeoTIFF itself lacks; "" if there is none.

    These values are not read: a mask, a georeference or a no-data value.
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
