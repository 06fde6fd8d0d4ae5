"""Write the files of a review's estimate into its folder: JSON, CSV and COCO. Equal decisions give equal bytes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transect.census.outputs.writers import encode, write_csv, write_json
from transect.files import atomic_write_json
from transect.review.decisions.decision import Decision, PhotoSearch
from transect.review.outcome.record import standing_boxes
from transect.review.verdicts.truth import Answers, Truth

ESTIMATE, COUNTS, DECISIONS, COCO = "estimate.json", "counts.csv", "decisions.csv", "coco.json"
_COUNT_COLUMNS = (
    *("species", "machine_seen", "machine_single_look", "machine_unique", "machine_corrected"),
    *("machine_estimate", "machine_ci95_low", "machine_ci95_high", "flown", "flown_se", "flown_ci95_low"),
    *("flown_ci95_high", "seen", "precision", "precision_se", "recall", "recall_se", "recall_as_called"),
    *("recall_as_called_se", "estimate", "se", "ci95_low", "ci95_high", "unknown", "note"),
)
_DECISION_COLUMNS = (
    *("kind", "image", "photo_sha256", "box_key", "called", "score", "verdict", "species", "reviewer", "decided_at"),
    *("seconds", "drawn", "sampled", "stands", "settles", "blind", "added", "note", "uuid", "supersedes"),
)


def write_numbers(folder: Path, record: Mapping[str, Any]) -> None:
    """Write estimate.json and counts.csv."""
    atomic_write_json(folder / ESTIMATE, record)
    write_csv(folder / COUNTS, _COUNT_COLUMNS, [_count_row(one) for one in record["species"]])


def write_decisions(folder: Path, truth: Truth, answers: Answers) -> None:
    """Write decisions.csv: every decision and search that was ever taken in, and whether it stands."""
    standing = {one.uuid for ones in truth.decided.values() for one in ones}
    standing |= {one.uuid for searches in truth.searches.values() for one in searches}
    items = truth.items
    rows = items.boxes.rows_of([one.box_key for one in answers.decisions]).tolist()
    image = {items.photos.sha256[row]: items.photos.image[row] for row in range(len(items.photos))}
    box_sample, photo_sample = truth.cells.box_sample, truth.cells.photo_sample
    lines: list[tuple[tuple[str, ...], Sequence[Any]]] = []
    for one, row in zip(answers.decisions, rows, strict=True):
        called = items.manifest.species[items.boxes.species[row]] if row >= 0 else ""
        score = float(items.boxes.score[row]) if row >= 0 else None
        cells = [
            *("box", image.get(one.photo_sha256, ""), one.photo_sha256, one.box_key, called, score, one.verdict),
            *(
                one.species,
                one.reviewer,
                _time(one),
                _seconds(one),
                "sample" if row >= 0 and not truth.box_chosen[row] else "choice",
            ),
            *(bool(row >= 0 and box_sample[row]), one.uuid in standing, one.settles, None, None, one.note, one.uuid),
            one.supersedes,
        ]
        lines.append((("box", image.get(one.photo_sha256, ""), one.box_key, one.reviewer, one.uuid), cells))
    for search in answers.searches:
        at = items.number_of.get(search.photo_sha256, -1)
        cells = [
            *("photo", image.get(search.photo_sha256, ""), search.photo_sha256, "", "", None, "searched", ""),
            *(search.reviewer, _time(search), _seconds(search)),
            "sample" if at >= 0 and not truth.photo_chosen[at] else "choice",
            *(bool(at >= 0 and photo_sample[at]), search.uuid in standing, search.settles, search.blind),
            *(_added(search), search.note, search.uuid, search.supersedes),
        ]
        lines.append((("photo", image.get(search.photo_sha256, ""), "", search.reviewer, search.uuid), cells))
    write_csv(folder / DECISIONS, _DECISION_COLUMNS, (cells for _, cells in sorted(lines, key=lambda line: line[0])))


def write_coco(folder: Path, truth: Truth) -> None:
    """Write coco.json: the boxes that people call animals, and the animals that they added.

    An image is there for each photo with a decision or a search; `searched` says whether it was searched in full.
    """
    items, names = truth.items, truth.items.manifest.named
    photos, boxes = items.photos, items.boxes
    rows = {int(boxes.photo[row]) for row in truth.finding}
    searched = {int(items.searchable[at]) for at in truth.searches}
    shown = sorted(rows | searched)
    head = {
        "info": {
            "description": f"Animals of {items.manifest.survey.name} as people see them",
            "review": items.manifest.id,
            "census_run": items.manifest.census.run,
        },
        "licenses": [],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
    }
    images = (
        encode(
            {
                "id": row + 1,
                "file_name": photos.image[row],
                "width": int(photos.size[row, 0]),
                "height": int(photos.size[row, 1]),
                "photo_sha256": photos.sha256[row],
                "searched": row in searched,
            }
        )
        for row in shown
    )
    write_json(folder / COCO, head, {"images": images, "annotations": _annotations(truth, names)})


def _annotations(truth: Truth, names: Sequence[str]) -> Iterator[str]:
    boxes, number = truth.items.boxes, 0
    marked: list[tuple[int, Sequence[float], str, dict[str, Any]]] = [
        (
            int(boxes.photo[row]),
            boxes.box[row].tolist(),
            species,
            {"reviewer": people, "box_key": boxes.key[row].as_py()},
        )
        for row, species, people in standing_boxes(truth)
    ]
    marked += [
        (int(truth.items.searchable[one.photo]), one.box, one.species, {"added": True, "weight": one.weight})
        for one in truth.missed
    ]
    marked.sort(key=lambda one: (one[0], tuple(one[1]), one[2]))
    for number, (photo, (x1, y1, x2, y2), species, more) in enumerate(marked, start=1):
        yield encode(
            {
                "id": number,
                "image_id": photo + 1,
                "category_id": names.index(species) + 1,
                "bbox": [round(x1, 2), round(y1, 2), round(x2 - x1, 2), round(y2 - y1, 2)],
                "area": round((x2 - x1) * (y2 - y1), 2),
                "iscrowd": 0,
                **more,
            }
        )


def _count_row(one: Mapping[str, Any]) -> list[Any]:
    machine = one["machine"] or {}
    whole = one["strata"][-1] if one["strata"] else {}
    return [
        one["species"],
        *(machine.get(name) for name in ("seen", "single_look", "unique", "corrected", "estimate")),
        *_pair(machine.get("ci95")),
        *(one["flown"], one["flown_se"], *_pair(one["flown_ci95"]), one["seen"]),
        *(one[name] for name in ("precision", "precision_se", "recall", "recall_se")),
        *(one["recall_as_called"], one["recall_as_called_se"]),
        *(whole.get("estimate"), whole.get("se"), *_pair(whole.get("ci95"))),
        "; ".join(one["unknown"]),
        whole.get("note", ""),
    ]


def _pair(limits: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (None, None) if limits is None else (limits[0], limits[1])


def _time(one: Decision | PhotoSearch) -> str:
    made_at = one.decided_at if isinstance(one, Decision) else one.done_at
    return "" if made_at is None else made_at.isoformat()


def _seconds(one: Decision | PhotoSearch) -> float | None:
    return None if one.milliseconds is None else one.milliseconds / 1000


def _added(search: PhotoSearch) -> str:
    """The animals that a search added, as `species x1 y1 x2 y2`, with semicolons."""
    return "; ".join(
        f"{one.species} {' '.join(f'{value:.1f}' for value in one.box)}"
        for one in sorted(search.added, key=lambda one: (one.box, one.species))
    )
