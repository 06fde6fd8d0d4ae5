"""Boxes to look at by choice: the least certain first. They become a cell of their own, and bias nothing."""

import numpy as np

from transect.arrays import IntArray
from transect.review.verdicts.truth import Answers, Truth


def least_certain_boxes(truth: Truth, answers: Answers, number: int) -> tuple[IntArray, IntArray]:
    """The rows of so many undecided boxes whose scores are nearest to the threshold of the census, and no photos.

    Boxes that were drawn by chance stay where the random order has them.
    """
    boxes, conf = truth.items.boxes, truth.items.manifest.model.conf
    free = ~truth.box_decided
    drawn = boxes.rows_of(sorted(answers.drawn_boxes))
    free[drawn[drawn >= 0]] = False
    rows = np.flatnonzero(free)
    order = np.lexsort((boxes.rank[rows], np.abs(boxes.score[rows] - conf)))
    return rows[order[:number]].astype(np.int64), np.empty(0, np.int64)
