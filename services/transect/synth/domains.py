"""The domains of training pictures: the sample survey's savanna, or any ground, light and camera ("wide")."""

from dataclasses import replace
from typing import Literal

import numpy as np

from transect.synth.animals.herds import draw_herd
from transect.synth.animals.species import SPECIES, Animal
from transect.synth.camera.light import Light, Optics
from transect.synth.drawing.view import View
from transect.synth.land.biomes import draw_biome
from transect.synth.land.cover import Cover
from transect.synth.land.ground import Ground, luminance
from transect.synth.savanna import GSD, survey_cover, survey_ground, survey_light, survey_optics
from transect.synth.scene import Scene

Domain = Literal["survey", "wide"]


def survey_tile(
    rng: np.random.Generator, tile: int, place: tuple[float, float], world: int
) -> tuple[Scene, View, Optics]:
    """A tile as a census cuts it from a frame of the sample survey; `place` (metres) is its centre."""
    view = _view(place, GSD * float(rng.uniform(0.96, 1.05)), float(rng.uniform(0, 360)), tile)
    animals: list[Animal] = []
    if rng.random() < 0.6:
        for species in rng.permutation(len(SPECIES))[: int(rng.choice((1, 2, 3), p=(0.35, 0.40, 0.25)))]:
            size = int(np.clip(rng.negative_binomial(1.2, 0.2) + 1, 1, 14))
            animals += draw_herd(
                rng, int(species), size, _within(rng, view, 0.42), spacing=rng.uniform(1.4, 3.2), others=tuple(animals)
            )
    # A survey is mostly empty ground: for each animal it has several rocks and pieces of dead wood that look like
    # one. Tiles full of animals must have as many of them, or a model learns a threshold that is far too low.
    cover = survey_cover()
    more = float(rng.choice((4.0, 12.0, 24.0)))
    cover = replace(cover, rocks=cover.rocks * more, logs=cover.logs * more)
    scene = Scene(world, survey_ground(), cover, survey_light(rng), tuple(animals))
    return scene, view, survey_optics(rng)


def survey_background(
    rng: np.random.Generator, tile: int, place: tuple[float, float], world: int
) -> tuple[Scene, View, Optics]:
    """A tile of the sample survey's ground as it is, drawn at random, without an animal: with no more rocks and dead
    wood than a survey has, so that the false alarms on it are as many as on as much ground of a survey.
    """
    view = _view(place, GSD * float(rng.uniform(0.96, 1.05)), float(rng.uniform(0, 360)), tile)
    scene = Scene(world, survey_ground(), survey_cover(), survey_light(rng), ())
    return scene, view, survey_optics(rng)


def wide_tile(
    rng: np.random.Generator, tile: int, place: tuple[float, float], world: int
) -> tuple[Scene, View, Optics]:
    """A tile of any ground, light, season, height and camera."""
    species = int(rng.choice(3, p=(0.5, 0.26, 0.24)))
    # Length of the main species in the picture; few large ones fit a picture, so those are drawn more often.
    share = float(rng.random()) ** 0.7
    length_px = 14.0 * (240.0 / 14.0) ** share
    length_px = float(np.clip(length_px, 14, 0.75 * tile))
    gsd = SPECIES[species].length_m / length_px
    view = _view(place, gsd, float(rng.uniform(0, 360)), tile)
    ground, cover = draw_biome(rng, view)
    animals = _wide_animals(rng, species, view) if rng.random() < 0.8 else []
    light = _wide_light(rng)
    scene = Scene(world, ground, cover, light, tuple(animals))
    return scene, view, _wide_optics(rng, ground, cover, light)


def _view(place: tuple[float, float], gsd: float, yaw_deg: float, tile: int) -> View:
    return View(x=place[0], y=place[1], gsd=gsd, yaw_deg=yaw_deg, width=tile, height=tile)


def _within(rng: np.random.Generator, view: View, share: float) -> tuple[float, float]:
    column, row = rng.uniform(0.5 - share, 0.5 + share, 2) * (view.width, view.height)
    return view.to_ground(float(column), float(row))


def _wide_animals(rng: np.random.Generator, species: int, view: View) -> list[Animal]:
    length_px = SPECIES[species].length_m / view.gsd
    room = (view.width / length_px) ** 2 / 6
    most = int(np.clip(room, 1, 14))
    animals: list[Animal] = []
    for _ in range(int(rng.choice((1, 2, 3), p=(0.55, 0.3, 0.15)))):
        size = int(np.clip(rng.negative_binomial(1.1, 0.25) + 1, 1, most))
        # Large animals scatter less, or most of them would stand outside the picture.
        spacing = min(rng.uniform(1.2, 3.5), 0.55 * view.width / (length_px * np.sqrt(size)))
        animals += draw_herd(rng, species, size, _within(rng, view, 0.4), spacing=spacing, others=tuple(animals))
        if rng.random() < 0.3:
            species = int(rng.integers(3))
    return animals


def _wide_light(rng: np.random.Generator) -> Light:
    azimuth = float(rng.uniform(0, 360))
    if rng.random() < 0.3:  # overcast
        return Light(azimuth, 90.0, (0.0, 0.0, 0.0), (0.92, 0.96, 1.0))
    elevation = float(rng.uniform(14, 75))
    ambient = float(np.exp(rng.uniform(np.log(0.05), np.log(0.45))))
    warm = float(rng.uniform(0, 1)) * (1 - elevation / 100)
    sun = ((1 - ambient), (1 - ambient) * (1 - 0.1 * warm), (1 - ambient) * (1 - 0.3 * warm))
    blue = float(rng.uniform(1.0, 1.4))
    return Light(azimuth, elevation, sun, (ambient * 0.92, ambient, ambient * blue), float(rng.uniform(0.02, 0.15)))


def _wide_optics(rng: np.random.Generator, ground: Ground, cover: Cover, light: Light) -> Optics:
    """Expose for the ground, with an error of up to two stops, as in real frames."""
    share = float(np.clip(cover.bushes * cover.bush_radius[0] * cover.bush_radius[1] * 3.14 / 1e4, 0, 1))
    reflect = luminance(ground.base) * (1 - share) + luminance(cover.leaf) * share
    reflect = 0.7 * reflect + 0.3 * luminance(ground.patch)
    strength = luminance(light.sun) + luminance(light.sky)
    stops = float(np.clip(rng.normal(0.15, 0.7), -2.0, 1.3))
    if rng.random() < 0.10:
        stops -= rng.uniform(0.5, 1.5)
    cast = np.exp(rng.normal(0, 0.06, 3) + np.array([1, 0, -1]) * rng.normal(0, 0.07))
    return Optics(
        exposure=max(reflect * strength, 0.01) * float(2.0**-stops) * 0.9,
        white=(float(cast[0]), float(cast[1]), float(cast[2])),
        contrast=float(rng.uniform(-0.25, 0.50)),
        saturation=float(rng.uniform(0.45, 1.35)),
        haze=float(rng.uniform(0.05, 0.4)) if rng.random() < 0.12 else 0.0,
        vignette=float(rng.uniform(0, 0.4)),
        blur_px=float(rng.uniform(0, 1.1)) if rng.random() < 0.7 else float(rng.uniform(1.0, 2.2)),
        motion_px=float(rng.uniform(2, 6)) if rng.random() < 0.1 else 0.0,
        motion_deg=float(rng.uniform(0, 180)),
        sharpen=float(rng.uniform(0, 1.3)) if rng.random() < 0.6 else 0.0,
        noise=float(np.exp(rng.uniform(np.log(0.002), np.log(0.045)))),
        quality=int(rng.integers(45, 97)),
    )
