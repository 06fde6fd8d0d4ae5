"""From boxes to animals: which boxes are one animal, and where it is."""

from dataclasses import dataclass

import numpy as np

from transect.census.geometry import FloatArray
from transect.census.observations import IntArray, Observations
from transect.census.unique import Sightings, unique_animals


@dataclass(frozen=True)
class Animals:
    """Unique animals, one row each, in order of first sight.

    `xy` (m, 2) is the mean of the positions at which each was seen, weighted by how well they are known;
    `sightings` in how many photos; `score` the best one; `unit` the sampling unit, -1 for none.
    """

    xy: FloatArray
    species: IntArray
    sightings: IntArray
    score: FloatArray
    unit: IntArray


def count_once(observations: Observations, sigmas: float) -> tuple[IntArray, Animals]:
    """The animal of each box (n,), -1 for a box that does not count where it is, and the animals; `unit` is -1."""
    rows = np.flatnonzero(observations.placed & observations.inside)
    own, shared = observations.own_sd[rows], observations.shared_sd[rows]
    xy, species = observations.xy[rows], observations.species[rows]
    animal = unique_animals(Sightings(xy, species, observations.frame[rows], shared, own), sigmas=sigmas)
    count = int(animal.max(initial=-1)) + 1
    weight = 1.0 / (own**2 + shared**2 + 1e-12)
    total = np.bincount(animal, weight, count)
    place = np.stack([np.bincount(animal, weight * xy[:, axis], count) for axis in (0, 1)], axis=-1)
    best, kind = np.zeros(count), np.zeros(count, np.int64)
    np.maximum.at(best, animal, observations.score[rows])
    kind[animal] = species
    animal_of = np.full(len(observations), -1, np.int64)
    animal_of[rows] = animal
    sightings = np.bincount(animal, minlength=count).astype(np.int64)
    # An empty survey has no weights to divide by.
    middle = place / total[:, None] if count else np.empty((0, 2))
    return animal_of, Animals(middle, kind, sightings, best, np.full(count, -1, np.int64))
