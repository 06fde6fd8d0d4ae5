"""Make a YOLO training set of what people decided: photos searched in full, and tiles around decided crops."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from transect.arrays import IntArray
from transect.errors import InputError
from transect.files import atomic_write, private_files
from transect.imagery import open_raster
from transect.progress import progress
from transect.review.dataset.splits import Split, ground_of, split_by_ground, without_shared_ground
from transect.review.dataset.tiles import Labelled, Window, grid_windows, labels_in, window_around
from transect.review.exchange.outgoing.unchanged import require_unchanged
from transect.review.verdicts.added import covered
from transect.review.verdicts.current import settled
from transect.review.verdicts.truth import Truth

_QUALITY = 95


@dataclass(frozen=True)
class ReviewDataset:
    """A set in `folder`: images and boxes of each split, and how many decided crops no tile could take."""

    folder: Path
    splits: Mapping[str, tuple[int, int]]
    unused: int
    shared: int


@dataclass(frozen=True, eq=False, kw_only=True)
class _Photo:
    """A photo to cut: its row, what is known in it, whether all of it is, and the decided boxes of the others."""

    row: int
    labelled: Labelled
    whole: bool
    decided: tuple[tuple[float, ...], ...]


def make_review_dataset(truth: Truth, out: Path, *, survey: Path, tile: int, max_pixels: int | None) -> ReviewDataset:
    """Write `out`/data.yaml, images and labels for training and validation.

    Photos that were searched in full are cut into tiles, with and without animals. Of other photos the tiles around
    crops are taken in which every box was decided. Transects, or blocks of 250 m where there are few, are divided and
    not photos, and a training photo shows no ground of validation. There is no test split: the count rests on these
    photos, so that a model must be tested on others. Tiles have the scale at which the census searched.

    Raises InputError for an `out` that is not empty, and where nothing can be learned yet.
    """
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; name a new folder for the training set.")
    photos = list(_photos(truth))
    if not any(len(one.labelled.boxes) for one in photos):
        raise InputError(
            f"{truth.items.folder} has no decided animal yet from which a model could learn; export, decide and import "
            "first."
        )
    splits = _splits(truth, photos)
    counts: dict[str, tuple[int, int]] = {"train": (0, 0), "val": (0, 0)}
    unused = 0
    with private_files(), progress("Cutting training images", len(photos), "photos") as advance:
        for one in photos:
            advance()
            split = splits.get(one.row)
            if split is None:
                continue
            made, boxes, left = _cut(truth, one, out, split, survey=survey, tile=tile, max_pixels=max_pixels)
            images, before = counts[split]
            counts[split] = images + made, before + boxes
            unused += left
        for name, (images, boxes) in counts.items():
            if images == 0 or boxes == 0:
                raise InputError(
                    f"The decided animals lie on too little ground to divide: {name} would have {images} images with "
                    f"{boxes} boxes; decide crops or search photos on more transects."
                )
        _write_yaml(truth, out)
    return ReviewDataset(out, counts, unused, len(photos) - len(splits))


def _photos(truth: Truth) -> Iterator[_Photo]:
    items = truth.items
    names = items.manifest.named
    rows = {int(items.boxes.photo[row]) for row in truth.finding}
    rows |= {int(items.searchable[at]) for at in truth.searches}
    class_of = {name: at for at, name in enumerate(names)}
    for row, mine in items.boxes.in_photos(sorted(rows)).items():
        yield _photo(truth, row, int(items.number[row]), mine, class_of)


def _photo(truth: Truth, row: int, at: int, mine: IntArray, class_of: Mapping[str, int]) -> _Photo:
    boxes, finding = truth.items.boxes, truth.finding
    animals = [(boxes.box[box].tolist(), finding[box].species) for box in mine.tolist() if _is(truth, box, "animal")]
    unsure = [boxes.box[box].tolist() for box in mine.tolist() if _is(truth, box, "unsure")]
    undecided = [boxes.box[box].tolist() for box in mine.tolist() if box not in finding]
    searches = settled(truth.searches.get(at, ()))
    blind = bool(searches) and any(one.blind for one in searches)
    marked = [(list(one.box), one.species) for search in searches for one in search.added]
    if marked:
        # Where a decided box and a mark are of one animal, the box of the model fits it better.
        hit, _ = covered(
            np.array([box for box, _ in marked]), np.array([box for box, _ in animals], np.float64).reshape(-1, 4)
        )
        animals += [one for one, known in zip(marked, hit.tolist(), strict=True) if not known]
    # Whoever searched without the boxes marked every animal; else an undecided box may be one.
    whole = bool(searches) and (blind or not undecided)
    labelled = Labelled(
        boxes=np.array([box for box, _ in animals], np.float64).reshape(-1, 4),
        classes=np.array([class_of[species] for _, species in animals], np.int64),
        open_boxes=np.array(unsure + ([] if whole else undecided), np.float64).reshape(-1, 4),
    )
    decided = tuple(tuple(boxes.box[box].tolist()) for box in mine.tolist() if box in finding)
    return _Photo(row=row, labelled=labelled, whole=whole, decided=decided)


def _is(truth: Truth, box: int, finding: str) -> bool:
    return box in truth.finding and truth.finding[box].finding == finding


def _splits(truth: Truth, photos: list[_Photo]) -> dict[int, Split]:
    saved = truth.items.photos
    transects = [
        None if (name := saved.transect[one.row]) is None else (saved.stratum[one.row] or "", name) for one in photos
    ]
    middles = []
    for one in photos:
        view = saved.views[one.row]
        assert view is not None  # noqa: S101 - the population has photos with a position alone
        middles.append((view.x, view.y))
    drawn = split_by_ground(
        truth.items.manifest.seed,
        ground_of(transects, middles),
        [len(one.labelled.boxes) for one in photos],
    )
    shapes = {one.row: shape for one in photos if (shape := saved.shapes[one.row]) is not None}
    by_row = {one.row: split for one, split in zip(photos, drawn, strict=True) if one.row in shapes}
    return without_shared_ground(by_row, shapes)


def _cut(
    truth: Truth, photo: _Photo, out: Path, split: Split, *, survey: Path, tile: int, max_pixels: int | None
) -> tuple[int, int, int]:
    """Write the tiles of one photo; how many, with how many boxes, and how many decided crops are in none."""
    saved = truth.items.photos
    image, scale = saved.image[photo.row], float(saved.scale[photo.row])
    path = survey / "images" / image
    side = max(round(tile / scale), 1) if np.isfinite(scale) and scale > 0 else tile
    width, height = saved.size[photo.row].tolist()
    found = dict(_windows(photo, width, height, side))
    left = (
        0
        if photo.whole
        else sum(labels_in(window_around(box, width, height, side), photo.labelled) is None for box in photo.decided)
    )
    if not found:
        return 0, 0, left
    require_unchanged(path, saved.sha256[photo.row], str(path))
    boxes = 0
    with open_raster(path, name=image, max_pixels=max_pixels, rendering=saved.rendering[photo.row]) as raster:
        for window, rows in found.items():
            stem = f"{saved.sha256[photo.row][:16]}_{window[0]}_{window[1]}"
            pixels = Image.fromarray(np.ascontiguousarray(raster.read(*window)))
            if side != tile:
                shape = (round(window[2] * scale), round(window[3] * scale))
                pixels = pixels.resize(shape, Image.Resampling.BILINEAR)
            stream = io.BytesIO()
            pixels.save(stream, "JPEG", quality=_QUALITY)
            text = "".join(f"{kind} {' '.join(f'{value:.6f}' for value in row)}\n" for kind, *row in rows)
            for folder in ("images", "labels"):
                (out / folder / split).mkdir(parents=True, exist_ok=True)
            atomic_write(out / "labels" / split / f"{stem}.txt", text)
            atomic_write(out / "images" / split / f"{stem}.jpg", stream.getvalue())
            boxes += len(rows)
    return len(found), boxes, left


def _windows(
    photo: _Photo, width: int, height: int, side: int
) -> Iterator[tuple[Window, list[tuple[int, float, float, float, float]]]]:
    if photo.whole:
        windows: list[Window] = list(grid_windows(width, height, side))
        # A grid cuts animals at its lines; a window around each shows it whole.
        windows += [window_around(box, width, height, side) for box in photo.labelled.boxes.tolist()]
    else:
        windows = [window_around(box, width, height, side) for box in photo.decided]
    for window in dict.fromkeys(windows):
        rows = labels_in(window, photo.labelled)
        if rows is not None:
            yield window, rows


def _write_yaml(truth: Truth, out: Path) -> None:
    manifest = truth.items.manifest
    document: dict[str, Any] = {
        "path": ".",
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(manifest.named)),
        "review": {
            "id": manifest.id,
            "survey": manifest.survey.name,
            "survey_digest": manifest.survey.digest,
            "census_run": manifest.census.run,
            "model_run_id": manifest.model.run_id,
        },
    }
    # Last: a folder that has it is complete.
    atomic_write(out / "data.yaml", yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
