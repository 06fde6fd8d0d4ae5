"""Animals counted once, from boxes on the ground; surveys of known truth come from the generator of sample surveys."""

import numpy as np
import pytest
from benchmarks.unique import Setting, outcome
from numpy.typing import NDArray
from shapely import box

from transect.census import CensusConfig
from transect.census.sightings.animals import UniqueCount, count_unique
from transect.census.sightings.multiplicity import FootprintIndex
from transect.census.sightings.observations import Observations

SIDE = 100.0


def counted(
    photos: list[tuple[float, float]], boxes: list[tuple[int, float]], *, counting: str = "matching"
) -> UniqueCount:
    """Photos (x, seconds) along a line, and boxes (photo, x) of one species."""
    frame, x = np.array([one for one, _ in boxes], np.int64), np.array([place for _, place in boxes])
    count = len(frame)
    ones: NDArray[np.float64] = np.ones(count)
    middles = np.array([(east, 0.0) for east, _ in photos])
    shapes = [box(east - SIDE / 2, -SIDE / 2, east + SIDE / 2, SIDE / 2) for east, _ in photos]
    ground = FootprintIndex(shapes, middles, np.array([seconds for _, seconds in photos]), window_s=20)
    xy = np.stack([x, x * 0], axis=-1)
    seen = Observations(
        frame=frame,
        species=frame * 0,
        class_code=frame * 0,
        class_names=("sheep",),
        score=np.linspace(0.3, 0.9, count),
        box=np.zeros((count, 4)),
        xy=xy,
        placed=ones > 0,
        cut=ones < 0,
        inside=ones > 0,
        yaw_arm_m=ones * 0,
        height_arm=ones * 0,
        reported_sd_m=ones * np.nan,
        box_sd=ones * 0.1,
        visits=ground.at(xy, frame).count,
    )
    config = CensusConfig.model_validate({"counting": counting, "gps_error_m": 0.5, "yaw_error_deg": 1})
    return count_unique(seen, ground, config)


def test_an_animal_in_two_photos_of_a_flight_is_one() -> None:
    found = counted([(0, 0), (50, 5)], [(0, 20), (1, 20.5), (1, 80)])
    assert found.animal_of.tolist() == [0, 0, 1]
    assert found.animals.sightings.tolist() == [2, 1]
    assert found.animals.score.tolist() == pytest.approx([0.6, 0.9])
    assert found.repeated == 0


def test_animals_are_never_matched_over_a_longer_time_and_the_ground_is_divided() -> None:
    # The same spot an hour later: it belongs to the first photo, whose middle is nearer.
    found = counted([(0, 0), (60, 3600)], [(0, 20), (1, 20)])
    assert found.animal_of.tolist() == [0, -1]
    assert found.repeated == 1
    # One that walked over the line is in both halves, and one that walked the other way in none.
    assert counted([(0, 0), (60, 3600)], [(0, 20), (1, 40)]).animal_of.tolist() == [0, 1]
    assert counted([(0, 0), (60, 3600)], [(0, 40), (1, 20)]).animal_of.tolist() == [-1, -1]


def test_an_animal_may_walk_as_far_as_its_speed_and_the_time_allow() -> None:
    assert counted([(0, 0), (50, 10)], [(0, 20), (1, 30)]).animals.sightings.tolist() == [2]
    assert counted([(0, 0), (50, 1)], [(0, 20), (1, 30)]).animals.sightings.tolist() == [1, 1]


def test_a_division_line_gives_every_place_to_the_nearest_photo() -> None:
    found = counted([(0, 0), (50, 5)], [(0, 20), (1, 20), (0, 30), (1, 30)], counting="division_line")
    assert found.animal_of.tolist() == [0, -1, -1, 1]
    assert found.repeated == 0


@pytest.mark.parametrize("counting", ["matching", "division_line"])
def test_no_box_is_no_animal(counting: str) -> None:
    found = counted([(0, 0)], [], counting=counting)
    assert len(found.animal_of) == len(found.animals.species) == 0


@pytest.mark.parametrize(("overlap", "gps_m"), [(0.6, 1.0), (0.8, 3.0)])
def test_walking_herds_are_counted_once_and_the_errors_of_position_are_found(overlap: float, gps_m: float) -> None:
    found = outcome(Setting("", overlap, gps_m, 1.0), seed=5)
    assert abs(found.errors["matching"]) < 0.015
    assert abs(found.errors["matching"]) < abs(found.errors["fixed distance"])
    assert found.gps_m == pytest.approx(gps_m, rel=0.25)
    assert found.yaw_deg == pytest.approx(2.0, abs=0.7)


def test_ground_flown_twice_is_counted_once() -> None:
    found = outcome(Setting("", 0.6, 1.0, 0.0, side_overlap=0.6, passes=2), seed=2)
    assert abs(found.errors["matching"]) < 0.05
    assert abs(found.errors["one look"]) < 0.05
