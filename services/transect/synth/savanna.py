"""The land, light and camera of the sample survey: a savanna in the dry season."""

import numpy as np

from transect.synth.camera.light import Light, Optics
from transect.synth.land.cover import Cover
from transect.synth.land.ground import Ground, rgb

GSD = 0.05
"""Metres a pixel of the sample survey's frames, about."""


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


def survey_dusk(rng: np.random.Generator) -> Light:
    """The end of the day: a low red sun, long shadows, and a blue sky as strong as half of it."""
    return Light(
        azimuth_deg=float(rng.uniform(0, 360)),
        elevation_deg=9.0,
        sun=(0.34, 0.24, 0.14),
        sky=(0.10, 0.12, 0.17),
        penumbra_m=0.1,
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
