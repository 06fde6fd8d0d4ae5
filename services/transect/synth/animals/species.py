"""The three species of the sample surveys, and one animal as a value."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from transect.synth.land.ground import Colour


@dataclass(frozen=True, kw_only=True)
class Species:
    """The parameters of a species; `index` is the class number in labels."""

    index: int
    name: str
    length_m: float
    """Nose to rump of an adult."""
    height_m: float
    """Ground to back, standing."""
    half_width: float
    """Half of the body's width, in body lengths."""
    herd_mean: float
    """Mean size of a herd."""


SPECIES: tuple[Species, ...] = (
    Species(index=0, name="sheep", length_m=1.2, height_m=0.8, half_width=0.215, herd_mean=6.0),
    Species(index=1, name="buffalo", length_m=2.8, height_m=1.5, half_width=0.185, herd_mean=5.0),
    Species(index=2, name="zebra", length_m=2.3, height_m=1.35, half_width=0.14, herd_mean=4.5),
)


@dataclass(frozen=True)
class Coat:
    """Colours are linear RGB in 0..1."""

    colour: Colour
    second: Colour
    """Colour of patches, dust or dark stripes."""
    face: Colour
    second_share: float
    """Share of the coat in the second colour, 0..1."""
    shag: float
    """Raggedness of the outline, in body lengths."""


@dataclass(frozen=True)
class Appearance:
    """The individual appearance of an animal; lengths are in body lengths."""

    width: float
    """Factor on the species' half width."""
    bend: float
    """Sideways curvature of the spine; 0 is straight, +-0.6 is curled."""
    head_turn: float
    """Angle of the head to the spine, radians."""
    head_reach: float
    """Length of neck and head as seen from above, as a factor: a lowered head appears shorter."""
    lying: bool
    coat: Coat


@dataclass(frozen=True, kw_only=True)
class Animal:
    """One animal on the ground: position in metres (east, north), heading in degrees clockwise from north."""

    species: int
    x: float
    y: float
    heading_deg: float
    length_m: float
    appearance: Appearance
    seed: int
    velocity: tuple[float, float] = (0.0, 0.0)
    """Metres a second east and north, at the survey's first photo."""


def draw_animal(rng: np.random.Generator, species: int, x: float, y: float, heading_deg: float) -> Animal:
    """Draw age, pose and coat of an animal that stands at (x, y)."""
    kind = SPECIES[species]
    length = kind.length_m * float(np.clip(rng.normal(1.0, 0.06), 0.85, 1.15))
    if rng.random() < 0.12:
        length *= rng.uniform(0.6, 0.8)  # young of the year
    lying = rng.random() < 0.15
    coat = _COATS[species](rng)
    appearance = Appearance(
        width=float(rng.uniform(0.88, 1.14) * (1.08 if lying else 1.0)),
        bend=float(rng.normal(0, 0.3 if lying else 0.12)),
        head_turn=float(np.clip(rng.normal(0, 0.4), -1.2, 1.2)),
        head_reach=float(rng.uniform(0.62, 1.0)),
        lying=lying,
        coat=coat,
    )
    return Animal(
        species=species,
        x=x,
        y=y,
        heading_deg=heading_deg % 360.0,
        length_m=length,
        appearance=appearance,
        seed=int(rng.integers(1 << 31)),
    )


def _jitter(rng: np.random.Generator, colour: Colour, gain: float = 0.2) -> Colour:
    brightness = rng.uniform(1 - gain, 1 + gain)
    red, green, blue = (float(np.clip(c * brightness * rng.uniform(0.95, 1.05), 0.004, 0.95)) for c in colour)
    return red, green, blue


def _sheep_coat(rng: np.random.Generator) -> Coat:
    kinds = (
        (0.46, (0.72, 0.70, 0.66)),  # white
        (0.20, (0.56, 0.44, 0.25)),  # cream
        (0.12, (0.19, 0.075, 0.045)),  # brown
        (0.14, (0.022, 0.020, 0.020)),  # black
        (0.08, (0.27, 0.24, 0.21)),  # grey
    )
    coat = kinds[int(rng.choice(len(kinds), p=[weight for weight, _ in kinds]))][1]
    pied = rng.random() < 0.15
    second = kinds[int(rng.integers(len(kinds)))][1]
    face = coat if rng.random() < 0.7 else kinds[int(rng.choice((0, 2, 3)))][1]
    return Coat(
        colour=_jitter(rng, coat),
        second=_jitter(rng, second),
        face=_jitter(rng, face),
        second_share=float(rng.uniform(0.2, 0.6)) if pied else 0.0,
        shag=float(rng.uniform(0.001, 0.010)),
    )


def _buffalo_coat(rng: np.random.Generator) -> Coat:
    body = (0.020, 0.018, 0.018) if rng.random() < 0.6 else (0.050, 0.040, 0.033)
    return Coat(
        colour=_jitter(rng, body, 0.35),
        second=_jitter(rng, (0.15, 0.11, 0.075), 0.3),
        face=_jitter(rng, (0.018, 0.016, 0.015), 0.3),
        second_share=float(rng.uniform(0.0, 0.35)),
        shag=float(rng.uniform(0.001, 0.004)),
    )


def _zebra_coat(rng: np.random.Generator) -> Coat:
    return Coat(
        colour=_jitter(rng, (0.62, 0.58, 0.50), 0.15),
        second=_jitter(rng, (0.020, 0.018, 0.017), 0.2),
        face=_jitter(rng, (0.10, 0.09, 0.08), 0.2),
        second_share=float(rng.uniform(0.44, 0.56)),
        shag=float(rng.uniform(0.001, 0.003)),
    )


_COATS: tuple[Callable[[np.random.Generator], Coat], ...] = (_sheep_coat, _buffalo_coat, _zebra_coat)
