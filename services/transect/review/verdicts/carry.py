"""What another review of the same photos says of the boxes of this one: suggestions, which count nowhere. Pure."""

from collections.abc import Mapping

import numpy as np

from transect.arrays import IntArray
from transect.review.folder.items import ReviewItems
from transect.review.verdicts.added import covered
from transect.review.verdicts.truth import Truth

SAME_BOX_IOU = 0.5
"""From this IoU on, boxes of two censuses in one photo are taken to be of one thing."""


def carried_over(before: Truth, items: ReviewItems, rows: IntArray) -> Mapping[int, str]:
    """By row of a box of `items`, what the review `before` found of the box in the same place of the same photo."""
    old = before.items
    photo_of = {digest: row for row, digest in enumerate(old.photos.sha256)}
    decided = np.array(sorted(before.finding), np.int64)
    wanted = np.unique(items.boxes.photo[rows])
    found: dict[int, str] = {}
    for photo in wanted.tolist():
        there = photo_of.get(items.photos.sha256[photo])
        if there is None:
            continue
        mine = rows[items.boxes.photo[rows] == photo]
        theirs = decided[old.boxes.photo[decided] == there]
        for number, row in enumerate(mine.tolist()):
            near, taken = covered(items.boxes.box[mine[number : number + 1]], old.boxes.box[theirs], SAME_BOX_IOU)
            if near[0]:
                finding = before.finding[int(theirs[np.flatnonzero(taken)[0]])]
                found[row] = finding.species if finding.finding == "animal" else finding.finding
    return found
