"""The height of the terrain, read from a GeoTIFF (a digital elevation model) at points."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio.errors import RasterioError
from rasterio.windows import Window

from transect.census.inputs.survey import HeightSpec
from transect.errors import SurveyError

FloatArray = NDArray[np.float64]

# A window of so many cells (64 MB as float64) is read at once; points that are further apart are read one by one.
_MOST_CELLS = 8_000_000


@dataclass(frozen=True)
class Ground:
    """The terrain below one photo, and at the take-off where that is needed: metres in the DEM's vertical datum."""

    below_m: float
    take_off_m: float | None = None


def sample_terrain(path: Path, longitudes: FloatArray, latitudes: FloatArray) -> FloatArray:
    """Elevations in metres at positions (n,) in degrees, between the four cells around each (bilinear).

    NaN outside the DEM and where one of the four cells holds no data. Raises SurveyError, naming the file, when it
    is missing, no raster, or does not say where on Earth it lies.
    """
    try:
        with rasterio.open(path.absolute()) as dem:
            if dem.crs is None or dem.transform.is_identity:
                raise SurveyError(
                    f"{path} does not say where it lies (no coordinate reference system); export it anew."
                )
            x, y = Transformer.from_crs("EPSG:4326", CRS.from_wkt(dem.crs.to_wkt()), always_xy=True).transform(
                longitudes, latitudes
            )
            return _interpolated(dem, np.asarray(x, np.float64), np.asarray(y, np.float64))
    except (RasterioError, OSError) as error:
        if not path.is_file():
            raise SurveyError(f"{path} does not exist; survey.yaml names it as height: dem.") from error
        raise SurveyError(f"{path} cannot be read as an elevation model; give a GeoTIFF.") from error


def _interpolated(dem: Any, x: FloatArray, y: FloatArray) -> FloatArray:
    inverse = ~dem.transform
    column = inverse.a * x + inverse.b * y + inverse.c
    row = inverse.d * x + inverse.e * y + inverse.f
    found = np.full(len(x), np.nan)
    inside = (column >= 0) & (row >= 0) & (column < dem.width) & (row < dem.height)
    if not inside.any():
        return found
    # Elevations are those of the cells' middles.
    column, row = column[inside] - 0.5, row[inside] - 0.5
    left = np.clip(np.floor(column), 0, max(dem.width - 2, 0)).astype(np.int64)
    top = np.clip(np.floor(row), 0, max(dem.height - 2, 0)).astype(np.int64)
    corners = _corners(dem, left, top)
    across, down = np.clip(column - left, 0, 1), np.clip(row - top, 0, 1)
    upper = corners[:, 0, 0] * (1 - across) + corners[:, 0, 1] * across
    lower = corners[:, 1, 0] * (1 - across) + corners[:, 1, 1] * across
    found[inside] = upper * (1 - down) + lower * down
    return found


def _corners(dem: Any, left: NDArray[np.int64], top: NDArray[np.int64]) -> FloatArray:
    """The cells (n, 2, 2) at and right of and below the given ones; NaN where they hold nothing."""
    width, height = min(2, dem.width), min(2, dem.height)
    columns, rows = int(left.max() - left.min()) + width, int(top.max() - top.min()) + height
    if columns * rows <= _MOST_CELLS:
        whole = _read(dem, Window(int(left.min()), int(top.min()), columns, rows))
        j, i = left - left.min(), top - top.min()
        return np.stack([whole[i + a, j + b] for a in (0, height - 1) for b in (0, width - 1)], axis=-1).reshape(
            -1, 2, 2
        )
    found = np.empty((len(left), 2, 2))
    # In the file's order, so that GDAL's cache holds what the next point needs.
    for number in np.lexsort((left, top)):
        found[number] = _read(dem, Window(int(left[number]), int(top[number]), width, height))
    return found


def _read(dem: Any, window: Window) -> FloatArray:
    cells = dem.read(1, window=window, masked=True).astype(np.float64).filled(np.nan)
    return np.asarray(cells * dem.scales[0] + dem.offsets[0], np.float64)


def height_above(ground: Ground | None, rule: HeightSpec, relative_m: float | None, gps_m: float | None) -> float | str:
    """Height of a camera above the terrain by a DEM in metres, or a sentence that says what is missing.

    `relative_m` is above the take-off, `gps_m` as the GPS receiver says it.
    """
    name = rule.dem or ""
    if ground is None or not np.isfinite(ground.below_m):
        return f"no height above ground: {name} holds no elevation for its position."
    if rule.altitude == "gps":
        if gps_m is None:
            return "no height above ground: EXIF has no GPSAltitude and flights.csv no height_agl_m."
        return gps_m + rule.vertical_offset_m - ground.below_m
    if relative_m is None:
        return "no height above ground: XMP has no RelativeAltitude and flights.csv no height_agl_m."
    if ground.take_off_m is None or not np.isfinite(ground.take_off_m):
        return (
            f"no height above ground: {name} holds no elevation at the take-off; set height: take_off in survey.yaml."
        )
    return relative_m + ground.take_off_m - ground.below_m
