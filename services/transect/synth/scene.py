"""Render a scene: ground, cover and animals under a nadir camera, with a box around each animal."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from transect.synth.animals.species import Animal
from transect.synth.animals.sprites import draw_sprite
from transect.synth.camera.light import Light, Optics, develop, illuminate, shadow_reach_m, sun_view
from transect.synth.drawing.canvas import Canvas
from transect.synth.drawing.noise import Field
from transect.synth.drawing.view import View
from transect.synth.land.canopy import paint_canopy
from transect.synth.land.cover import Cover, CoverObject, place_cover
from transect.synth.land.ground import Ground, paint_ground
from transect.synth.land.litter import paint_litter

_MIN_VISIBLE = 0.25
_MAX_MARGIN_PX = 160


@dataclass(frozen=True)
class Scene:
    """Everything but the camera; `seed` fixes the ground's textures and where cover stands."""

    seed: int
    ground: Ground
    cover: Cover
    light: Light
    animals: tuple[Animal, ...]


@dataclass(frozen=True, kw_only=True)
class Box:
    """The visible part of an animal, in pixels of the picture (x1, y1, x2, y2)."""

    animal: Animal
    x1: float
    y1: float
    x2: float
    y2: float
    visible: float
    """Visible share of the animal, the part outside of the picture counted as hidden."""


@dataclass(frozen=True)
class Picture:
    """8-bit RGB pixels, and the boxes of the animals that are visible enough to be labelled."""

    pixels: NDArray[np.uint8]
    boxes: tuple[Box, ...]


def render(scene: Scene, view: View, optics: Optics, camera_seed: int) -> Picture:
    """Render the picture. The scene determines the content, `camera_seed` the sensor noise."""
    radiance, boxes = expose(scene, view)
    return Picture(develop(radiance, optics, np.random.default_rng((camera_seed, 5))), boxes)


def expose(scene: Scene, view: View) -> tuple[NDArray[np.float32], tuple[Box, ...]]:
    """Linear radiance of the view, and the boxes of its animals."""
    left, top, right, bottom = _margins(scene, view)
    wide = view.part(-left, -top, left + view.width + right, top + view.height + bottom)
    albedo, relief = paint_ground(scene.ground, wide, scene.seed)
    canvas = Canvas(albedo, np.zeros_like(relief), relief)
    reach = scene.cover.bush_radius[1] * 1.3
    near = [animal for animal in scene.animals if _near(animal, wide, reach)]
    things = _cleared(place_cover(scene.cover, wide, scene.seed, reach), near)
    paint_litter(scene.cover, things, canvas, wide)
    alphas = _draw_animals(near, canvas, wide)
    hidden = paint_canopy(scene.cover, things, canvas, wide, scene.seed)
    radiance = illuminate(canvas.albedo, canvas.z, canvas.relief, scene.light, wide)
    boxes = [box for laid in alphas if (box := _box(laid, hidden, view, (left, top))) is not None]
    return np.ascontiguousarray(radiance[top : top + view.height, left : left + view.width]), tuple(boxes)


def _margins(scene: Scene, view: View) -> tuple[int, int, int, int]:
    """Pixels to paint beyond left, top, right and bottom: objects towards the sun cast shadows into the view."""
    tallest = max(1.5, scene.cover.bush_radius[1] * scene.cover.bush_height * 1.3 if scene.cover.bushes else 0.0)
    reach = min(shadow_reach_m(scene.light, tallest) / view.gsd, _MAX_MARGIN_PX)
    to_x, to_y = sun_view(scene.light, view)
    left, top, right, bottom = (int(np.ceil(reach * max(share, 0.0))) + 4 for share in (-to_x, -to_y, to_x, to_y))
    return left, top, right, bottom


def _near(animal: Animal, view: View, reach_m: float) -> bool:
    """Whether an animal is visible, or clears a plant that would be visible."""
    column, row = view.to_pixels(animal.x, animal.y)
    margin = (animal.length_m + reach_m) / view.gsd
    return -margin < column < view.width + margin and -margin < row < view.height + margin


def _cleared(things: list[CoverObject], animals: list[Animal]) -> list[CoverObject]:
    """Remove objects at an animal's position; plants may still hang over its edge."""
    if not animals or not things:
        return things
    places = np.array([(animal.x, animal.y) for animal in animals])
    lengths = np.array([animal.length_m for animal in animals])
    out = []
    for thing in things:
        distance = np.hypot(places[:, 0] - thing.x, places[:, 1] - thing.y)
        if thing.kind == "bush":
            # One plant in eight stays and may hide the animal.
            blocked = bool((distance < 0.85 * thing.size + lengths * (0.45 - 0.4 * thing.dice[3])).any())
            blocked = blocked and thing.dice[0] > 0.125
        else:
            blocked = thing.kind != "patch" and bool((distance < thing.size + 0.5 * lengths).any())
        if not blocked:
            out.append(thing)
    return out


@dataclass
class _DrawnAnimal:
    animal: Animal
    left: int
    top: int
    alpha: Field
    """Alpha within the canvas, later animals taken off."""
    area: float
    """Sum of alpha of the whole animal, outside of the canvas too."""


def _draw_animals(animals: list[Animal], canvas: Canvas, view: View) -> list[_DrawnAnimal]:
    out: list[_DrawnAnimal] = []
    for animal in animals:
        sprite = draw_sprite(animal, view)
        kept = canvas.lay(sprite)
        if kept is None:
            continue
        out.append(_DrawnAnimal(animal, max(sprite.left, 0), max(sprite.top, 0), kept, float(sprite.alpha.sum())))
    return out


def _box(laid: _DrawnAnimal, hidden: Field, view: View, origin: tuple[int, int]) -> Box | None:
    """Box of the visible part, or None when it is too small; origin: the view's first pixel on the canvas."""
    rows, columns = laid.alpha.shape
    over = hidden[laid.top : laid.top + rows, laid.left : laid.left + columns]
    seen = laid.alpha * (1.0 - over)
    x0, y0 = laid.left - origin[0], laid.top - origin[1]
    left, top = max(-x0, 0), max(-y0, 0)
    seen = seen[top : max(view.height - y0, 0), left : max(view.width - x0, 0)]
    if seen.size == 0 or laid.area <= 0:
        return None
    share = float(seen.sum()) / laid.area
    if share < _MIN_VISIBLE:
        return None
    solid = (seen > 0.4).astype(np.uint8)
    if over.any() and rows > 60:  # single pixels between leaves do not stretch the box
        solid = cv2.morphologyEx(solid, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(np.uint8)
    filled_rows, filled_columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    if filled_rows.size < 2 or filled_columns.size < 2:
        return None
    x0, y0 = max(x0, 0), max(y0, 0)
    return Box(
        animal=laid.animal,
        x1=float(x0 + filled_columns[0]),
        y1=float(y0 + filled_rows[0]),
        x2=float(x0 + filled_columns[-1] + 1),
        y2=float(y0 + filled_rows[-1] + 1),
        visible=share,
    )
