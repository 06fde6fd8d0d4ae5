"""What may be in a training picture: one sample survey's savanna, or nearly anything ("wide")."""

from dataclasses import replace
from typing import Literal

import numpy as np

from .cover import Cover
from .ground import Colour, Ground
from .herds import draw_herd
from .light import Light, Optics
from .scene import Scene
from .species import SPECIES, Animal
from .view import View

Domain = Literal["survey", "wide"]

SURVEY_GSD = 0.05


def rgb(red: float, green: float, blue: float) -> Colour:
    """Linear colour of an sRGB one (0..255), by the power 2.2."""
    return (red / 255) ** 2.2, (green / 255) ** 2.2, (blue / 255) ** 2.2


def _vary(rng: np.random.Generator, colour: Colour, gain: float = 0.35, hue: float = 0.12) -> Colour:
    brightness = float(np.exp(rng.normal(0, gain)))
    red, green, blue = (float(np.clip(c * brightness * np.exp(rng.normal(0, hue)), 0.003, 0.95)) for c in colour)
    return red, green, blue


def survey_ground() -> Ground:
    """The sample survey's savanna: reddish soil, dry and green grass."""
    return Ground(
        base=rgb(176, 148, 104),
        patch=rgb(128, 124, 76),
        tuft=rgb(96, 98, 56),
        patch_m=0.45,
        patch_share=0.5,
        tuft_m=0.07,
        tuft_share=0.33,
        tuft_sharp=0.4,
        grain_m=0.05,
        grain=0.16,
        bump_m=0.012,
        stretch=1.0,
        stretch_deg=0.0,
    )


def survey_cover() -> Cover:
    """Bushes, a few trees, rocks and dead wood of the sample survey."""
    return Cover(
        bushes=55.0,
        bush_radius=(0.35, 2.6),
        bush_height=1.0,
        clumped=0.9,
        leaf=rgb(70, 84, 48),
        leaf_other=rgb(110, 112, 66),
        gloss=0.12,
        leaf_m=0.03,
        open_leaf=0.35,
        rocks=22.0,
        rock_length=(0.3, 1.7),
        rock=rgb(168, 160, 148),
        logs=6.0,
        log=rgb(170, 160, 146),
        patches=22.0,
        patch_length=(0.4, 2.6),
        patch=rgb(84, 70, 52),
    )


def survey_light(rng: np.random.Generator) -> Light:
    """A fine day."""
    strength = rng.uniform(0.85, 1.05)
    return Light(
        azimuth_deg=float(rng.uniform(0, 360)),
        elevation_deg=float(rng.uniform(38, 62)),
        sun=(0.80 * strength, 0.76 * strength, 0.68 * strength),
        sky=(0.17, 0.20, 0.26),
        penumbra_m=0.06,
    )


def survey_optics(rng: np.random.Generator) -> Optics:
    """The sample survey's camera."""
    return Optics(
        exposure=float(rng.uniform(0.20, 0.28)),
        contrast=0.10,
        saturation=float(rng.uniform(0.95, 1.1)),
        vignette=0.10,
        blur_px=float(rng.uniform(0.35, 0.6)),
        sharpen=0.35,
        noise=0.012,
        quality=90,
    )


def survey_tile(
    rng: np.random.Generator, tile: int, place: tuple[float, float], world: int
) -> tuple[Scene, View, Optics]:
    """A tile as a census cuts it from a frame of the sample survey; `place` (metres) is its centre."""
    view = View(*place, SURVEY_GSD * float(rng.uniform(0.96, 1.05)), float(rng.uniform(0, 360)), tile, tile)
    animals: list[Animal] = []
    if rng.random() < 0.74:
        for species in rng.permutation(len(SPECIES))[: int(rng.choice((1, 2, 3), p=(0.35, 0.40, 0.25)))]:
            size = int(np.clip(rng.negative_binomial(1.2, 0.2) + 1, 1, 14))
            animals += draw_herd(
                rng, int(species), size, _within(rng, view, 0.42), rng.uniform(1.4, 3.2), tuple(animals)
            )
    scene = Scene(world, survey_ground(), survey_cover(), survey_light(rng), tuple(animals))
    return scene, view, survey_optics(rng)


