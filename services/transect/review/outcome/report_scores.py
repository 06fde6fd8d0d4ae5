"""Precision and recall of a survey by the score of its boxes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transect.review.estimator.cells import BoxBin
from transect.review.estimator.flown import Flown, Share
from transect.review.population.strata import ScoreBin
from transect.review.verdicts.truth import Truth


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One bin of a species; `animal` and `right` are the shares of its boxes that are any animal, and of the species.

    `precision` and `recall` are those of a census that counts the boxes of this bin and of all with higher scores.
    Shares are None where too little was decided.
    """

    bin: ScoreBin
    boxes: int
    animal: float | None
    right: float | None
    precision: Share | None
    recall: Share | None


def scores_by_species(truth: Truth) -> list[tuple[str, list[ScoreRow]]]:
    """The bins of each species that has boxes, from the highest score to the lowest."""
    every = truth.flown(None)
    found = []
    for name in truth.items.manifest.species:
        mine = truth.flown(name)
        rows = _rows(name, truth.items.population.bins, every, mine)
        if rows:
            found.append((name, rows))
    return found


def _rows(name: str, bins: Sequence[ScoreBin], every: Flown, mine: Flown) -> list[ScoreRow]:
    order = sorted(
        (number for number, one in enumerate(bins) if one.species == name),
        key=lambda number: (not bins[number].counted, -bins[number].low),
    )
    rows, counted = [], set[int]()
    for number in order:
        counted.add(number)
        cells = [replace(cell, counted=at // 2 in counted) for at, cell in enumerate(mine.bins)]
        at_least = Flown(cells, mine.groups)
        held = all(cell.is_known for cell in cells if cell.population and cell.counted)
        rows.append(
            ScoreRow(
                bin=bins[number],
                boxes=sum(cell.population for cell in _pair(mine, number)),
                animal=_share(_pair(every, number)),
                right=_share(_pair(mine, number)),
                precision=at_least.precision if held else None,
                recall=None if mine.unknown else at_least.recall(as_called=True),
            )
        )
    return rows


def _pair(flown: Flown, number: int) -> Sequence[BoxBin]:
    """The cell of a bin's sample, and that of what somebody chose."""
    return flown.bins[2 * number : 2 * number + 2]


def _share(cells: Sequence[BoxBin]) -> float | None:
    held = [one for one in cells if one.population]
    if not all(one.is_known for one in held):
        return None
    size = sum(one.whole_size for one in held)
    return sum(one.total for one in held) / size if size else None
