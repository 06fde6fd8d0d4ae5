"""Coverage: footprints, transects and strata as polygons, and their areas without overlap."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from shapely import (
    STRtree,
    area,
    centroid,
    disjoint_subset_union_all,
    get_coordinates,
    get_parts,
    intersection,
    intersects_xy,
    union_all,
)
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from transect.arrays import FloatArray
from transect.census.ground.geometry import Grid, GroundView
from transect.census.ground.orthomosaic import Mosaic
from transect.census.ground.point_in_polygon import nearest_polygon
from transect.census.ground.projection import Views
from transect.census.inputs.survey import Stratum, SurveySpec
from transect.errors import SurveyError

# A smaller new area of a transect is rounding.
_NO_AREA_KM2 = 1e-6
# A transect with a smaller share of new ground repeats others: it is no sample of its own.
_LEAST_NEW = 0.2
# A measured area may exceed a stated one by this share.
_AREA_TOLERANCE = 1e-3
_THREADS = 2

Scale = float | Callable[[FloatArray], FloatArray]
"""Grid metres a ground metre: one for the whole survey, or at positions (n, 2)."""


@dataclass(frozen=True)
class Region:
    """A stratum on the survey's grid; without a polygon it contains every position."""

    name: str
    area_km2: float
    polygon: BaseGeometry | None
    transects_possible: float | None

    def contains(self, xy: FloatArray) -> NDArray[np.bool_]:
        """Which positions (n, 2) lie in it."""
        if self.polygon is None:
            return np.ones(len(xy), bool)
        return np.asarray(intersects_xy(self.polygon, xy[:, 0], xy[:, 1]), bool)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A sampling unit: the ground of one transect in one stratum that no earlier transect of it shows.

    `repeats` are later transects over the same ground, which are no samples of their own.
    """

    stratum: str
    transect: str
    polygon: BaseGeometry
    area_km2: float
    frames: tuple[int, ...]
    repeats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Coverage:
    """Footprints by frame number, strata, sampling units, and the area of all footprints together in km2."""

    footprints: Mapping[int, BaseGeometry]
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
            polygon = grid.polygon(stratum.polygon)
            if not polygon.is_valid:
                raise SurveyError(
                    f"Stratum {stratum.name} lies too far from the photos ({grid.name}); check its corners, which are "
                    "[longitude, latitude], and the photos' positions."
                )
        regions.append(Region(stratum.name, stratum.total_area_km2, polygon, stratum.transects_possible))
    for index, one in enumerate(regions):
        for other in regions[:index]:
            if one.polygon is not None and other.polygon is not None:
                shared = one.polygon.intersection(other.polygon).area / 1e6
                if shared > 1e-3 * min(one.area_km2, other.area_km2):
                    raise SurveyError(f"Strata {other.name} and {one.name} overlap by {shared:.3g} km2; redraw them.")
    return tuple(regions)


def ground_area_km2(shape: BaseGeometry, scale: Scale) -> float:
    """The area on the ground of a shape on the grid: each part's by the grid's scale at its middle."""
    parts = np.array([part for part in get_parts(shape) if part.area > 0])
    if len(parts) == 0:
        return 0.0
    local = scale(get_coordinates(centroid(parts))) if callable(scale) else scale
    return float((area(parts) / local**2).sum()) / 1e6


def compute_coverage(
    views: Mapping[int, GroundView],
    transects: Mapping[int, str | None],
    regions: Sequence[Region],
    spec: SurveySpec,
    scale: Scale,
) -> Coverage:
    """Intersect the footprints of the photos (by frame number) with the strata.

    A photo belongs to the stratum that contains its middle; its ground is cut at the stratum's border. A map belongs to
    every stratum that it shows. Ground that two transects show belongs to the first of them by name, so that neither
    area nor animals count twice. Areas are ground areas: `scale` removes the grid's scale.
    """
    outlines = Views(list(views.values())).footprints()
    shown = {number: outline for number, outline in zip(views, outlines, strict=True) if outline is not None}
    frames_by_region = _frames_by_region(
        shown, {number for number, view in views.items() if isinstance(view, Mosaic)}, regions
    )
    grounds = _FootprintUnions(shown, transects, frames_by_region)
    region_of: dict[int, str] = {}
    units: list[Unit] = []
    for row, (region, numbers) in enumerate(zip(regions, frames_by_region, strict=True)):
        members: dict[str, list[int]] = {}
        for number in numbers:
            region_of.setdefault(number, region.name)
            transect = "all" if spec.sampling == "total" else transects[number]
            if transect is not None:
                members.setdefault(transect, []).append(number)
        shapes = {name: grounds.for_region(row, None if spec.sampling == "total" else name) for name in members}
        units += _units(region, members, shapes, scale)
    return Coverage(shown, tuple(regions), tuple(units), ground_area_km2(grounds.whole(), scale), region_of)


class _FootprintUnions:
    """Cached unions of footprints. Each footprint is merged once, with those of its transect in the same regions."""

    def __init__(
        self,
        shown: Mapping[int, BaseGeometry],
        transects: Mapping[int, str | None],
        frames_by_region: Sequence[Sequence[int]],
    ) -> None:
        inside: dict[int, tuple[int, ...]] = dict.fromkeys(shown, ())
        for region, numbers in enumerate(frames_by_region):
            for number in numbers:
                inside[number] += (region,)
        members: dict[tuple[str | None, tuple[int, ...]], list[BaseGeometry]] = {}
        for number, outline in shown.items():
            members.setdefault((transects[number], inside[number]), []).append(outline)
        # GEOS releases the GIL.
        with ThreadPoolExecutor(_THREADS) as pool:
            self._unions = list(pool.map(union_all, members.values()))
        self._merged: dict[tuple[int, ...], BaseGeometry] = {(): Polygon()}
        self._parts: dict[tuple[int, str | None], list[int]] = {}
        for part, (transect, regions) in enumerate(members):
            for region in regions:
                for name in {transect, None}:
                    self._parts.setdefault((region, name), []).append(part)

    def for_region(self, region: int, transect: str | None) -> BaseGeometry:
        """The ground that the frames of a region show: those of one transect, or all of them (None)."""
        return self._together(tuple(self._parts[region, transect]))

    def whole(self) -> BaseGeometry:
        """The ground that all frames show."""
        return self._together(tuple(range(len(self._unions))))

    def _together(self, parts: tuple[int, ...]) -> BaseGeometry:
        if parts not in self._merged:
            self._merged[parts] = disjoint_subset_union_all([self._unions[part] for part in parts])
        return self._merged[parts]


def _frames_by_region(shown: Mapping[int, BaseGeometry], maps: set[int], regions: Sequence[Region]) -> list[list[int]]:
    """The frames of each region; a photo is in the first that contains its middle."""
    numbers = np.array(list(shown), np.int64)
    middles = get_coordinates(centroid(np.array(list(shown.values()), object))) if shown else np.empty((0, 2))
    free = np.ones(len(numbers), bool)
    frames_by_region = []
    for region in regions:
        inside = region.contains(middles) & free
        mine = numbers[inside].tolist()
        free &= ~inside | np.isin(numbers, list(maps))
        if region.polygon is not None:
            mine += [number for number in sorted(maps - set(mine)) if shown[number].intersects(region.polygon)]
        frames_by_region.append(mine)
    return frames_by_region


def _units(
    region: Region, members: Mapping[str, list[int]], grounds: Mapping[str, BaseGeometry], scale: Scale
) -> list[Unit]:
    names = sorted(members)
    shapes = np.array([grounds[name] for name in names], object)
    if region.polygon is not None:
        shapes = intersection(shapes, region.polygon)
    before: list[list[int]] = [[] for _ in names]
    for later, earlier in STRtree(shapes).query(shapes, predicate="intersects").T.tolist():
        if earlier < later:
            before[later].append(earlier)
    units: dict[int, Unit] = {}
    # A repeated transect belongs to the unit that it repeats.
    unit_of: dict[int, int] = {}
    for row, name in enumerate(names):
        ground = shapes[row]
        near = sorted({unit_of[earlier] for earlier in before[row] if earlier in unit_of})
        for unit in near:
            ground = ground.difference(units[unit].polygon)
        frames = tuple(sorted(members[name]))
        if near and ground.area < _LEAST_NEW * shapes[row].area:
            first = max(near, key=lambda unit: units[unit].polygon.intersection(shapes[row]).area)
            units[first] = _extended(units[first], ground, scale, frames, name)
            unit_of[row] = first
        elif (found_km2 := ground_area_km2(ground, scale)) > _NO_AREA_KM2:
            units[row] = Unit(stratum=region.name, transect=name, polygon=ground, area_km2=found_km2, frames=frames)
            unit_of[row] = row
    return list(units.values())


def _extended(unit: Unit, ground: BaseGeometry, scale: Scale, frames: tuple[int, ...], name: str) -> Unit:
    """The unit extended by the new ground of a transect that repeats it: slivers from a slightly different track."""
    polygon = unit.polygon.union(ground)
    return replace(
        unit,
        polygon=polygon,
        area_km2=ground_area_km2(polygon, scale),
        frames=tuple(sorted((*unit.frames, *frames))),
        repeats=(*unit.repeats, name),
    )


def check_against_strata(coverage: Coverage, spec: SurveySpec) -> None:
    """Raise SurveyError where the sampled ground exceeds a stratum: then its area or the positions are wrong."""
    for region in coverage.regions:
        units = [unit for unit in coverage.units if unit.stratum == region.name]
        sampled = sum(unit.area_km2 for unit in units)
        if sampled > region.area_km2 * (1 + _AREA_TOLERANCE):
            if spec.sampling == "total":
                raise SurveyError(
                    f"The photos cover {sampled:.4g} km2, more than the {region.area_km2:.4g} km2 of stratum "
                    f"{region.name}, so some of the animals are not in it; give its polygon, or correct area_km2."
                )
            raise SurveyError(
                f"The transects in stratum {region.name} cover {sampled:.4g} km2, more than its "
                f"{region.area_km2:.4g} km2; correct area_km2, or the heights and positions of the photos."
            )
        possible = region.transects_possible
        if spec.sampling == "strip" and possible is not None and possible < len(units):
            raise SurveyError(
                f"Stratum {region.name} says transects_possible {possible:g}, "
                f"but {len(units)} were flown; correct it in survey.yaml."
            )


def assign_to_units(xy: FloatArray, coverage: Coverage, reach_m: float) -> NDArray[np.int64]:
    """For each position (n, 2) the number of its unit in `coverage.units`, -1 outside every one.

    A position in a stratum but just outside its units (it is a mean over photos) goes to the nearest one within
    `reach_m`.
    """
    unit = np.full(len(xy), -1, np.int64)
    for region in coverage.regions:
        numbers = np.array([row for row, one in enumerate(coverage.units) if one.stratum == region.name], np.int64)
        mine = [coverage.units[number] for number in numbers]
        inside = np.flatnonzero(region.contains(xy))
        row = nearest_polygon(
            xy[inside],
            np.array([one.polygon for one in mine], object),
            np.array([coverage.footprints[frame] for one in mine for frame in one.frames], object),
            np.repeat(np.arange(len(mine)), [len(one.frames) for one in mine]),
            reach_m,
        )
        unit[inside[row >= 0]] = numbers[row[row >= 0]]
    return unit