def wide_tile(
    rng: np.random.Generator, tile: int, place: tuple[float, float], world: int
) -> tuple[Scene, View, Optics]:
    """A tile of any ground, light, season, height and camera."""
    species = int(rng.choice(3, p=(0.5, 0.26, 0.24)))
    # Length of the main species in the picture; few large ones fit a picture, so those are drawn more often.
    share = float(rng.random()) ** 0.7
    length_px = 14.0 * (240.0 / 14.0) ** share
    length_px = float(np.clip(length_px, 14, 0.4 * tile))
    gsd = SPECIES[species].length_m / length_px
    view = View(*place, gsd, float(rng.uniform(0, 360)), tile, tile)
    biome = _BIOMES[int(rng.choice(len(_BIOMES), p=[weight for weight, _ in _BIOMES]))][1]
    ground, cover = biome(rng, view)
    animals = _wide_animals(rng, species, view) if rng.random() < 0.8 else []
    light = _wide_light(rng)
    scene = Scene(world, ground, cover, light, tuple(animals))
    return scene, view, _wide_optics(rng, ground, cover, light)


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
        animals += draw_herd(rng, species, size, _within(rng, view, 0.4), spacing, tuple(animals))
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
    """Expose for the ground, then go wrong by up to two stops: real frames do."""
    share = float(np.clip(cover.bushes * cover.bush_radius[0] * cover.bush_radius[1] * 3.14 / 1e4, 0, 1))
    reflect = _luminance(ground.base) * (1 - share) + _luminance(cover.leaf) * share
    reflect = 0.7 * reflect + 0.3 * _luminance(ground.patch)
    strength = _luminance(light.sun) + _luminance(light.sky)
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


def _luminance(colour: Colour) -> float:
    return 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]


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


def _decoys(rng: np.random.Generator, view: View, **changes: object) -> Cover:
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
        "open_leaf": float(rng.uniform(0.1, 0.9)),
    }


_Biome = tuple[Ground, Cover]


def _savanna(rng: np.random.Generator, view: View) -> _Biome:
    ground = _ground(rng, view, rgb(176, 148, 104), rgb(134, 126, 78), rgb(98, 96, 56))
    plants = _plants(rng, view, float(rng.exponential(0.10)), rgb(74, 84, 52), rgb(116, 114, 70))
    return ground, _decoys(rng, view, **plants)


def _grass(rng: np.random.Generator, view: View) -> _Biome:
    ground = _ground(rng, view, rgb(112, 130, 62), rgb(142, 142, 84), rgb(74, 96, 44))
    share = float(rng.exponential(0.05)) if rng.random() < 0.5 else 0.0
    return ground, _decoys(rng, view, **_plants(rng, view, share, rgb(64, 88, 46), rgb(98, 110, 58)))


def _pasture(rng: np.random.Generator, view: View) -> _Biome:
    """Grazed turf, evenly speckled."""
    ground = _ground(
        rng, view, rgb(176, 160, 132), rgb(150, 146, 108), rgb(118, 118, 78),
        tuft_m=float(view.gsd * rng.uniform(0.3, 1.0)), tuft_share=float(rng.uniform(0.2, 0.6)),
        grain=float(rng.uniform(0.15, 0.6)),
    )  # fmt: skip
    return ground, _decoys(rng, view)


def _sand(rng: np.random.Generator, view: View) -> _Biome:
    ground = _ground(
        rng, view, rgb(208, 186, 150), rgb(188, 160, 122), rgb(150, 130, 100),
        tuft_share=float(rng.uniform(0, 0.25)), grain=float(rng.uniform(0.02, 0.15)),
    )  # fmt: skip
    return ground, _decoys(
        rng, view, **_plants(rng, view, float(rng.exponential(0.03)), rgb(92, 96, 68), rgb(130, 124, 88))
    )


def _mud(rng: np.random.Generator, view: View) -> _Biome:
    ground = _ground(rng, view, rgb(98, 84, 68), rgb(124, 108, 88), rgb(60, 52, 44), stretch=float(rng.uniform(1, 3)))
    return ground, _decoys(rng, view)


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
    return ground, _decoys(rng, view)


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
    return ground, _decoys(rng, view, **plants)


_BIOMES = (
    (0.16, _savanna),
    (0.12, _grass),
    (0.18, _pasture),
    (0.06, _sand),
    (0.07, _mud),
    (0.18, _snow),
    (0.23, _scrub),
)
