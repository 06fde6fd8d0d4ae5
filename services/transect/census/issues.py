"""Issues: files, rows and transects of a survey that a reader must know about, each with a reason."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Issue:
    """A file, row or transect with a problem or a remark, and the reason.

    `kind` is `unreadable` (no image, damaged), `unplaced` (searched, but without a usable pose: counted apart),
    `duplicate` (the same photo under a second name), `unused` (a row of flights.csv without a photo), `transect` (one
    that is no sample of any stratum), `suspect` (counted, but its time or position contradicts that of others),
    `remark` (counted; how contradictory or missing metadata were resolved) or `note` (how another file of the survey
    was interpreted).
    """

    file: str
    kind: str
    reason: str
