"""The height of the terrain, read from a GeoTIFF (a digital elevation model) at points."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from transect.arrays import FloatArray
from transect.census.ground.placement.vertical import Vertical, vertical_of
from transect.census.ground.unplaced import UnplacedError
from transect.census.inputs.survey import HeightSpec
from transect.errors import SurveyError
from transect.imagery import FrameMetadata
from transect.imagery.tiff.geotiff import RefersElsewhereError, geotiff, sidecar_name

# A window of so many cells (64 MB as float64) is read at once; points that are further apart are read one by one.
_MOST_CELLS = 8_000_000
# The shore of the Dead Sea lies at -430 m, the top of Mount Everest at 8,849 m: beyond, a cell is a void.
_LOWEST_M, _HIGHEST_M = -500.0, 9000.0


@dataclass(frozen=True)
class PhotoTerrain:
    """The terrain below one photo, and at the take-off where that is needed: metres in the DEM's vertical datum.

    The problems are the reasons why either is not known, without a full stop.
    """

    below_m: float
    take_off_m: float | None = None
    problem: str = ""
    take_off_problem: str = ""


@dataclass(frozen=True)
class Terrain:
    """Elevations (n,) in metres, NaN where there is none; the reason by point; notes on the DEM's unit and datum."""

    elevations_m: FloatArray
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def sample_terrain(path: Path, longitudes: FloatArray, latitudes: FloatArray, rule: HeightSpec) -> Terrain:
    """Elevations at positions (n,) in degrees, by bilinear interpolation.

    There is none outside the DEM, and where one of the four cells has no data or no height that exists on Earth.
    Raises SurveyError, naming the file, when it is missing, no raster of elevations, or lacks its georeference or unit.
    """
    # A raster without a georeference raises below.
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    try:
        with geotiff(path) as dem:
            if aside := sidecar_name(path, dem):
                raise SurveyError(
                    f"{path} does not say itself what {aside} says of it, and files beside a GeoTIFF are not read; put "
                    "both into one file, with gdal_translate --config GDAL_TIFF_INTERNAL_MASK YES."
                )
            if dem.crs is None or dem.transform.is_identity or dem.transform.is_degenerate:
                raise SurveyError(
                    f"{path} does not say where it lies (no coordinate reference system, or no place in it); "
                    "export it anew."
                )
            if dem.count >= 3 or np.dtype(dem.dtypes[0]).kind not in "iuf":
                raise SurveyError(
                    f"{path} is no elevation model: it has {dem.count} bands of {dem.dtypes[0]}; give one band of "
                    "elevations."
                )
            crs = CRS.from_wkt(dem.crs.to_wkt())
            vertical = vertical_of(dem, crs, rule, path)
            x, y = _own_coordinates(dem, crs, longitudes, latitudes)
            return _interpolated(dem, x, y, vertical, path.name)
    except ProjError as error:
        raise SurveyError(
            f"{path} does not say where on Earth it lies: its coordinate reference system is local, unknown or of "
            "another planet; set it, with gdal_edit.py -a_srs, or warp it with gdalwarp."
        ) from error
    except RefersElsewhereError as error:
        raise SurveyError(f"{path} names another file to be read in its place; export it anew.") from error
    except (RasterioError, OSError) as error:
        if not path.is_file():
            raise SurveyError(f"{path} does not exist; survey.yaml names it as height: dem.") from error
        raise SurveyError(f"{path} cannot be read as an elevation model; give a GeoTIFF.") from error


