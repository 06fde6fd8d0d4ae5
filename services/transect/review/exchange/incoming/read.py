"""Read a file of decisions, whatever wrote it. Nothing is taken from a file in which anything is wrong."""

import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transect.census.inputs.table import read_text
from transect.errors import InputError
from transect.review.decisions.decision import Decision, PhotoSearch
from transect.review.exchange.incoming.coco import coco_photos
from transect.review.exchange.incoming.cvat import cvat_photos
from transect.review.exchange.incoming.label_studio import label_studio_photos
from transect.review.exchange.incoming.marks import MarkedPhoto, Remark, decide
from transect.review.exchange.incoming.source import Source
from transect.review.exchange.incoming.table import read_decisions_csv
from transect.review.exchange.known import DecisionFile, KnownItems
from transect.review.exchange.terms import PHOTO_DONE
from transect.wording import count_of

_NOT_DONE = {
    "label-studio": "submit the tasks that you finished, and export again",
    "coco": f"mark those that you finished with a box of the label `{PHOTO_DONE}`, or import with --all-done",
    "cvat": f"give those that you finished the tag `{PHOTO_DONE}`, or import with --all-done",
}


def read_decisions(
    path: Path, known: KnownItems, *, reviewer: str | None = None, batch: int | None = None, all_done: bool = False
) -> DecisionFile:
    """The decisions and searches of a file: CSV, COCO JSON, Label Studio's JSON or CVAT's XML, found by its content.

    `reviewer` is who reviewed where the file does not say; for labelling tools it wins. `batch` is the batch that the
    file answers, where it does not say. `all_done` says that every photo in a COCO or CVAT file is finished, which
    else a label says.

    Raises InputError, one sentence with file and place, for the first thing that cannot be taken.
    """
    text = _text(path)
    head = text.lstrip("\ufeff \n\t")[:1]
    source = Source(path=path, known=known, reviewer=reviewer, batch=batch, all_done=all_done)
    if head == "<":
        return _decided("cvat", cvat_photos(text.lstrip("\ufeff \n\t"), source), known, source)
    if head in ("{", "["):
        return _from_json(text.lstrip("\ufeff"), source)
    table = read_decisions_csv(path, known, reviewer)
    silent = not table.decisions and not table.searches
    remarks = (f"{path} decides nothing: none of its {count_of(table.rows, 'row')} has a verdict.",) if silent else ()
    return DecisionFile(
        format="csv", decisions=table.decisions, searches=table.searches, remarks=remarks, given=table.given
    )


def _text(path: Path) -> str:
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inside = [name for name in archive.namelist() if name.endswith((".xml", ".json")) and "/_rels" not in name]
        if "xl/workbook.xml" not in inside and "META-INF/manifest.xml" not in inside:
            which = f" ({', '.join(sorted(inside)[:3])})" if inside else ""
            raise InputError(f"{path} is a ZIP archive; unpack it, and import the file of annotations in it{which}.")
    text = read_text(path, InputError)
    if not text.strip("\ufeff \n\t"):
        raise InputError(f"{path} is empty; export the decisions again.")
    return text


def _from_json(text: str, source: Source) -> DecisionFile:
    try:
        document: Any = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        place = f" line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        why = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
        raise InputError(
            f"{source.path}{place} is not JSON ({why}); it may have been cut off: export it again."
        ) from error
    if isinstance(document, Mapping) and "images" in document and "annotations" in document:
        return _decided("coco", coco_photos(document, source), source.known, source)
    if isinstance(document, Sequence) and all(isinstance(one, Mapping) and "data" in one for one in document):
        remarks: Counter[Remark] = Counter()
        photos = label_studio_photos(document, source, remarks)
        return _decided("label-studio", photos, source.known, source, remarks)
    raise InputError(
        f"{source.path} is JSON of no known format; tried were COCO (an object with images and annotations) and Label "
        "Studio (a list of tasks with data and annotations, its export JSON, not JSON-MIN)."
    )


def _decided(
    kind: str,
    photos: Sequence[MarkedPhoto],
    known: KnownItems,
    source: Source,
    remarks: Counter[Remark] | None = None,
) -> DecisionFile:
    """What all photos of a labelling tool's file say. Raises InputError where one person decides a photo twice."""
    counts = remarks if remarks is not None else Counter[Remark]()
    seen: dict[tuple[str, str], str] = {}
    decisions: list[Decision] = []
    searches: list[PhotoSearch] = []
    for photo in photos:
        place = (photo.photo_sha256, photo.reviewer)
        if place in seen:
            image = known.photos[photo.photo_sha256].image
            raise InputError(
                f"{photo.where} decides {image} a second time, by {photo.reviewer} as {seen[place]}; keep one of them."
            )
        seen[place] = photo.where
        found = decide(photo, known)
        if found.decisions or found.search is not None:
            known.check_unchanged(photo.photo_sha256, photo.where)
        counts.update(found.remarks)
        decisions.extend(found.decisions)
        searches.extend([found.search] if found.search is not None else [])
    said = [
        f"{count_of(number, remark.thing, remark.things)}: {remark.what}." for remark, number in sorted(counts.items())
    ]
    open_photos = sum(not photo.done for photo in photos)
    if open_photos:
        said.append(f"{count_of(open_photos, 'photo')} of {source.path} not marked as done: {_NOT_DONE[kind]}.")
    if not decisions and not searches:
        said.append(f"{source.path} decides nothing; {_NOT_DONE[kind]}.")
    return DecisionFile(format=kind, decisions=tuple(decisions), searches=tuple(searches), remarks=tuple(said))
