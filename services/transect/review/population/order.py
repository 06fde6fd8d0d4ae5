"""Permanent random numbers: the random order of a review's items, the same for everybody and for ever.

Ohlsson 1995, Coordination of samples using permanent random numbers. A sample is the first items of a cell in this
order, so that extending it keeps all work, two reviewers get the same items, and nobody can pick.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from transect.arrays import BoolArray, IntArray

Ranks = NDArray[np.uint64]


def random_ranks(seed: int, keys: Iterable[str]) -> Ranks:
    """A number in 0..2^64 - 1 for each key (n,), from the SHA-256 of seed and key."""
    start = hashlib.sha256(f"transect review {seed} ".encode())

    def rank(key: str) -> bytes:
        one = start.copy()
        one.update(key.encode())
        return one.digest()[:8]

    return np.frombuffer(b"".join(map(rank, keys)), ">u8").astype(np.uint64)


def in_order(cell: IntArray, rank: Ranks) -> IntArray:
    """The indices (n,) of all items, cell by cell, in the random order of each."""
    return np.lexsort((np.arange(len(cell)), rank, cell)).astype(np.int64)


def decided_prefix(cell: IntArray, rank: Ranks, *, decided: BoolArray, chosen: BoolArray) -> BoolArray:
    """The sample (n,): of each cell the first items of the random order, up to the first one that nobody decided on.

    Items that somebody chose belong to no sample. Items decided on after a gap wait until it is filled: whoever leaves
    hard ones out would choose.
    """
    sample = np.zeros(len(cell), bool)
    order = in_order(cell, rank)
    order = order[~chosen[order]]
    if len(order) == 0:
        return sample
    cells, open_items = cell[order], ~decided[order]
    # The items before the first gap have no gap before them in their cell.
    gaps = np.cumsum(open_items)
    first = np.flatnonzero(np.diff(cells, prepend=cells[0] - 1))
    before: IntArray = np.repeat(gaps[first] - open_items[first], np.diff(np.append(first, len(order))))
    sample[order[gaps == before]] = True
    return sample


def next_in_order(cell: IntArray, rank: Ranks, *, taken: BoolArray, wanted: IntArray) -> IntArray:
    """The next items of each cell in the random order, without the `taken` ones; `wanted` (cells,) says how many."""
    order = in_order(cell, rank)
    order = order[~taken[order]]
    cells = cell[order]
    first = np.searchsorted(cells, np.arange(len(wanted)))
    place = np.arange(len(order)) - first[cells]
    return np.asarray(order[place < wanted[cells]], np.int64)
