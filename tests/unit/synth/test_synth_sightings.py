from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from transect.synth import SurveyDesign, SurveyPlan, perfect_sightings, plan_survey
from transect.synth.animals.motion import Tracks
from transect.synth.scene import expose


@pytest.fixture(scope="module")
def plan() -> SurveyPlan:
    return plan_survey(
        SurveyDesign(frames=30, seed=6, overlap=0.8, side_overlap=0.6, passes=2, break_s=120.0, animal_speed_m_s=1.0)
    )


@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_they_are_the_animals_whose_middle_lies_in_the_frame_at_its_time(speed: float) -> None:
    plan = plan_survey(SurveyDesign(frames=12, seed=2, overlap=0.6, side_overlap=0.3, animal_speed_m_s=speed))
    found = perfect_sightings(plan)
    rows = zip(found.frame.tolist(), found.animal.tolist(), found.middle_px.tolist(), strict=True)
    expected = []
    for number, shot in enumerate(plan.flight.shots):
        view = plan.flight.camera.view(shot.true)
        for index, animal in enumerate(plan.scene_of(shot).animals):
            if view.contains(animal.x, animal.y):
                expected.append((number, index, list(view.to_pixels(animal.x, animal.y))))
    assert list(rows) == expected
    assert len(expected) > 50
    assert found.species.tolist() == [plan.scene.animals[index].species for _, index, _ in expected]
    assert found.photographed().tolist() == sorted({index for _, index, _ in expected})


def test_seconds_are_those_of_the_clock(plan: SurveyPlan) -> None:
    found = perfect_sightings(plan)
    shots = plan.flight.shots
    assert found.seconds.shape == (len(shots),) == (60,)
    assert found.seconds.tolist() == [(shot.taken_at - shots[0].taken_at).total_seconds() for shot in shots]
    assert found.frame.max() < len(shots)


def test_walkers_are_elsewhere_when_the_line_is_flown_again(plan: SurveyPlan) -> None:
    first, again = plan.flight.shots[0], plan.flight.shots[30]
    assert (first.transect, again.transect) == ("T01", "T01-2")
    before, after = plan.scene_of(first).animals, plan.scene_of(again).animals
    assert before == plan.scene.animals
    ways = [np.hypot(b.x - a.x, b.y - a.y) for a, b in zip(before, after, strict=True)]
    assert max(ways) > 30
    assert min(ways) == 0


def test_boxes_are_in_the_picture_and_around_the_middle(plan: SurveyPlan) -> None:
    found, camera = perfect_sightings(plan), plan.flight.camera
    x1, y1, x2, y2 = found.box_px.T
    column, row = found.middle_px.T
    assert (x1 >= 0).all()
    assert (y1 >= 0).all()
    assert (x2 <= camera.width).all()
    assert (y2 <= camera.height).all()
    assert ((x1 < column) & (column < x2) & (y1 < row) & (row < y2)).all()
    whole = (x1 > 0) & (y1 > 0) & (x2 < camera.width) & (y2 < camera.height)
    assert np.stack([(x1 + x2) / 2, (y1 + y2) / 2], axis=1)[whole] == pytest.approx(found.middle_px[whole])


def test_boxes_are_near_those_of_the_pictures(plan: SurveyPlan) -> None:
    """The picture of a frame late in the survey shows its animals where the sightings say that they are by then."""
    found = perfect_sightings(plan)
    number = 30 + int(np.argmax(np.bincount(found.frame, minlength=60)[30:]))
    shot = plan.flight.shots[number]
    scene = plan.scene_of(shot)
    boxes = {id(box.animal): box for box in expose(scene, plan.flight.camera.view(shot.true))[1]}
    likeness = []
    for row in np.flatnonzero(found.frame == number):
        box = boxes.get(id(scene.animals[found.animal[row]]))
        if box is not None and box.visible > 0.95:
            likeness.append(_iou(found.box_px[row], np.array([box.x1, box.y1, box.x2, box.y2])))
    assert len(likeness) >= 5
    assert np.median(likeness) > 0.65


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    both = float(np.prod(sides))
    return both / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - both)


def test_a_land_without_animals_has_no_sightings(plan: SurveyPlan) -> None:
    empty = replace(plan, scene=replace(plan.scene, animals=()), tracks=Tracks.of((), 10.0, 10.0))
    found = perfect_sightings(empty)
    assert found.frame.shape == (0,)
    assert found.box_px.shape == (0, 4)
    assert found.middle_px.shape == (0, 2)
