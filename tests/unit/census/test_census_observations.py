import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from transect.census import CensusConfig
from transect.census.ground.geometry import Pose, footprint, ground_to_pixel
from transect.census.sightings.animals import count_unique
from transect.census.sightings.found import FrameDetections
from transect.census.sightings.multiplicity import FootprintIndex
from transect.census.sightings.observations import Observations, observe, typical_sizes

SPECIES = {"sheep": 0, "lamb": 0, "zebra": 1}
WIDTH, HEIGHT, GSD = 1920, 1440, 0.05


def found(boxes: Sequence[Sequence[float]], classes: Sequence[str] | None = None) -> FrameDetections:
    count = len(boxes)
    names = tuple(classes) if classes is not None else ("sheep",) * count
    array = np.array(boxes, np.float64).reshape(-1, 4)
    return FrameDetections(
        sha256="",
        width=WIDTH,
        height=HEIGHT,
        boxes=array,
        scores=np.full(count, 0.9),
        classes=names,
        tiles=1,
        truncated=False,
    )


def pose(x: float = 0.0, y: float = 0.0, yaw: float = 0.0) -> Pose:
    return Pose(x=x, y=y, yaw_deg=yaw, height_m=64.0, metres_per_pixel=GSD, width=WIDTH, height=HEIGHT)


def ground(poses: Sequence[Pose | None], seconds: Sequence[float] | None = None) -> FootprintIndex:
    shapes = [None if one is None else footprint(one) for one in poses]
    middles = np.array([(math.nan, math.nan) if one is None else (one.x, one.y) for one in poses])
    return FootprintIndex(shapes, middles, np.array(seconds or [0.0] * len(poses)), window_s=60)


def observed(frames: Sequence[FrameDetections], poses: Sequence[Pose | None]) -> Observations:
    return observe(frames, poses, SPECIES, ground(poses))


def test_middle_of_the_photo_is_below_the_camera() -> None:
    seen = observed([found([[940, 700, 980, 740]])], [pose(500_000, 9_000_000)])
    assert seen.xy[0] == pytest.approx([500_000, 9_000_000])
    assert seen.inside.all()
    assert not seen.cut.any()


def test_classes_are_reported_as_mapped_and_others_are_left_out() -> None:
    boxes = [[10 + 50 * i, 100, 40 + 50 * i, 130] for i in range(4)]
    seen = observed([found(boxes, ["zebra", "tent", "lamb", "sheep"])], [pose()])
    assert seen.species.tolist() == [1, 0, 0]
    assert seen.class_name == ["zebra", "lamb", "sheep"]


def test_boxes_without_a_position_are_kept_apart() -> None:
    seen = observed([found([[10, 10, 40, 40]]), found([[900, 700, 930, 730]])], [None, pose()])
    assert seen.placed.tolist() == [False, True]
    assert np.isnan(seen.xy[0]).all()
    counted = count_unique(seen, ground([None, pose()]), CensusConfig())
    assert counted.animal_of.tolist() == [-1, 0]
    assert len(counted.animals.species) == 1


def test_a_survey_without_a_box_has_no_animal() -> None:
    seen = observed([found([]), found([])], [pose(), None])
    counted = count_unique(seen, ground([pose(), None]), CensusConfig())
    assert len(seen) == len(counted.animal_of) == len(counted.animals.species) == 0
    assert counted.animals.xy.shape == (0, 2)


def test_error_grows_with_the_distance_from_the_middle() -> None:
    seen = observed([found([[945, 705, 975, 735], [1800, 1300, 1830, 1330]])], [pose()])
    # A degree of heading, and a metre of height, move a place by its distance from the middle.
    distance = np.hypot(*seen.xy.T)
    assert seen.yaw_arm_m == pytest.approx(distance)
    assert seen.height_arm == pytest.approx(distance / 64.0)
    assert np.isnan(seen.reported_sd_m).all()


