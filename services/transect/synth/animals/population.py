"""The animals of a sample survey: herds over a stratum, with gaps between them."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from transect.synth.animals.herds import draw_herd
from transect.synth.animals.motion import with_velocities
from transect.synth.animals.species import SPECIES, Animal

_DENSITY_KM2 = (165.0, 150.0, 155.0)
_CLUSTERING_K = 1.5
_NEIGHBOUR_M = 60.0


def draw_population(
    width_m: float, height_m: float, seed: int, *, speed_m_s: float = 0.0, shares: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[Animal, ...]:
    """All animals of the rectangle from (0, 0) to (width_m, height_m).

    Herds lie at random, denser in the species' preferred parts; sizes are negative binomial
    (k = 1.5). No two animals are closer than a body length. speed_m_s: that of the fastest; the same
    seed gives the same animals at the same places, whether they walk or not. shares: for each species, its animals a
    km2 over the usual number; none at 0.
    """
    rng, way = np.random.default_rng((seed, 42)), np.random.default_rng((seed, 46))
    animals: list[Animal] = []
    ground = _Neighbours()
    for kind in SPECIES:
        wanted = shares[kind.index] * _DENSITY_KM2[kind.index] * width_m * height_m / 1e6
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
            herd = draw_herd(
                rng,
                kind.index,
                size,
                (float(x), float(y)),
                spacing=float(rng.uniform(1.6, 3.4)),
                others=ground.near(x, y),
            )
            inside = [a for a in herd if _inside(a, width_m, height_m)]
            ground.add(inside)
            animals += with_velocities(way, inside, speed_m_s) if speed_m_s > 0 else inside
            total += len(inside)
    return tuple(animals)


class _Neighbours:
    """An index of animals by square cells, for neighbours within _NEIGHBOUR_M."""

    def __init__(self) -> None:
        self._squares: dict[tuple[int, int], list[Animal]] = defaultdict(list)

    def add(self, animals: list[Animal]) -> None:
        for animal in animals:
            self._squares[_square(animal.x, animal.y)].append(animal)

    def near(self, x: float, y: float) -> tuple[Animal, ...]:
        column, row = _square(x, y)
        around = [(column + i, row + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        found = (animal for square in around for animal in self._squares.get(square, ()))
        return tuple(animal for animal in found if np.hypot(animal.x - x, animal.y - y) < _NEIGHBOUR_M)


def _square(x: float, y: float) -> tuple[int, int]:
    return int(x // _NEIGHBOUR_M), int(y // _NEIGHBOUR_M)


def _inside(animal: Animal, width_m: float, height_m: float) -> bool:
    edge = animal.length_m / 2
    return edge < animal.x < width_m - edge and edge < animal.y < height_m - edge
