from dataclasses import replace

import numpy as np
import pytest

from transect.synth.animals.species import SPECIES, Animal, draw_animal
from transect.synth.camera.light import Light, Optics
from transect.synth.domains import wide_tile
from transect.synth.drawing.view import View
from transect.synth.land.cover import Cover
from transect.synth.land.ground import Ground
from transect.synth.savanna import survey_cover, survey_ground, survey_light
from transect.synth.scene import Scene, expose, render

NO_SUN = Light(0.0, 90.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
NOON = Light(90.0, 40.0, (0.8, 0.8, 0.8), (0.2, 0.2, 0.2))
VIEW = View(x=100.0, y=50.0, gsd=0.05, yaw_deg=20.0, width=160, height=120)


def plain_ground() -> Ground:
    return replace(survey_ground(), grain=0.0, tuft_share=-2.0, patch_share=-2.0, bump_m=0.0)


def one(species: int, view: View, dx_m: float = 0.0, dy_m: float = 0.0, seed: int = 1) -> Animal:
    rng = np.random.default_rng(seed)
    animal = draw_animal(rng, species, view.x + dx_m, view.y + dy_m, 75.0)
    coat = (
        replace(animal.appearance.coat, colour=(0.6, 0.6, 0.6), face=(0.6, 0.6, 0.6))
        if species == 0
        else animal.appearance.coat
    )
    appearance = replace(animal.appearance, lying=False, bend=0.0, head_turn=0.0, coat=coat)
    return replace(animal, length_m=SPECIES[species].length_m, appearance=appearance)


def shown(*animals: Animal, light: Light = NO_SUN, cover: Cover | None = None, ground: Ground | None = None) -> Scene:
    return Scene(3, ground or plain_ground(), cover or Cover(), light, animals)


@pytest.mark.parametrize("species", range(3))
@pytest.mark.parametrize("gsd", [0.012, 0.05, 0.11])
def test_the_box_is_the_animal(species: int, gsd: float) -> None:
    """A box holds the pixels that differ from the empty scene, and no others."""
    view = replace(VIEW, gsd=gsd, width=320, height=320)
    animal = one(species, view)
    image, boxes = expose(shown(animal), view)
    empty, none = expose(shown(), view)
    assert none == ()
    (box,) = boxes
    # Without a sun there is no shadow, but beside an animal the ground loses up to half of its light.
    changed = np.logical_or(image > 1.15 * empty, image < 0.45 * empty).max(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    slack = 2 + 0.06 * animal.length_m / gsd
    assert abs(box.x1 - columns[0]) <= slack
    assert abs(box.x2 - columns[-1]) <= slack
    assert abs(box.y1 - rows[0]) <= slack
    assert abs(box.y2 - rows[-1]) <= slack
    column, row = view.to_pixels(animal.x, animal.y)
    length_px = animal.length_m / gsd
    assert np.hypot((box.x1 + box.x2) / 2 - column, (box.y1 + box.y2) / 2 - row) < 0.15 * length_px
    assert 0.8 * length_px < np.hypot(box.x2 - box.x1, box.y2 - box.y1) < 1.35 * length_px
    assert box.visible == pytest.approx(1.0, abs=0.02)


def test_an_animal_cut_by_the_edge_has_a_cut_box_or_none() -> None:
    view = replace(VIEW, yaw_deg=0.0)
    half = view.width * view.gsd / 2
    (cut,) = expose(shown(one(1, view, dx_m=half - 0.3)), view)[1]
    assert cut.x2 == view.width
    assert cut.visible < 0.8
    assert expose(shown(one(1, view, dx_m=half + 0.9)), view)[1] == ()


def test_shadows_fall_away_from_the_sun() -> None:
    view = replace(VIEW, yaw_deg=0.0)
    animal = one(1, view)
    image, boxes = expose(shown(animal, light=NOON), view)
    empty, _ = expose(shown(light=NOON), view)
    darker = empty.sum(axis=2) - image.sum(axis=2) > 0.3 * empty.sum(axis=2)
    row = int(view.height / 2)
    (box,) = boxes
    assert darker[row, int(box.x1) - 8]  # the sun stands in the east
    assert not darker[row, int(box.x2) + 8]


def test_a_hidden_animal_has_no_box() -> None:
    bush = Cover(bushes=30000.0, bush_radius=(1.5, 2.0), open_leaf=0.0, clumped=0.0)
    animals = [one(0, VIEW, dx, dy, seed=int(20 + 7 * dx + dy)) for dx in (-2, 0, 2) for dy in (-2, 0, 2)]
    boxes = expose(shown(*animals, cover=bush), VIEW)[1]
    assert len(boxes) < 9
    assert all(0.25 <= box.visible <= 1 for box in boxes)


@pytest.mark.parametrize("yaw", [0.0, 182.0])
def test_overlapping_views_show_the_same_ground(yaw: float) -> None:
    """The second view is 15 m further on; what both show is the same, pixel by pixel."""
    light = survey_light(np.random.default_rng(1))
    animals = tuple(one(species, VIEW, 3.0 * species, 14.0) for species in range(3))
    scene = Scene(11, survey_ground(), survey_cover(), light, animals)
    first = View(x=100.0, y=50.0, gsd=0.05, yaw_deg=yaw, width=480, height=600)
    step = 300
    second = first.part(0, -step, 480, 600)
    a, b = expose(scene, first)[0], expose(scene, second)[0]
    both_a, both_b = a[: 600 - step], b[step:]
    assert np.corrcoef(both_a.ravel(), both_b.ravel())[0, 1] > 0.995
    assert float(np.median(np.abs(both_a - both_b))) < 0.002


def test_the_camera_changes_pixels_and_not_boxes() -> None:
    scene = shown(one(2, VIEW), light=NOON)
    dark, bright = (render(scene, VIEW, Optics(exposure=e), 1) for e in (1.0, 0.1))
    assert dark.boxes == bright.boxes
    assert dark.pixels.mean() < 0.6 * bright.pixels.mean()
    assert dark.pixels.dtype == np.uint8


def test_zebras_are_striped_and_buffalo_dark() -> None:
    view = replace(VIEW, gsd=0.05, width=160, height=160)
    inside = {}
    for species in range(3):
        image, (box,) = expose(shown(one(species, view)), view)
        column, row = int((box.x1 + box.x2) / 2), int((box.y1 + box.y2) / 2)
        inside[species] = image[row - 4 : row + 5, column - 4 : column + 5].mean(axis=2)
    assert inside[1].mean() < 0.12
    assert inside[2].std() > 2 * inside[0].std()
    assert inside[2].std() > 2 * inside[1].std()


@pytest.mark.parametrize("index", range(6))
def test_wide_tiles_are_finite_and_lit(index: int) -> None:
    scene, view, optics = wide_tile(np.random.default_rng(index), 160, (index * 500.0, 0.0), 7)
    picture = render(scene, view, optics, index)
    assert picture.pixels.shape == (160, 160, 3)
    assert picture.pixels.std() > 0.5
    assert all(0 <= box.x1 < box.x2 <= 160 and 0 <= box.y1 < box.y2 <= 160 for box in picture.boxes)