def body(middle: NDArray[np.float64], heading: float, length: float, width: float) -> list[float]:
    """The box in pixels around an ellipse on the ground, cut by the photo's edges."""
    long, short = length / 2 / GSD, width / 2 / GSD
    half_x = math.hypot(long * math.sin(heading), short * math.cos(heading))
    half_y = math.hypot(long * math.cos(heading), short * math.sin(heading))
    x, y = float(middle[0]), float(middle[1])
    return [max(x - half_x, 0), max(y - half_y, 0), min(x + half_x, WIDTH), min(y + half_y, HEIGHT)]


def test_a_cut_animal_counts_where_its_middle_lies() -> None:
    rng = np.random.default_rng(3)
    whole = [body(rng.uniform(200, 1200, 2), rng.uniform(0, 2 * np.pi), 2.4, 0.9) for _ in range(40)]
    for offset, counts in ((0.5, True), (0.2, True), (-0.2, False), (-0.5, False)):
        for heading in (0.0, 0.6, 1.5):
            cut = body(np.array([offset / GSD, 700.0]), heading, 2.4, 0.9)
            seen = observed([found([*whole, cut])], [pose()])
            if cut[0] == 0:
                assert seen.cut[-1]
                # For a heading across the edge the middle comes out well; for one along it the slice is narrow.
                assert bool(seen.inside[-1]) is counts
            else:
                assert seen.inside[-1]


def test_animals_at_the_edges_do_not_bias_the_count() -> None:
    """Animals on a plane, seen when a quarter of the body is in the photo: the count fits the footprint."""
    rng = np.random.default_rng(0)
    true = counted = boxes = 0
    for _ in range(40):
        places = rng.uniform([-100, -100], [WIDTH + 100, HEIGHT + 100], (400, 2))
        true += int(((places >= 0) & (places <= [WIDTH, HEIGHT])).all(axis=1).sum())
        shown = []
        for place in places:
            length = rng.normal(2.4, 0.25)
            heading = rng.uniform(0, 2 * np.pi)
            box = body(place, heading, length, length * 0.37)
            full = body(np.array([960.0, 720.0]), heading, length, length * 0.37)
            area = max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
            if area > 0.25 * (full[2] - full[0]) * (full[3] - full[1]):
                shown.append(box)
        seen = observed([found(shown)], [pose()])
        counted += int(seen.inside.sum())
        boxes += len(shown)
    assert boxes > 1.01 * true
    assert counted == pytest.approx(true, rel=0.003)


def test_one_animal_in_two_turned_photos_is_one() -> None:
    place = np.array([[5.0, 30.0]])
    poses = [pose(0, 0, 0), pose(0, 54, 180)]
    frames = []
    for one in poses:
        x, y = ground_to_pixel(place, one)[0]
        frames.append(found([[x - 12, y - 10, x + 12, y + 10]]))
    counted = count_unique(observed(frames, poses), ground(poses), CensusConfig())
    assert counted.animal_of.tolist() == [0, 0]
    assert counted.animals.xy[0] == pytest.approx(place[0], abs=1e-6)
    assert counted.animals.sightings.tolist() == [2]


def test_typical_sizes_of_other_boxes_complete_one_that_is_cut() -> None:
    photo = [pose()]
    # A whole animal of 40 by 30 px, and of a smaller box only the half inside the photo.
    whole = observed([found([[900, 700, 940, 730], [100, 100, 130, 110]], ["sheep", "zebra"])], photo)
    sizes = typical_sizes(whole, photo, 3)
    assert sizes[:2] == pytest.approx([50 * GSD, math.hypot(30, 10) * GSD])
    assert np.isnan(sizes[2])
    cut = [found([[0, 500, 10, 530]])]
    alone, informed = observed(cut, photo), observe(cut, photo, SPECIES, ground(photo), sizes)
    assert alone.cut.all()
    assert informed.cut.all()
    # Of an animal of 40 px across, 10 px are inside: its middle is outside.
    assert alone.inside.all()
    assert not informed.inside.any()
    unknown = observe(cut, photo, SPECIES, ground(photo), np.full(3, np.nan))
    assert unknown.box_sd.tolist() == alone.box_sd.tolist()


def test_a_species_without_a_placed_box_has_no_typical_size() -> None:
    seen = observed([found([[10, 10, 40, 40]])], [None])
    assert np.isnan(typical_sizes(seen, [None], 2)).all()
