"""The animals of a sample survey: herds over a stratum, with gaps between them."""

import numpy as np

from .herds import draw_herd
from .species import SPECIES, Animal

_DENSITY_KM2 = (165.0, 150.0, 155.0)
_CLUSTERING_K = 1.5
_NEIGHBOUR_M = 60.0


def draw_population(width_m: float, height_m: float, seed: int) -> tuple[Animal, ...]:
    """All animals of the rectangle from (0, 0) to (width_m, height_m).

    Herds lie at random, thicker in the species' preferred parts; sizes are negative binomial
    (k = 1.5). No two animals are closer than a body length.
    """
    rng = np.random.default_rng((seed, 42))
    animals: list[Animal] = []
    for kind in SPECIES:
        wanted = _DENSITY_KM2[kind.index] * width_m * height_m / 1e6
        phase = rng.uniform(0, 2 * np.pi, 2)
        total = 0
        while total < wanted:
            x, y = rng.uniform(0, width_m), rng.uniform(0, height_m)
            liking = 0.6 + 0.4 * np.sin(x / 260 + phase[0]) * np.cos(y / 190 + phase[1])
            if rng.random() > liking:
                continue
            # A geometric-like number of companions, so that lone animals and large herds both occur.
            mean = kind.herd_mean - 1
            size = 1 + int(rng.negative_binomial(_CLUSTERING_K, _CLUSTERING_K / (_CLUSTERING_K + mean)))
            near = tuple(a for a in animals if np.hypot(a.x - x, a.y - y) < _NEIGHBOUR_M)
            herd = draw_herd(
                rng, kind.index, size, (float(x), float(y)), spacing=float(rng.uniform(1.6, 3.4)), others=near
            )
            inside = [a for a in herd if _inside(a, width_m, height_m)]
            animals += inside
            total += len(inside)
    return tuple(animals)


def _inside(animal: Animal, width_m: float, height_m: float) -> bool:
    edge = animal.length_m / 2
    return edge < animal.x < width_m - edge and edge < animal.y < height_m - edge
