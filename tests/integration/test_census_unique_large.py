"""The reach of matching on a survey of 100,000 boxes: small surveys would not show an animal that it misses."""

import math

import numpy as np
from benchmarks.simulated_survey import GPS_ERROR_M, SPECIES, YAW_ERROR_DEG, SimulatedSurvey, simulate_survey

from transect.census.ground.poses import project_to_grid
from transect.census.inputs.config import CensusConfig
from transect.census.sightings.matching import Matching, Sightings, matching_reach, unique_animals
from transect.census.sightings.multiplicity import FootprintIndex
from transect.census.sightings.observations import observe


def located(flown: SimulatedSurvey) -> Sightings:
    """The boxes of a survey where its photos put them, with the errors that it was flown with."""
    _, frames, poses = project_to_grid(flown.frames)
    times = [frame.taken_at for frame in frames]
    start = min(time for time in times if time is not None)
    seconds = np.array([math.nan if time is None else (time - start).total_seconds() for time in times])
    # What else shows a place does not matter here.
    ground = FootprintIndex(
        [None] * len(frames), np.zeros((len(frames), 2)), seconds, window_s=CensusConfig().time_window_s
    )
    seen = observe(flown.found, poses, {name: number for number, name in enumerate(SPECIES)}, ground)
    rows = np.flatnonzero(seen.placed & seen.inside)
    own = np.hypot(seen.yaw_arm_m[rows] * math.radians(YAW_ERROR_DEG), seen.box_sd[rows])
    frame = seen.frame[rows]
    return Sightings(
        xy=seen.xy[rows],
        species=seen.species[rows],
        frame=frame,
        shared_sd=np.full(len(rows), GPS_ERROR_M),
        own_sd=own,
        seconds=seconds[frame],
    )


def test_four_times_the_reach_finds_the_same_animals_in_100000_boxes() -> None:
    seen = located(simulate_survey(10_016))
    assert len(seen.frame) > 95_000
    # So tight that many shifts come near to the tolerance: a reach of the tolerance itself misses animals here.
    matching = Matching(sigmas=1.0, speed_m_s=0.0)
    found = unique_animals(seen, matching)
    farther = unique_animals(seen, matching, reach_m=4 * matching_reach(seen, matching))
    assert int((found != farther).sum()) == 0


def test_four_times_the_reach_of_a_census_finds_the_same_animals() -> None:
    seen, config = located(simulate_survey(1_000, seed=2)), CensusConfig()
    matching = Matching(config.match_sigmas, config.time_window_s, config.animal_speed_m_s)
    farther = unique_animals(seen, matching, reach_m=4 * matching_reach(seen, matching))
    assert (unique_animals(seen, matching) == farther).all()
