"""GeoTIFF orthomosaics: the georeference of their pixels, and the part with ground."""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.features import shapes
from shapely import segmentize, transform, union_all
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from transect.arrays import FloatArray
from transect.census.ground.geometry import Grid
from transect.census.ground.unplaced import UnplacedError
from transect.imagery.tiff.geotiff import RefersElsewhereError, geotiff, sidecar_name

# The mask of a map is read at so many pixels a side, so its edges are known to a two-thousandth of its side.
_MASK_SIDE = 2000
# Share of pure black or white border pixels from which a map has empty pixels that its mask does not mark.
_EMPTY_SHARE = 0.005


@dataclass(frozen=True, kw_only=True)
class Georeference:
    """A map's pixels in its own coordinate reference system.

    `affine` is (a, b, c, d, e, f): x = a column + b row + c, y = d column + e row + f, columns and rows counted from
    the upper left corner. `valid` is the part with ground in pixels. `latitude`, `longitude` (degrees) and `gsd_m`
    are those of its middle.
    """

    crs: str
    affine: tuple[float, float, float, float, float, float]
    width: int
    height: int
    valid: BaseGeometry
    latitude: float
    longitude: float
    gsd_m: float

    @property
    def middle_gsd_m(self) -> float:
        """The ground sample distance in the middle, as in Placement: `gsd_m`."""
        return self.gsd_m


@dataclass(frozen=True)
class Mosaic:
    """A map on the survey's grid: a GroundView."""

    georeference: Georeference
    epsg: int
    position_sd_m: float | None = None

    @property
    def width(self) -> int:
        """Pixels."""
        return self.georeference.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.georeference.height

    @cached_property
    def _middle(self) -> FloatArray:
        return self.to_ground(np.array([self.width / 2, self.height / 2]))

    @property
    def x(self) -> float:
        """Easting of its middle."""
        return float(self._middle[0])

    @property
    def y(self) -> float:
        """Northing of its middle."""
        return float(self._middle[1])

    def to_ground(self, pixels: FloatArray) -> FloatArray:
        """See geometry.GroundView."""
        a, b, c, d, e, f = self.georeference.affine
        column, row = pixels[..., 0], pixels[..., 1]
        x, y = _between(self.georeference.crs, self.epsg).transform(a * column + b * row + c, d * column + e * row + f)
        return np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)], axis=-1)

    def to_pixels(self, xy: FloatArray) -> FloatArray:
        """See geometry.GroundView."""
        a, b, c, d, e, f = self.georeference.affine
        x, y = _between(self.georeference.crs, self.epsg).transform(xy[..., 0], xy[..., 1], direction="INVERSE")
        x, y, area = np.asarray(x) - c, np.asarray(y) - f, a * e - b * d
        return np.stack([(e * x - b * y) / area, (a * y - d * x) / area], axis=-1)

    def scale_at(self, pixels: FloatArray) -> FloatArray:
        """See geometry.GroundView."""
        here = self.to_ground(pixels)
        right, down = (self.to_ground(pixels + np.array(step)) - here for step in ((1.0, 0.0), (0.0, 1.0)))
        return np.asarray(np.sqrt(np.abs(right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0])), np.float64)

    def outline(self) -> BaseGeometry:
        """See geometry.GroundView: the part with ground."""
        fine = segmentize(self.georeference.valid, max(self.width, self.height) / 20)
        return transform(fine, self.to_ground)

    def pose_error_sd(self, xy: FloatArray, yaw_error_deg: float, height_error_m: float) -> FloatArray:
        """See geometry.GroundView: a map has no errors of yaw and height."""
        return np.zeros(xy.shape[:-1])


@lru_cache(maxsize=64)
def _between(crs: str, epsg: int) -> Transformer:
    return Transformer.from_crs(CRS.from_wkt(crs), CRS.from_epsg(epsg), always_xy=True)


def read_georeference(path: Path) -> Georeference | None:
    """The georeference of a TIFF; None for an ordinary photo. Raises UnplacedError for a map that cannot be placed."""
    # Photos as TIFF need no georeference.
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    try:
        with geotiff(path) as dataset:
            _refuse_sidecar(sidecar_name(path, dataset))
            return _open(dataset)
    except ProjError as error:
        raise UnplacedError(
            "no position: it is a map in local coordinates, or in a coordinate reference system that is not known on "
            "Earth; set the true one, with gdal_edit.py -a_srs, or export it anew with one."
        ) from error
    except RefersElsewhereError as error:
        raise UnplacedError("no position: it names another file to be read in its place; export it anew.") from error
    except (RasterioError, OSError):
        # The image reader reports files that are no images.
        return None


