"""Biomes: random land of many kinds, for varied training pictures."""

from dataclasses import replace

import numpy as np

from transect.synth.drawing.view import View
from transect.synth.land.cover import Cover
from transect.synth.land.ground import Colour, Ground, rgb

_Biome = tuple[Ground, Cover]


def draw_biome(rng: np.random.Generator, view: View) -> tuple[Ground, Cover]:
    """A ground and its cover, with details at the resolution of `view`."""
    kind = int(rng.choice(len(_BIOMES), p=[weight for weight, _ in _BIOMES]))
    return _BIOMES[kind][1](rng, view)


def _vary(rng: np.random.Generator, colour: Colour, gain: float = 0.35, hue: float = 0.12) -> Colour:
    brightness = float(np.exp(rng.normal(0, gain)))
    red, green, blue = (float(np.clip(c * brightness * np.exp(rng.normal(0, hue)), 0.003, 0.95)) for c in colour)
    return red, green, blue


def _ground(
    rng: np.random.Generator, view: View, base: Colour, patch: Colour, tuft: Colour, **changes: object
) -> Ground:
    """A ground whose scales lie between the pixel and a few metres."""
    tuft_m = float(np.exp(rng.uniform(np.log(max(0.35 * view.gsd, 0.004)), np.log(max(0.12, 1.2 * view.gsd)))))
    ground = Ground(
        base=_vary(rng, base),
        patch=_vary(rng, patch),
        tuft=_vary(rng, tuft),
        patch_m=float(np.exp(rng.uniform(np.log(0.03), np.log(0.6)))),
        patch_share=float(rng.uniform(0.05, 0.8)),
        tuft_m=tuft_m,
        tuft_share=float(rng.uniform(0.05, 0.55)),
        tuft_sharp=float(rng.uniform(0, 0.9)),
        grain_m=float(view.gsd * rng.uniform(0.4, 1.3)),
        grain=float(rng.uniform(0.06, 0.50)),
        bump_m=float(view.gsd * rng.uniform(0.0, 0.6)),
        stretch=1.0 if rng.random() < 0.6 else float(rng.uniform(1.3, 3.5)),
        stretch_deg=float(rng.uniform(0, 180)),
    )
    return replace(ground, **changes)  # type: ignore[arg-type]  # fields of Ground, by name


def _cover_objects(rng: np.random.Generator, view: View, **changes: object) -> Cover:
    """Rocks, dead wood and dark patches of animal size, some tens a picture at most."""
    hectares = (view.width * view.gsd) ** 2 / 1e4
    length = float(np.exp(rng.uniform(np.log(8), np.log(150)))) * view.gsd

    def some(most: float, often: float) -> float:
        return float(rng.exponential(most) / hectares) if rng.random() < often else 0.0

    stone = rgb(178, 172, 164) if rng.random() < 0.7 else rgb(104, 96, 88)
    cover = Cover(
        bushes=0.0,
        rocks=some(6, 0.45),
        rock_length=(0.3 * length, 1.5 * length),
        rock=_vary(rng, stone),
        logs=some(3, 0.35) if view.gsd > 0.012 else 0.0,
        log=_vary(rng, rgb(186, 180, 172)),
        patches=some(8, 0.5),
        patch_length=(0.3 * length, 1.6 * length),
        patch=_vary(rng, rgb(58, 50, 42), 0.5),
    )
    return replace(cover, **changes)  # type: ignore[arg-type]  # fields of Cover, by name


def _plants(rng: np.random.Generator, view: View, share: float, leaf: Colour, other: Colour) -> dict[str, object]:
    """Bushes that cover about `share` of the ground."""
    # Not so small that a picture needs thousands.
    small = max(0.25, view.gsd * 640 / 60) * float(rng.uniform(0.7, 1.5))
    large = max(small * float(rng.uniform(1.6, 3.2)), float(rng.uniform(0.6, 2.4)))
    mean = small * (large / small) ** 0.43
    return {
        "bushes": share * 1e4 / (np.pi * mean**2 * 1.25),
        "bush_radius": (small, large),
        "bush_height": float(rng.uniform(0.7, 1.8)),
        "clumped": float(rng.uniform(0.1, 0.8)),
        "leaf": _vary(rng, leaf),
        "leaf_other": _vary(rng, other),
        "gloss": float(rng.uniform(0, 0.7)),
        "leaf_m": float(np.exp(rng.uniform(np.log(0.003), np.log(0.02)))),
        "open_leaf": float(rng.uniform(0.1, 1.0)),
        "roundness": float(rng.uniform(0.05, 0.45)),
        "ragged": float(rng.uniform(0.15, 0.5)),
        "hollow": float(rng.uniform(0.15, 0.65)),
    }


