"""The positions of a herd's animals."""

import numpy as np

from transect.synth.animals.species import SPECIES, Animal, draw_animal


def draw_herd(
    rng: np.random.Generator,
    species: int,
    size: int,
    centre: tuple[float, float],
    *,
    spacing: float = 1.6,
    others: tuple[Animal, ...] = (),
) -> list[Animal]:
    """A herd around `centre` (metres) in which no two animals come closer than a body length.

    spacing: typical distance between neighbours, in body lengths. others: animals already there.
    The herd has fewer than `size` animals where there is no room.
    """
    kind = SPECIES[species]
    spread = spacing * kind.length_m * np.sqrt(size) * 0.6
    common = rng.uniform(0, 360)
    aligned = rng.random() < 0.5
    herd: list[Animal] = []
    for _ in range(size):
        for _ in range(12):
            x, y = (float(c + d) for c, d in zip(centre, rng.normal(0, max(spread, 0.1), 2), strict=True))
            heading = common + rng.normal(0, 25) if aligned else rng.uniform(0, 360)
            animal = draw_animal(rng, species, x, y, float(heading))
            if all(apart(animal, other) for other in (*others, *herd)):
                herd.append(animal)
                break
    return herd


def apart(first: Animal, second: Animal) -> bool:
    """Whether two animals are at least a body length (of the longer one) from each other."""
    return float(np.hypot(first.x - second.x, first.y - second.y)) >= 1.02 * max(first.length_m, second.length_m)
