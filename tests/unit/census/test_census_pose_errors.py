import math

import numpy as np
import pytest

from transect.census.sightings.matching import Matching
from transect.census.sightings.pose_errors import USUAL_GPS_M, USUAL_YAW_DEG, GroundDetections, pose_errors

MATCHING = Matching()


def flown(gps_m: float, yaw_deg: float, *, photos: int = 120, animals: int = 12, seed: int = 1) -> GroundDetections:
    """A line of photos 96 m by 72 m, each 20 m on, over standing animals; positions and headings are off."""
    rng = np.random.default_rng(seed)
    length = photos * 20.0
    places = rng.uniform([-40, -48], [length + 40, 48], (int(animals * (length + 80) / 72), 2))
    shift, turn = rng.normal(0, gps_m, (photos, 2)), np.radians(rng.normal(0, yaw_deg, photos))
    frame, xy, yaw_arm_m = [], [], []
    for number in range(photos):
        away = places - [number * 20.0, 0.0]
        away = away[(np.abs(away[:, 0]) < 36) & (np.abs(away[:, 1]) < 48)]
        cos, sin = math.cos(turn[number]), math.sin(turn[number])
        turned = away @ np.array([[cos, sin], [-sin, cos]])
        xy.append(turned + [number * 20.0, 0.0] + shift[number] + rng.normal(0, 0.1, away.shape))
        yaw_arm_m.append(np.hypot(*away.T))
        frame.append(np.full(len(away), number))
    frames, levers = np.concatenate(frame), np.concatenate(yaw_arm_m)
    count = len(frames)
    return GroundDetections(
        xy=np.concatenate(xy),
        species=np.zeros(count, np.int64),
        frame=frames,
        seconds=frames * 1.5,
        yaw_arm_m=levers,
        height_arm=levers / 64,
        reported_sd_m=np.full(count, np.nan),
        box_sd=np.full(count, 0.1),
    )


@pytest.mark.parametrize(("gps_m", "yaw_deg"), [(0.5, 1.0), (1.0, 3.0), (3.0, 0.5)])
def test_errors_are_found_in_the_survey_itself(gps_m: float, yaw_deg: float) -> None:
    found = pose_errors(flown(gps_m, yaw_deg), MATCHING, gps_m=None, yaw_deg=None, height_m=0.0)
    assert (found.gps, found.yaw) == ("estimated", "estimated")
    assert found.pairs >= 100
    assert found.gps_m == pytest.approx(gps_m, rel=0.25)
    assert found.yaw_deg == pytest.approx(yaw_deg, rel=0.25)


def test_what_is_given_is_used() -> None:
    found = pose_errors(flown(3.0, 0.5, photos=5), MATCHING, gps_m=0.7, yaw_deg=2.5, height_m=1.5)
    assert (found.gps_m, found.yaw_deg, found.height_m) == (0.7, 2.5, 1.5)
    assert (found.gps, found.yaw, found.pairs) == ("given", "given", 0)
    half = pose_errors(flown(3.0, 0.5), MATCHING, gps_m=0.7, yaw_deg=None, height_m=0.0)
    assert (half.gps, half.gps_m, half.yaw) == ("given", 0.7, "estimated")


def test_too_few_pairs_say_nothing_and_usual_errors_are_assumed() -> None:
    found = pose_errors(flown(3.0, 3.0, photos=4), MATCHING, gps_m=None, yaw_deg=None, height_m=0.0)
    assert (found.gps, found.gps_m) == ("assumed", USUAL_GPS_M)
    assert (found.yaw, found.yaw_deg) == ("assumed", USUAL_YAW_DEG)


def test_a_survey_without_a_box_says_nothing() -> None:
    some = flown(1.0, 1.0)
    nothing = GroundDetections(**{name: column[:0] for name, column in vars(some).items()})
    assert pose_errors(nothing, MATCHING, gps_m=None, yaw_deg=None, height_m=1.0).gps == "assumed"


def test_tolerance_follows_from_the_errors_and_from_what_a_photo_says_of_itself() -> None:
    boxes = flown(1.0, 1.0)
    boxes.reported_sd_m[:3] = 0.02
    errors = pose_errors(boxes, MATCHING, gps_m=2.0, yaw_deg=math.degrees(0.01), height_m=1.0)
    seen = boxes.sightings(errors)
    assert seen.shared_sd[:3].tolist() == [0.02] * 3
    assert set(seen.shared_sd[3:].tolist()) == {2.0}
    turning = boxes.yaw_arm_m * math.hypot(0.01, 1 / 64)
    assert seen.own_sd == pytest.approx(np.hypot(turning, 0.1))