def _refuse_sidecar(name: str) -> None:
    if name:
        raise UnplacedError(
            f"no position: it does not say itself what {name} says of it, and files beside a map are not read; put "
            "both into one file, with gdal_translate --config GDAL_TIFF_INTERNAL_MASK YES."
        )


def _open(dataset: Any) -> Georeference | None:
    if dataset.transform.is_identity and dataset.crs is None:
        if dataset.gcps[0]:
            raise UnplacedError("no position: it is a map by control points; warp it first, with gdalwarp for example.")
        return None
    return _read(dataset)


def _read(dataset: Any) -> Georeference:
    if dataset.crs is None:
        raise UnplacedError(
            "no position: it is a map without a coordinate reference system; set it, with gdal_edit.py -a_srs."
        )
    affine = tuple(float(value) for value in dataset.transform[:6])
    if dataset.transform.is_identity or not np.isfinite(affine).all() or dataset.transform.is_degenerate:
        raise UnplacedError("no position: it names a coordinate reference system, but no place in it; export it anew.")
    valid = _valid(dataset)
    crs = dataset.crs.to_wkt()
    a, b, c, d, e, f = affine
    middle = dataset.width / 2, dataset.height / 2
    to_degrees = Transformer.from_crs(CRS.from_wkt(crs), "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(a * middle[0] + b * middle[1] + c, d * middle[0] + e * middle[1] + f)
    if not (np.isfinite(lon) and np.isfinite(lat) and abs(lat) <= 84):
        raise UnplacedError("no position: its georeference does not lie between 84 S and 84 N.")
    grid = Grid.around(np.array([lon]), np.array([lat]))
    reference = Georeference(
        crs=crs,
        affine=(a, b, c, d, e, f),
        width=dataset.width,
        height=dataset.height,
        valid=valid,
        latitude=float(lat),
        longitude=float(lon),
        gsd_m=0.0,
    )
    scale = Mosaic(reference, grid.epsg).scale_at(np.array([middle]))[0]
    gsd = float(scale / grid.factors(np.array([lon]), np.array([lat]))[1][0])
    return replace(reference, gsd_m=gsd)


def _valid(dataset: Any) -> BaseGeometry:
    """The part of a map with ground, in pixels, from its mask at reduced resolution. Raises UnplacedError for none."""
    step = max(dataset.width, dataset.height) / _MASK_SIDE
    size = (dataset.height, dataset.width)
    if step > 1:
        size = (max(round(dataset.height / step), 1), max(round(dataset.width / step), 1))
    if all(flags == [MaskFlags.all_valid] for flags in dataset.mask_flag_enums):
        mask = np.full(size, 255, np.uint8)
    else:
        mask = np.asarray(dataset.dataset_mask(out_shape=size), np.uint8)
    if not mask.any():
        raise UnplacedError("no area: its mask leaves nothing of it.")
    # A mask may mark the border as ground: alpha that is opaque everywhere, or nodata of another value.
    share = _empty_border(dataset, mask > 0)
    if share > _EMPTY_SHARE:
        raise UnplacedError(
            f"no area: {share:.0%} of it is black or white without ground, and it does not say so; mark it, with "
            "nearblack -setmask -o marked.tif or gdal_edit.py -a_nodata 0 for example."
        )
    to_pixels = rasterio.Affine.scale(dataset.width / size[1], dataset.height / size[0])
    grounds = shapes((mask > 0).astype(np.uint8), mask=mask > 0, connectivity=4, transform=to_pixels)
    return union_all([shape(ground) for ground, _ in grounds])


def _empty_border(dataset: Any, ground: NDArray[np.bool_]) -> float:
    """The share of pure black or white `ground` pixels that are connected to the map's border or to masked pixels."""
    colours = [band for band, colour in enumerate(dataset.colorinterp, start=1) if colour != ColorInterp.alpha]
    seen = dataset.read(colours[:3], out_shape=(len(colours[:3]), *ground.shape))
    most = np.iinfo(seen.dtype).max if seen.dtype.kind in "ui" else 1
    # The outermost pixels, and those next to a masked one.
    around = np.pad(~ground, 1, constant_values=True).astype(np.uint8)
    beside = cv2.dilate(around, np.ones((3, 3), np.uint8))[1:-1, 1:-1] > 0
    empty = 0.0
    for value in (0, most):
        candidates = (np.all(seen == value, axis=0) & ground).astype(np.uint8)
        count, labels = cv2.connectedComponents(candidates, connectivity=4)
        touching = np.setdiff1d(np.unique(labels[beside]), [0])
        empty += float(np.isin(labels, touching).mean()) if count > 1 else 0.0
    return empty
