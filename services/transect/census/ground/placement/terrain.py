"""The terrain below the photos of a survey, without voids and faults of the DEM."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shapely import STRtree, points

from transect.arrays import FloatArray
from transect.census.ground.placement.clock import Clock, sortable
from transect.census.ground.placement.elevation import PhotoTerrain, Terrain, sample_terrain
from transect.census.ground.placement.frames import SourceFile
from transect.census.ground.placement.placing import position_of
from transect.census.ground.unplaced import UnplacedError
from transect.census.inputs.flights import FlightRow
from transect.census.inputs.survey import Survey
from transect.census.lonlat import middle_longitude

# The highest cliffs are about 1,200 m high, but no flight surveys both sides of one: terrain that differs from that of
# the other photos by more than this, and a slope of 45 degrees, is a void or a fault.
_CLIFF_M = 500.0
_FEWEST = 3
_DEGREE_M = 111_195.0


@dataclass(frozen=True)
class SurveyTerrain:
    """The terrain by photo, for those that need it, and sentences on how the DEM was read."""

    by_photo: Mapping[str, PhotoTerrain]
    notes: tuple[str, ...] = ()


def survey_terrain(survey: Survey, files: Sequence[SourceFile], clock: Clock) -> SurveyTerrain:
    """The terrain below each photo that has a position. Raises SurveyError where the DEM cannot be used."""
    rule = survey.spec.height
    if survey.dem_path is None:
        return SurveyTerrain({})
    known = []
    for file in files:
        if file.is_map or file.failure:
            continue
        # The loop over the frames reports the reason.
        with suppress(UnplacedError):
            known.append((file, position_of(file.metadata, file.row or FlightRow(line=0, image=""))))
    if not known:
        return SurveyTerrain({})
    places = np.array([(lon, lat) for _, (lat, lon) in known])
    if rule.altitude == "relative":
        first = min(known, key=lambda one: (sortable(clock.times.get(one[0].name)), one[0].name))[1]
        take_off = rule.take_off or (first[1], first[0])
        places = np.concatenate([places, [take_off]])
    terrain = _without_jumps(sample_terrain(survey.dem_path, places[:, 0], places[:, 1], rule), places)
    start, start_problem = None, ""
    if rule.altitude == "relative":
        start, start_problem = float(terrain.elevations_m[-1]), terrain.problems[-1]
    return SurveyTerrain(
        {
            file.name: PhotoTerrain(float(below), start, problem, start_problem)
            for (file, _), below, problem in zip(known, terrain.elevations_m, terrain.problems, strict=False)
        },
        terrain.notes,
    )


def _without_jumps(terrain: Terrain, places: FloatArray) -> Terrain:
    """The terrain without implausible jumps against most places (n, 2), in degrees."""
    elevations = terrain.elevations_m.copy()
    known = np.flatnonzero(np.isfinite(elevations))
    if len(known) < _FEWEST:
        return terrain
    usual = np.abs(elevations[known] - np.median(elevations[known])) <= _CLIFF_M
    if usual.all() or not usual.any():
        return terrain
    xy = _metres(places[known])
    tree = STRtree(points(xy[usual]))
    odd = np.flatnonzero(~usual)
    nearest, distance = tree.query_nearest(points(xy[odd]), return_distance=True, all_matches=False)
    problems = list(terrain.problems)
    for row, near, metres in zip(odd[nearest[0]], nearest[1], distance, strict=True):
        here, there = elevations[known[row]], elevations[known[usual]][near]
        if abs(here - there) > _CLIFF_M + metres:
            problems[known[row]] = (
                f"the DEM says {here:.5g} m at its position and {there:.5g} m only {metres:.4g} m away: a void that "
                "the file does not declare, or a fault; set its nodata value, with gdal_edit.py -a_nodata"
            )
    jumped = np.array([bool(problem) for problem in problems])
    elevations[jumped] = np.nan
    return Terrain(elevations, tuple(problems), terrain.notes)


def _metres(places: FloatArray) -> NDArray[np.float64]:
    """Positions in degrees on a local plane in metres, good to some percent around their middle."""
    middle = middle_longitude(places[:, 0])
    east = (places[:, 0] - middle + 180) % 360 - 180
    return np.column_stack([east * np.cos(np.radians(np.median(places[:, 1]))), places[:, 1]]) * _DEGREE_M
