"""The words that a review and the files around it share."""

from transect.review.decisions.decision import VERDICTS

PHOTO_DONE = "photo done"
"""The label by which a reviewer says that a photo is finished, in tools whose files do not say it."""
NOT_SET = "not set"
VERDICT_VALUES = (NOT_SET, *VERDICTS)
"""The values of the attribute `verdict`; most tools have no empty choice."""
PHOTOS = "photos"
"""The folder of an export that holds the copies of photos."""
COLUMNS = (
    "item",
    "picture",
    "image",
    "species",
    "x1",
    "y1",
    "x2",
    "y2",
    "suggestion",
    "verdict",
    "new_species",
    "reviewer",
    "blind",
    "before_reveal",
    "seconds",
    "decided_at",
    "note",
    "uuid",
    "key",
)
"""The columns of decisions.csv. `suggestion` is what an earlier review says, and is not read back. `key` comes last
because boxes and photos always have it: a row of them that was cut off lacks it, and a spreadsheet that leaves out
empty cells at the end of a row leaves out none."""
