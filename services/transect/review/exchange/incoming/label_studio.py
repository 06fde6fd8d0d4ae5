"""Read the JSON that Label Studio exports: tasks with the annotations of each person."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from transect.errors import InputError
from transect.review.decisions.decision import PixelBox
from transect.review.exchange.incoming.marks import Mark, MarkedPhoto, Remark
from transect.review.exchange.incoming.source import Source, as_number, batch_in, envelope, file_shown, text_of

_KEY = re.compile(r"[0-9a-f]{64}")
_RECTANGLE, _CHOICES, _TEXT = "rectanglelabels", "choices", "textarea"


def label_studio_photos(
    tasks: Sequence[Mapping[str, Any]], source: Source, remarks: Counter[Remark]
) -> list[MarkedPhoto]:
    """The submitted annotations of an export; others are counted in `remarks`.

    Raises InputError, naming task and annotation, for what cannot be read.
    """
    photos: list[MarkedPhoto] = []
    for number, task in enumerate(tasks, start=1):
        where = f"{source.path} task {task.get('id', number)}"
        annotations = task.get("annotations")
        if not isinstance(annotations, list) or not isinstance(task.get("data"), Mapping):
            raise InputError(f"{where} has no list of annotations; export as JSON, not as JSON-MIN.")
        submitted = [one for one in annotations if isinstance(one, Mapping) and not one.get("was_cancelled")]
        if annotations and not submitted:
            remarks[Remark("task", "tasks", "skipped by the reviewer, so they decide nothing")] += 1
        elif not annotations:
            remarks[Remark("task", "tasks", "not annotated, so they decide nothing")] += 1
        photos.extend(_photo(task, one, source, where) for one in submitted)
    return photos


def _photo(task: Mapping[str, Any], annotation: Mapping[str, Any], source: Source, where: str) -> MarkedPhoto:
    data = task["data"]
    where = f"{where} annotation {annotation.get('id')}" if annotation.get("id") is not None else where
    photo = source.photo(text_of(data.get("photo_sha256")), _name(data), where)
    result = annotation.get("result")
    if not isinstance(result, list) or not all(isinstance(one, Mapping) for one in result):
        raise InputError(f"{where} has no list of results; export as JSON.")
    marks = tuple(_marks(result, photo, source, where))
    regions = {one.get("id") for one in result if one.get("type") == _RECTANGLE}
    seconds = annotation.get("lead_time")
    return MarkedPhoto(
        where=where,
        photo_sha256=photo,
        reviewer=source.reviewer or _person(annotation.get("completed_by"), source),
        done=True,
        marks=marks,
        batch=source.batch if source.batch is not None else batch_in([data.get("batch")]),
        at=_time(annotation.get("updated_at") or annotation.get("created_at")),
        milliseconds=None if seconds is None else round(1000 * as_number(seconds, where)),
        note=" ".join(text for one in result if one.get("id") not in regions for text in _written(one)),
    )


def _name(data: Mapping[str, Any]) -> str:
    """The photo's name: ours, else the path of the image that the task shows."""
    return text_of(data.get("name")) or file_shown(text_of(data.get("image")))


def _person(completed_by: object, source: Source) -> str:
    """Who submitted an annotation, as far as the export says; else who the user named."""
    if isinstance(completed_by, Mapping):
        named = text_of(completed_by.get("email") or completed_by.get("username"))
        completed_by = named or completed_by.get("id")
        if named:
            return named
    return source.named_reviewer() if completed_by is None else f"Label Studio user {completed_by}"


def _marks(result: Sequence[Mapping[str, Any]], photo: str, source: Source, where: str) -> Iterator[Mark]:
    verdicts = {one.get("id"): _chosen(one) for one in result if one.get("type") == _CHOICES}
    notes = {one.get("id"): " ".join(_written(one)) for one in result if one.get("type") == _TEXT}
    for one in result:
        kind, region = one.get("type"), one.get("id")
        if kind in (_CHOICES, _TEXT):
            continue
        here = f"{where} region {text_of(region)[:12]}"
        value = one.get("value")
        if kind != _RECTANGLE or not isinstance(value, Mapping):
            raise InputError(f"{here} is of the type {kind}; draw rectangles alone.")
        labels = value.get(_RECTANGLE)
        if not isinstance(labels, list) or len(labels) != 1:
            raise InputError(f"{here} needs one label, and has {len(labels) if isinstance(labels, list) else 'none'}.")
        source.check_size(photo, one.get("original_width"), one.get("original_height"), here)
        meta = one.get("meta")
        kept = text_of(meta.get("box_key")) if isinstance(meta, Mapping) else ""
        yield Mark(
            where=here,
            label=text_of(labels[0]),
            box=_box(value, photo, source, here),
            # A region of its own has the tool's identifier; a copy has that, and the original's meta.
            box_key=text_of(region) if _KEY.fullmatch(text_of(region)) else kept,
            verdict=verdicts.get(region, ""),
            note=notes.get(region, ""),
        )


def _box(value: Mapping[str, Any], photo: str, source: Source, where: str) -> PixelBox:
    known = source.known.photos[photo]
    x, y, width, height = (as_number(value.get(name), where) / 100 for name in ("x", "y", "width", "height"))
    corner = (x * known.width, y * known.height)
    turn = as_number(value.get("rotation") or 0, where)
    # Label Studio turns about the first corner.
    return envelope(corner, (width * known.width, height * known.height), turn, corner)


def _chosen(one: Mapping[str, Any]) -> str:
    value = one.get("value")
    choices = value.get(_CHOICES) if isinstance(value, Mapping) else None
    return text_of(choices[0]) if isinstance(choices, list) and choices else ""


def _written(one: Mapping[str, Any]) -> list[str]:
    value = one.get("value") if one.get("type") == _TEXT else None
    texts = value.get("text") if isinstance(value, Mapping) else None
    return [text_of(text) for text in texts] if isinstance(texts, list) else []


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
