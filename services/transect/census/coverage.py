"""The ground that was looked at: footprints, transects and strata as polygons, and their areas without overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shapely import STRtree, covers, points, prepare, union_all
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from transect.census.geometry import FloatArray, Grid, Pose, footprint
from transect.census.survey import Stratum, SurveySpec
from transect.errors import SurveyError

# Ground that belongs to two strata, or a transect that shows nothing new: less than this is rounding.
_NO_AREA_KM2 = 1e-6


@dataclass(frozen=True)
class Region:
    """A stratum on the survey's grid; without a polygon it holds every position."""

    name: str
    area_km2: float
    polygon: BaseGeometry | None
    transects_possible: float | None

    def holds(self, xy: FloatArray) -> NDArray[np.bool_]:
        """Which positions (n, 2) lie in it."""
        if self.polygon is None:
            return np.ones(len(xy), bool)
        prepare(self.polygon)
        return np.asarray(covers(self.polygon, points(xy)), bool)


@dataclass(frozen=True)
class Unit:
    """A sampling unit: the ground of one transect in one stratum that no earlier transect of it shows."""

    stratum: str
    transect: str
    polygon: BaseGeometry
    area_km2: float
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Coverage:
    """Footprints by frame number, strata, sampling units, and the area of all footprints together in km2."""

    footprints: Mapping[int, Polygon]
    regions: tuple[Region, ...]
    units: tuple[Unit, ...]
    area_km2: float
    region_of: Mapping[int, str]


def regions_on(grid: Grid, strata: Sequence[Stratum]) -> tuple[Region, ...]:
    """The strata on the survey's grid. Raises SurveyError where two of them overlap."""
    regions = []
    for stratum in strata:
        polygon = None
        if stratum.polygon is not None:
            corners = np.array(stratum.polygon, np.float64)
            polygon = Polygon(grid.forward(corners[:, 0], corners[:, 1]))
        regions.append(Region(stratum.name, stratum.total_area_km2, polygon, stratum.transects_possible))
    for index, one in enumerate(regions):
        for other in regions[:index]:
            if one.polygon is not None and other.polygon is not None:
                shared = one.polygon.intersection(other.polygon).area / 1e6
                if shared > 1e-3 * min(one.area_km2, other.area_km2):
                    raise SurveyError(f"Strata {other.name} and {one.name} overlap by {shared:.3g} km2; redraw them.")
    return tuple(regions)


def cover(
    poses: Mapping[int, Pose],
    transects: Mapping[int, str | None],
    regions: Sequence[Region],
    spec: SurveySpec,
    scale: float,
) -> Coverage:
    """Lay the footprints of the photos (by frame number) over the strata.

    A photo belongs to the stratum that holds its centre; its ground is cut at the stratum's border. Ground that
    two transects show belongs to the first of them by name, so that neither area nor animals count twice.
    `scale` is the grid's (grid metres a ground metre): areas are ground areas.
    """
    footprints = {number: footprint(pose) for number, pose in poses.items()}
    per_km2 = 1e6 * scale**2
    whole = union_all(list(footprints.values())) if footprints else Polygon()
    region_of = _regions_of(poses, regions)
    units: list[Unit] = []
    for region in regions:
        members: dict[str, list[int]] = {}
        for number, name in region_of.items():
            transect = "all" if spec.sampling == "total" else transects[number]
            if name == region.name and transect is not None:
                members.setdefault(transect, []).append(number)
        units += _units(region, members, footprints, per_km2)
    return Coverage(footprints, tuple(regions), tuple(units), whole.area / per_km2, region_of)


def _regions_of(poses: Mapping[int, Pose], regions: Sequence[Region]) -> dict[int, str]:
    numbers = list(poses)
    centres = np.array([[poses[number].x, poses[number].y] for number in numbers]).reshape(-1, 2)
    found: dict[int, str] = {}
    for region in regions:
        for number, inside in zip(numbers, region.holds(centres), strict=True):
            if inside:
                found.setdefault(number, region.name)
    return found


def _units(
    region: Region, members: Mapping[str, list[int]], footprints: Mapping[int, Polygon], per_km2: float
) -> list[Unit]:
    units: list[Unit] = []
    for transect in sorted(members):
        ground = union_all([footprints[number] for number in members[transect]])
        if region.polygon is not None:
            ground = ground.intersection(region.polygon)
        for earlier in units:
            if earlier.polygon.intersects(ground):
                ground = ground.difference(earlier.polygon)
        if ground.area / per_km2 > _NO_AREA_KM2:
            units.append(Unit(region.name, transect, ground, ground.area / per_km2, tuple(sorted(members[transect]))))
    return units


def check_against_strata(coverage: Coverage, spec: SurveySpec) -> None:
    """Raise SurveyError where more was flown than a stratum holds: then its area or the positions are wrong."""
    if spec.sampling == "total":
        return
    for region in coverage.regions:
        units = [unit for unit in coverage.units if unit.stratum == region.name]
        sampled = sum(unit.area_km2 for unit in units)
        if sampled > region.area_km2:
            raise SurveyError(
                f"The transects in stratum {region.name} cover {sampled:.4g} km2, more than its "
                f"{region.area_km2:.4g} km2; correct area_km2, or the heights and positions of the photos."
            )
        if region.transects_possible is not None and region.transects_possible < len(units):
            raise SurveyError(
                f"Stratum {region.name} says transects_possible {region.transects_possible:g}, "
                f"but {len(units)} were flown; correct it in survey.yaml."
            )


def assign_to_units(xy: FloatArray, coverage: Coverage, reach_m: float) -> NDArray[np.int64]:
    """For each position (n, 2) the number of its unit in `coverage.units`, -1 outside every one.

    A position in a stratum but just outside its units (it is a mean over photos) goes to the nearest one within
    `reach_m`.
    """
    unit = np.full(len(xy), -1, np.int64)
    for region in coverage.regions:
        numbers = [number for number, one in enumerate(coverage.units) if one.stratum == region.name]
        inside = np.flatnonzero(region.holds(xy))
        if not numbers or len(inside) == 0:
            continue
        tree = STRtree([coverage.units[number].polygon for number in numbers])
        asked, nearest = tree.query_nearest(points(xy[inside]), max_distance=reach_m, all_matches=False)
        unit[inside[asked]] = np.array(numbers, np.int64)[nearest]
    return unit