def _savanna(rng: np.random.Generator, view: View) -> _Biome:
    ground = _ground(rng, view, rgb(176, 148, 104), rgb(134, 126, 78), rgb(98, 96, 56))
    plants = _plants(rng, view, float(rng.exponential(0.10)), rgb(74, 84, 52), rgb(116, 114, 70))
    return ground, _cover_objects(rng, view, **plants)


def _grass(rng: np.random.Generator, view: View) -> _Biome:
    ground = _ground(rng, view, rgb(112, 130, 62), rgb(142, 142, 84), rgb(74, 96, 44))
    share = float(rng.exponential(0.05)) if rng.random() < 0.5 else 0.0
    return ground, _cover_objects(rng, view, **_plants(rng, view, share, rgb(64, 88, 46), rgb(98, 110, 58)))


def _pasture(rng: np.random.Generator, view: View) -> _Biome:
    """Grazed turf, evenly speckled."""
    ground = _ground(
        rng, view, rgb(176, 160, 132), rgb(150, 146, 108), rgb(118, 118, 78),
        tuft_m=float(view.gsd * rng.uniform(0.3, 1.0)), tuft_share=float(rng.uniform(0.2, 0.6)),
        grain=float(rng.uniform(0.15, 0.6)),
    )  # fmt: skip
    return ground, _cover_objects(rng, view)


def _sand(rng: np.random.Generator, view: View) -> _Biome:
    ground = _ground(
        rng, view, rgb(208, 186, 150), rgb(188, 160, 122), rgb(150, 130, 100),
        tuft_share=float(rng.uniform(0, 0.25)), grain=float(rng.uniform(0.02, 0.15)),
    )  # fmt: skip
    return ground, _cover_objects(
        rng, view, **_plants(rng, view, float(rng.exponential(0.03)), rgb(92, 96, 68), rgb(130, 124, 88))
    )


def _mud(rng: np.random.Generator, view: View) -> _Biome:
    ground = _ground(rng, view, rgb(98, 84, 68), rgb(124, 108, 88), rgb(60, 52, 44), stretch=float(rng.uniform(1, 3)))
    return ground, _cover_objects(rng, view)


def _snow(rng: np.random.Generator, view: View) -> _Biome:
    """Snow, clean or thin, with soil and grass through it and the tracks of a herd."""
    trails = int(rng.integers(4, 26)) if rng.random() < 0.65 else 0
    dark = rgb(44, 40, 36) if rng.random() < 0.7 else rgb(110, 100, 80)
    white = rgb(188, 200, 214) if rng.random() < 0.6 else rgb(226, 230, 238)
    ground = _ground(
        rng, view, white, _vary(rng, white, 0.15, 0.04), dark,
        tuft_m=float(view.gsd * rng.uniform(0.5, 2.2)), tuft_share=float(rng.uniform(0.0, 0.65)),
        tuft_sharp=float(rng.uniform(0.5, 1.0)), patch_share=float(rng.uniform(0, 1)),
        grain=float(rng.uniform(0.03, 0.2)), stretch=float(rng.uniform(1, 3)),
        trails=trails, trail_colour=_vary(rng, dark),
    )  # fmt: skip
    return ground, _cover_objects(rng, view)


def _scrub(rng: np.random.Generator, view: View) -> _Biome:
    """Bushes and young trees, dense, with bright grass in the gaps."""
    ground = _ground(rng, view, rgb(142, 152, 92), rgb(164, 146, 118), rgb(88, 104, 54))
    share = float(rng.uniform(0.25, 1.1))
    grey = rgb(112, 120, 104) if rng.random() < 0.6 else rgb(84, 104, 62)
    plants = _plants(rng, view, share, grey, _vary(rng, rgb(128, 136, 104)))
    large = float(rng.uniform(1.0, 3.5))
    if view.gsd < 0.04 and rng.random() < 0.7:
        small = large / float(rng.uniform(1.5, 3.0))
        mean = small * (large / small) ** 0.43
        plants |= {"bush_radius": (small, large), "bushes": share * 1e4 / (np.pi * mean**2 * 1.25)}
    return ground, _cover_objects(rng, view, **plants)


_BIOMES = (
    (0.16, _savanna),
    (0.12, _grass),
    (0.18, _pasture),
    (0.06, _sand),
    (0.07, _mud),
    (0.18, _snow),
    (0.23, _scrub),
)
