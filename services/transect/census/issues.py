"""Files of a survey that were not counted as they should be, each with a reason."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """A file that was not counted as it should be, and why.

    `kind` is `unreadable` (no image, damaged), `unplaced` (searched, but without a usable pose: counted apart),
    `duplicate` (the same photo under a second name), `unused` (a row of flights.csv without a photo), `transect` (one
    that is no sample of any stratum), `suspect` (counted, but its time or place contradicts that of others), `remark`
    (counted; what was decided where its metadata contradict themselves or lack something) or `note` (how a file of
    the survey was read that is no photo).
    """

    file: str
    kind: str
    reason: str
