"""Search effort: the network's megapixels in one look at every place of the ground. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from transect.arrays import FloatArray
from transect.census.ground.coverage import Coverage
from transect.census.ground.geometry import GroundView
from transect.census.ground.projection import Views

# A tilted photo's pixels differ in size; they are sampled at the middles of so many cells along each side.
_CELLS = 4


@dataclass(frozen=True)
class SearchedGround:
    """The network's megapixels in one look at every place: of each sampling unit, and of all ground.

    A place that several photos show counts once, with the mean of their pixels.
    """

    units: tuple[float, ...]
    whole: float


def searched_ground(
    views: Sequence[GroundView | None],
    coverage: Coverage,
    scales: FloatArray,
    grid_scale: Callable[[FloatArray], FloatArray],
) -> SearchedGround:
    """The search effort over the ground in `coverage`; its frame numbers index `views`.

    `scales` are the network's pixels for each pixel of a picture, along a side, one for each of `views`; `grid_scale`
    gives the grid's metres a metre of ground at places (n, 2).
    """
    numbers = np.array(sorted(coverage.footprints), np.int64)
    density = np.full(len(views), np.nan)
    known = [(view.width, view.height) for view in (views[number] for number in numbers) if view is not None]
    sizes = np.array(known, np.float64).reshape(-1, 2)
    cells = (np.stack(np.meshgrid(np.arange(_CELLS), np.arange(_CELLS)), axis=-1).reshape(-1, 2) + 0.5) / _CELLS
    pixels = (sizes[:, None, :] * cells).reshape(-1, 2)
    frame = np.repeat(numbers, len(cells))
    seen = Views(views)
    # The ground of a pixel, on average over pixels, is the area over their number.
    ground = (seen.scale_at(frame, pixels) ** 2).reshape(-1, len(cells)).mean(axis=1)
    middles = seen.to_ground(numbers, sizes / 2)
    density[numbers] = scales[numbers] ** 2 * grid_scale(middles) ** 2 / ground
    units = tuple(unit.area_km2 * float(np.mean(density[list(unit.frames)])) for unit in coverage.units)
    whole = coverage.area_km2 * float(np.mean(density[numbers])) if len(numbers) else 0.0
    return SearchedGround(units, whole)
