"""README.txt of an export: ten lines for the person who reviews."""

from transect.review.exchange.batch import ReviewBatch
from transect.review.exchange.terms import PHOTO_DONE
from transect.wording import count_of

_VERDICTS = (
    "keep (an animal of that species), reject (no animal), species (an animal of another species, named in "
    "new_species), duplicate (an animal that another box covers already), unsure"
)
_FILES = (
    "Open decisions.csv in a spreadsheet; each row names its picture in the column picture.",
    f"A row `box`: look at its crop and write a verdict: {_VERDICTS}.",
    "A row `photo`: search the whole photo; when you are through, write done as its verdict.",
    "For each animal that no box of the model covers, add a row at the end: item added, the photo's image, the "
    "species, and x1, y1, x2, y2 in pixels of the photo.",
    "Blind photos (blind: yes) have no picture with boxes: add a row for every animal that you see.",
    "Leave rows empty that you did not look at: no verdict decides nothing.",
    "The other columns are yours to fill in or leave: reviewer (your name), seconds, note.",
    "Save as CSV, and import it: transect review import REVIEW decisions.csv --reviewer YOUR-NAME",
)
_TOOL_COMMON = (
    "Leave a right box as it is; give a box of another species that label; delete a box that is no animal.",
    "Set the attribute verdict for what the box itself cannot say: duplicate, unsure.",
    "In a photo that is to be searched in full, draw a box around each animal that has none.",
)
_TOOLS = {
    "label-studio": (
        "Make a project with labels.xml as its labelling interface, let Label Studio serve this folder (local "
        "storage; LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT), and import tasks.json.",
        *_TOOL_COMMON,
        "Submit each photo that you finished, also without a box; skip what you cannot judge.",
        "Export as JSON (not JSON-MIN, not YOLO), and import that file: transect review import REVIEW FILE",
    ),
    "cvat": (
        "Pack what is inside the folder photos as a ZIP file, make a task of it with the labels of labels.json (tab "
        "Raw), and upload annotations.xml as CVAT 1.1.",
        *_TOOL_COMMON,
        f"Give each photo that you finished the tag `{PHOTO_DONE}`; without it, deleted boxes decide nothing.",
        "Export as CVAT for images 1.1, unpack it, and import annotations.xml: transect review import REVIEW "
        "annotations.xml --reviewer YOUR-NAME",
    ),
    "coco": (
        "Open instances.json with the folder photos in your tool.",
        *_TOOL_COMMON,
        f"Mark each photo that you finished: draw a box of any size with the label `{PHOTO_DONE}`.",
        "Export as COCO, and import it: transect review import REVIEW FILE.json --reviewer YOUR-NAME",
    ),
}


def instructions(batch: ReviewBatch, kind: str) -> str:
    """The text of README.txt."""
    head = (
        f"Review {batch.review_id} of {batch.survey_name}, batch {batch.batch}: "
        f"{count_of(len(batch.boxes), 'box', 'boxes')} to decide, {count_of(len(batch.photos), 'photo')} to search.",
        f"Species: {', '.join(batch.species)}.",
    )
    return "\n".join((*head, *(_FILES if kind == "files" else _TOOLS[kind]))) + "\n"
