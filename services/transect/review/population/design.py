"""The population of a review as numbers, and its cells from what was decided. Pure."""

from dataclasses import dataclass, field

import numpy as np

from transect.arrays import BoolArray, FloatArray, IntArray
from transect.review.estimator.cells import BoxBin, PhotoGroup
from transect.review.estimator.flown import Flown
from transect.review.estimator.perception import Perception
from transect.review.population.order import Ranks, decided_prefix
from transect.review.population.strata import ExpectedGroup, ScoreBin


@dataclass(frozen=True, eq=False, kw_only=True)
class Population:
    """All boxes (n,) and photos (P,) of the flown ground, in bins and groups.

    `weight` is a box's single-look weight; `box_photo` the photo's number; `box_transect` and `photo_transect` are
    numbers of transects, the last of `transects` being the ground outside of them where something lies there.
    `box_rank` and `photo_rank` give the random order.
    """

    bins: tuple[ScoreBin, ...]
    groups: tuple[ExpectedGroup, ...]
    transects: int
    bin: IntArray
    weight: FloatArray
    box_photo: IntArray
    box_transect: IntArray
    box_rank: Ranks
    group: IntArray
    photo_transect: IntArray
    photo_rank: Ranks


@dataclass(frozen=True, eq=False, kw_only=True)
class Reviewed:
    """What was decided: of boxes (n,) and of photos (P,), and which of them somebody chose.

    The sample is what `decided_prefix` gives. `animal` (n,) is true for boxes that are an animal of any species.
    """

    box_decided: BoolArray
    box_chosen: BoolArray
    animal: BoolArray
    photo_searched: BoolArray
    photo_chosen: BoolArray
    reader: Perception | None = field(default=None)

    def box_sample(self, population: Population) -> BoolArray:
        """The boxes (n,) of the random sample that is complete."""
        return decided_prefix(population.bin, population.box_rank, decided=self.box_decided, chosen=self._chosen_boxes)

    def photo_sample(self, population: Population) -> BoolArray:
        """The photos (P,) of the random sample that is complete."""
        return decided_prefix(
            population.group, population.photo_rank, decided=self.photo_searched, chosen=self._chosen_photos
        )

    @property
    def _chosen_boxes(self) -> BoolArray:
        return self.box_chosen & self.box_decided

    @property
    def _chosen_photos(self) -> BoolArray:
        return self.photo_chosen & self.photo_searched


class ReviewCells:
    """The cells of a population as far as it was reviewed, for one species after another.

    What somebody chose is a cell of its own, complete and therefore without error; the sample is of the rest.

    Usage::

        cells = ReviewCells(population, reviewed)
        flown = cells.flown("buffalo", is_buffalo, missed_buffalo)
    """

    def __init__(self, population: Population, reviewed: Reviewed) -> None:
        self.population, self.reviewed = population, reviewed
        self.box_sample = reviewed.box_sample(population)
        self.photo_sample = reviewed.photo_sample(population)
        self._chosen_boxes = reviewed.box_chosen & reviewed.box_decided
        self._chosen_photos = reviewed.photo_chosen & reviewed.photo_searched
        self.expected = self._expected()

    def flown(self, species: str | None, animal: BoolArray, missed: FloatArray) -> Flown:
        """The flown ground of one species, or (None) of all.

        `animal` (n,) is true for boxes that are one of it, and `missed` (P,) the weighted animals of it without a box
        in each photo; both are read where the item was reviewed.
        """
        return Flown(self._bins(species, animal), self._groups(missed))

    def _bins(self, species: str | None, animal: BoolArray) -> list[BoxBin]:
        population, found = self.population, []
        value = np.where(animal, population.weight, 0.0)
        for number, one in enumerate(population.bins):
            mine = population.bin == number
            for members, reviewed in (
                (mine & ~self._chosen_boxes, mine & self.box_sample),
                (mine & self._chosen_boxes, mine & self._chosen_boxes),
            ):
                found.append(
                    BoxBin(
                        population=int(members.sum()),
                        size_by_transect=self._sums(population.box_transect[members], population.weight[members]),
                        transect=population.box_transect[reviewed],
                        size=population.weight[reviewed],
                        value=value[reviewed],
                        counted=one.counted,
                        called=species is None or one.species == species,
                    )
                )
        return found

    def _groups(self, missed: FloatArray) -> list[PhotoGroup]:
        population, reader, found = self.population, self.reviewed.reader, []
        for number, one in enumerate(population.groups):
            mine = population.group == number
            size = np.ones(len(mine)) if one.nearly_empty else self.expected
            for members, reviewed in (
                (mine & ~self._chosen_photos, mine & self.photo_sample),
                (mine & self._chosen_photos, mine & self._chosen_photos),
            ):
                found.append(
                    PhotoGroup(
                        population=int(members.sum()),
                        size_by_transect=self._sums(population.photo_transect[members], size[members]),
                        transect=population.photo_transect[reviewed],
                        size=size[reviewed],
                        value=missed[reviewed],
                        perception=1.0 if reader is None else reader.share,
                        perception_cv=0.0 if reader is None else reader.cv,
                    )
                )
        return found

    def _expected(self) -> FloatArray:
        """The expected animals of each photo (P,): its boxes' weights times the share of animals in their bins."""
        population = self.population
        sums = [
            np.bincount(population.bin[self.box_sample], values[self.box_sample], minlength=len(population.bins))
            for values in (np.where(self.reviewed.animal, population.weight, 0.0), population.weight)
        ]
        share = np.divide(sums[0], sums[1], out=np.zeros(len(population.bins)), where=sums[1] > 0)
        each = np.where(self._chosen_boxes, self.reviewed.animal, share[population.bin]) * population.weight
        return np.bincount(population.box_photo, each, minlength=len(population.group)).astype(np.float64)

    def _sums(self, transect: IntArray, values: FloatArray) -> FloatArray:
        return np.bincount(transect, values, minlength=self.population.transects).astype(np.float64)