def _own_coordinates(
    dem: Any, crs: CRS, longitudes: FloatArray, latitudes: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Positions in the DEM's own coordinates; far away where its projection is not defined."""
    plane = crs.sub_crs_list[0] if crs.is_compound else crs.to_2d()
    moved = Transformer.from_crs("EPSG:4326", plane, always_xy=True).transform(longitudes, latitudes)
    x, y = (np.nan_to_num(np.asarray(one, np.float64), nan=1e30, posinf=1e30, neginf=1e30) for one in moved)
    if crs.is_geographic:
        # Some DEMs have longitudes from 0 to 360.
        middle = (dem.bounds.left + dem.bounds.right) / 2
        x = middle + (x - middle + 180) % 360 - 180
    return x, y


def _interpolated(dem: Any, x: FloatArray, y: FloatArray, vertical: Vertical, name: str) -> Terrain:
    inverse = ~dem.transform
    column = inverse.a * x + inverse.b * y + inverse.c
    row = inverse.d * x + inverse.e * y + inverse.f
    found = np.full(len(x), np.nan)
    problems = np.full(len(x), f"{name} holds no elevation for its position", object)
    inside = (column >= 0) & (row >= 0) & (column < dem.width) & (row < dem.height)
    if not inside.any():
        return Terrain(found, tuple(problems), vertical.notes)
    # Elevations are those of the cells' middles.
    column, row = column[inside] - 0.5, row[inside] - 0.5
    left = np.clip(np.floor(column), 0, max(dem.width - 2, 0)).astype(np.int64)
    top = np.clip(np.floor(row), 0, max(dem.height - 2, 0)).astype(np.int64)
    held = _corners(dem, left, top)
    corners = held * vertical.metres
    impossible = ~((corners >= _LOWEST_M) & (corners <= _HIGHEST_M)) & ~np.isnan(corners)
    corners[impossible] = np.nan
    across, down = np.clip(column - left, 0, 1), np.clip(row - top, 0, 1)
    upper = corners[:, 0, 0] * (1 - across) + corners[:, 0, 1] * across
    lower = corners[:, 1, 0] * (1 - across) + corners[:, 1, 1] * across
    found[inside] = upper * (1 - down) + lower * down
    numbers = np.flatnonzero(inside)
    for row in np.flatnonzero(impossible.any(axis=(1, 2))):
        void = float(held[row][impossible[row]][0])
        problems[numbers[row]] = (
            f"{name} holds {void:.9g} at its position, which is no height on Earth: a void that the file does not "
            f"declare (gdal_edit.py -a_nodata {void:.9g} does), or another unit (height: dem_unit)"
        )
    problems[np.isfinite(found)] = ""
    return Terrain(found, tuple(problems), vertical.notes)


def _corners(dem: Any, left: NDArray[np.int64], top: NDArray[np.int64]) -> FloatArray:
    """The cells (n, 2, 2) at, right of and below the given ones; NaN where they have no data."""
    width, height = min(2, dem.width), min(2, dem.height)
    columns, rows = int(left.max() - left.min()) + width, int(top.max() - top.min()) + height
    if columns * rows <= _MOST_CELLS:
        whole = _read(dem, Window(int(left.min()), int(top.min()), columns, rows))
        j, i = left - left.min(), top - top.min()
        return np.stack([whole[i + a, j + b] for a in (0, height - 1) for b in (0, width - 1)], axis=-1).reshape(
            -1, 2, 2
        )
    found = np.empty((len(left), 2, 2))
    # In the file's order, so that GDAL's cache serves the next point.
    for number in np.lexsort((left, top)):
        found[number] = _read(dem, Window(int(left[number]), int(top[number]), width, height))
    return found


def _read(dem: Any, window: Window) -> FloatArray:
    cells = dem.read(1, window=window, masked=True).astype(np.float64).filled(np.nan)
    return np.asarray(cells * dem.scales[0] + dem.offsets[0], np.float64)


def height_above(ground: PhotoTerrain | None, rule: HeightSpec, metadata: FrameMetadata) -> float:
    """Height of a camera above the terrain by a DEM in metres. Raises UnplacedError where it is not known."""
    name = rule.dem or ""
    if ground is None or not np.isfinite(ground.below_m):
        why = f"{name} holds no elevation for its position" if ground is None or not ground.problem else ground.problem
        raise UnplacedError(f"no height above ground: {why}.")
    if rule.altitude == "gps":
        if metadata.gps_altitude_m is None:
            why = metadata.gps_altitude_problem or "EXIF has no GPSAltitude"
            raise UnplacedError(f"no height above ground: {why} and flights.csv no height_agl_m.")
        return metadata.gps_altitude_m + rule.vertical_offset_m - ground.below_m
    if metadata.relative_altitude_m is None:
        why = metadata.relative_altitude_problem or "XMP has no RelativeAltitude"
        raise UnplacedError(f"no height above ground: {why} and flights.csv no height_agl_m.")
    if ground.take_off_m is None or not np.isfinite(ground.take_off_m):
        why = ground.take_off_problem or f"{name} holds no elevation for its position"
        raise UnplacedError(f"no height above ground: at the take-off {why}; set height: take_off in survey.yaml.")
    return metadata.relative_altitude_m + ground.take_off_m - ground.below_m


def explain_height(ground: PhotoTerrain, rule: HeightSpec, metadata: FrameMetadata) -> str:
    """The terms of a computed height, and the keys to check where it is impossible."""
    terrain = f"{rule.dem} says {ground.below_m:.5g} m of terrain below it"
    if rule.altitude == "gps":
        return (
            f"its altitude is {metadata.gps_altitude_m:.5g} m{rule.vertical_offset_m:+g} m, and {terrain}; look at the "
            "DEM's unit (height: dem_unit) and at the vertical datums (height: vertical_offset_m)"
        )
    return (
        f"it flew {metadata.relative_altitude_m:.5g} m above a take-off at {ground.take_off_m:.5g} m, and {terrain}; "
        "look at the DEM's unit (height: dem_unit) and at height: take_off"
    )
