"""What a person decides: whether a box is an animal, and which animals of a photo no box covers."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

Verdict = Literal["keep", "reject", "species", "duplicate", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""keep: an animal of the box's species; species: an animal of another one; duplicate: an animal that another box covers
already; reject: none; unsure: the reviewer cannot say."""

Drawn = Literal["sample", "choice"]
"""Why an item was looked at: chance put it next in the random order, or somebody picked it."""

PixelBox = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the photo as it is seen."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One person's decision on one box of the census.

    `uuid` is the client's: a decision that is delivered again is the same one. `box_key` is that of detections.parquet.
    `species` is named for the verdict `species` alone, else empty. `decided_at` is in UTC; `milliseconds` is the time
    that it took (None: not known). `settles` is true for the decision of a lead, which ends a disagreement.
    `supersedes` is the uuid of the decision that this one replaces, empty for none.
    """

    uuid: str
    photo_sha256: str
    box_key: str
    verdict: Verdict
    reviewer: str
    drawn: Drawn
    species: str = ""
    decided_at: datetime | None = None
    milliseconds: int | None = None
    settles: bool = False
    note: str = ""
    supersedes: str = ""


@dataclass(frozen=True, kw_only=True)
class AddedBox:
    """An animal that a reader of a photo marked; `before_reveal` is true where the model's boxes were hidden then."""

    box: PixelBox
    species: str
    before_reveal: bool = False


@dataclass(frozen=True, kw_only=True)
class PhotoSearch:
    """One person's search of a whole photo, recorded when it is done, with every animal that was marked.

    `blind` is true where the model's boxes were hidden until the search was done. For the other fields see Decision.
    """

    uuid: str
    photo_sha256: str
    reviewer: str
    drawn: Drawn
    blind: bool
    added: tuple[AddedBox, ...] = ()
    done_at: datetime | None = None
    milliseconds: int | None = None
    settles: bool = False
    note: str = ""
    supersedes: str = ""
