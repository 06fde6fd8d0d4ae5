"""Start a review of a finished census: freeze its boxes and photos, and draw the random order."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transect import __version__
from transect.arrays import FloatArray
from transect.census import load_survey
from transect.census.counting.tally import UNIT_REACH_M
from transect.census.estimates.estimate import StripMethod
from transect.census.ground.coverage import Coverage, assign_to_units
from transect.census.inputs.table import read_table
from transect.census.outputs.result_folder import explain_write_errors
from transect.census.outputs.writers import unescape_formula
from transect.census.saved.photos import PHOTOS_FILE, SavedPhotos, read_photos
from transect.census.saved.units import UNITS_FILE, read_units
from transect.errors import InputError
from transect.files import atomic_path, atomic_write_json, locked_if_free, private_files, sha256_file
from transect.review.folder.items import Boxes, Places, write_boxes, write_places
from transect.review.folder.manifest import (
    MANIFEST,
    Bin,
    CountedSpecies,
    Group,
    ReviewedCensus,
    ReviewedModel,
    ReviewedSurvey,
    ReviewManifest,
    read_manifest,
)
from transect.review.population.order import random_ranks
from transect.review.population.strata import expected_groups, score_bins
from transect.settings.account import user_name

REVIEWS = "reviews"
_DETECTIONS, _RESULT_MANIFEST = "detections.parquet", "manifest.json"
_NEW_COLUMNS = ("detection", "photo_sha256", "box_key", "counts")


def find_result(path: Path) -> tuple[Path, Path | None]:
    """The result folder that `path` names, and the survey folder if that was named.

    `path` is a result folder, the folder of a survey's results, whose newest is taken, or a survey folder, whose newest
    result in results/NAME is taken. Raises InputError where there is no finished result.
    """
    if (path / _RESULT_MANIFEST).is_file():
        return path, None
    if (path / "survey.yaml").is_file():
        results = Path("results") / load_survey(path).name
        return _newest(results, f"The survey {path} has no result in {results}"), path
    if not path.is_dir():
        raise InputError(f"{path} does not exist; name the result folder of a census, or a survey that was counted.")
    return _newest(path, f"{path} is no result of a census and has none in it"), None


def start_review(
    result: Path,
    *,
    name: str = "review",
    survey: Path | None = None,
    seed: int | None = None,
    others: Sequence[str] = (),
) -> Path:
    """Make the review `name` of a result folder, and return its folder `result`/reviews/NAME.

    `survey` is the folder whose photos were counted, `others` are species that reviewers may name beside those of the
    census. A review that is there with the same seed stays as it is. Raises InputError for a result of an earlier
    version or with files that changed, a name that is no name of a folder, and a review that is there with another
    seed.
    """
    folder = result / REVIEWS / _checked_name(name)
    manifest = _result_manifest(result)
    identity = f"{manifest['survey']['digest']} {manifest['run']} {name}"
    if seed is None:
        seed = int.from_bytes(hashlib.sha256(f"seed {identity}".encode()).digest()[:4], "big")
    with private_files(), explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked_if_free(folder / ".lock") as free:
            if not free:
                raise InputError(f"Another process is starting the review {folder}; wait until it has ended.")
            if (folder / MANIFEST).exists():
                _check_same(folder, seed)
                return folder
            _freeze(folder, result, manifest, name=name, seed=seed, survey=survey, others=others, identity=identity)
    return folder


def _freeze(
    folder: Path,
    result: Path,
    manifest: Mapping[str, Any],
    *,
    name: str,
    seed: int,
    survey: Path | None,
    others: Sequence[str],
    identity: str,
) -> None:
    digests = {file: _unchanged(result, manifest, file) for file in (_DETECTIONS, PHOTOS_FILE, UNITS_FILE)}
    photos = read_photos(result)
    coverage = read_units(result, photos)
    counted = _counted_species(result)
    species = tuple(one.name for one in counted)
    table = _detections(result / _DETECTIONS)
    boxes, bins, left_out = _boxes(table, photos, coverage, species, seed)
    places, groups = _places(photos, coverage, boxes, seed)
    model, options = manifest["model"], manifest["options"]
    record = ReviewManifest(
        id=hashlib.sha256(f"review {identity} {seed}".encode()).hexdigest()[:32],
        name=name,
        seed=seed,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        created_by=user_name("unknown"),
        transect_version=__version__,
        survey=ReviewedSurvey(
            name=manifest["survey"]["name"],
            digest=manifest["survey"]["digest"],
            sampling=manifest["survey"]["sampling"],
            folder=None if survey is None else str(survey.absolute()),
        ),
        census=ReviewedCensus(
            run=manifest["run"], method=cast(StripMethod, manifest["config"]["method"]), files=digests
        ),
        model=ReviewedModel(
            name=str(model["name"] or ""),
            version=str(model["version"] or ""),
            run_id=str(model["run_id"] or ""),
            package_sha256=model["package_sha256"],
            conf=options["conf"],
            iou=options["iou"],
            review_conf=manifest["config"].get("review_conf"),
        ),
        species=species,
        others=tuple(one for one in dict.fromkeys(others) if one not in species),
        counted=counted,
        bins=bins,
        groups=groups,
        left_out=left_out,
    )
    for file in (PHOTOS_FILE, UNITS_FILE):
        with atomic_path(folder / file) as temporary:
            shutil.copyfile(result / file, temporary)
    write_boxes(folder, boxes, species)
    write_places(folder, places)
    # Last: a folder that has it is complete.
    atomic_write_json(folder / MANIFEST, record.model_dump(mode="json"))


def _boxes(
    table: pa.Table, photos: SavedPhotos, coverage: Coverage, species: tuple[str, ...], seed: int
) -> tuple[Boxes, tuple[Bin, ...], dict[str, int]]:
    looks = table["looks"].to_numpy()
    placed = table["easting"].is_valid().to_numpy()
    kept = looks > 0
    left_out = {
        "in photos without a position": int((~placed).sum()),
        "with their middle in another photo": int((placed & ~kept).sum()),
    }
    table = table.filter(pa.array(kept))
    keys = table["box_key"]
    number = pc.index_in(table["photo_sha256"], value_set=pa.array(photos.sha256, pa.string())).to_numpy()
    kinds = pc.index_in(table["species"], value_set=pa.array(species, pa.string())).to_numpy()
    score, counted = table["score"].to_numpy(), table["counts"].to_numpy(zero_copy_only=False)
    bins, bin_of = score_bins(species, kinds.astype(np.int64), score, counted)
    many = np.bincount(bin_of, minlength=len(bins)).tolist()
    boxes = Boxes(
        key=keys,
        photo=number.astype(np.int64),
        species=kinds.astype(np.int64),
        class_name=table["class_name"],
        score=score,
        box=np.stack([table[side].to_numpy() for side in ("x1", "y1", "x2", "y2")], axis=-1),
        counted=counted,
        looks=looks[kept],
        unit=assign_to_units(_places_of(table), coverage, UNIT_REACH_M),
        bin=bin_of,
        rank=random_ranks(seed, _texts(keys)),
    )
    found = tuple(
        Bin(species=one.species, low=one.low, high=one.high, counted=one.counted, boxes=number)
        for one, number in zip(bins, many, strict=True)
    )
    return boxes, found, left_out


def _places(photos: SavedPhotos, coverage: Coverage, boxes: Boxes, seed: int) -> tuple[Places, tuple[Group, ...]]:
    unit = np.full(len(photos), -1, np.int64)
    for row, one in enumerate(coverage.units):
        unit[list(one.frames)] = row
    rows = np.array([row for row, view in enumerate(photos.views) if view is not None], np.int64)
    group_of = np.full(len(photos), -1, np.int64)
    groups, group_of[rows] = expected_groups(expected_animals(boxes, len(photos))[rows])
    many = np.bincount(group_of[rows], minlength=len(groups)).tolist()
    found = tuple(
        Group(low=one.low, high=None if np.isinf(one.high) else one.high, photos=number)
        for one, number in zip(groups, many, strict=True)
    )
    return Places(unit=unit, group=group_of, rank=random_ranks(seed, photos.sha256)), found


def expected_animals(boxes: Boxes, photos: int) -> FloatArray:
    """The animals to expect in each photo (P,) before anybody looked: the scores of boxes that count, weighted."""
    value = np.where(boxes.counted, boxes.score, 0.0) * boxes.weight
    return np.bincount(boxes.photo, value, minlength=photos).astype(np.float64)


def _places_of(table: pa.Table) -> FloatArray:
    return np.stack([table["easting"].to_numpy(), table["northing"].to_numpy()], axis=-1)


def _texts(column: pa.ChunkedArray) -> Any:
    for chunk in column.chunks:
        yield from chunk.to_pylist()


def _detections(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {error}; run the census again.") from error
    if missing := [name for name in _NEW_COLUMNS if name not in table.column_names]:
        raise InputError(
            f"{path} has no column {missing[0]}: an earlier version of Transect wrote it; run the census again, which "
            "takes what was found from its cache."
        )
    return table


def _counted_species(result: Path) -> tuple[CountedSpecies, ...]:
    found = []
    columns = ("species", "seen", "unique", "single_look", "detector")
    for row in read_table(result / "counts.csv", columns, InputError):
        name = unescape_formula(row.cells["species"])
        limits = (row.number("ci95_low"), row.number("ci95_high"))
        found.append(
            CountedSpecies(
                name=name,
                seen=row.count("seen"),
                single_look=row.number("single_look") or 0.0,
                unique=row.count("unique"),
                corrected=row.number("corrected"),
                estimate=row.number("estimate"),
                ci95=None if limits[0] is None or limits[1] is None else (limits[0], limits[1]),
                detector=row.cells["detector"],
                note=unescape_formula(row.cells.get("note", "")),
            )
        )
    return tuple(found)


def _result_manifest(result: Path) -> dict[str, Any]:
    path = result / _RESULT_MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        _ = (manifest["survey"]["digest"], manifest["run"], manifest["files"], manifest["model"], manifest["config"])
    except FileNotFoundError as error:
        raise InputError(f"{result} has no {_RESULT_MANIFEST}, so its census did not end; run it again.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not what a census writes; run the census again.") from error
    return cast(dict[str, Any], manifest)


def _unchanged(result: Path, manifest: Mapping[str, Any], file: str) -> str:
    """The SHA-256 of a file of a result, which must be that of its manifest."""
    known = manifest["files"].get(file)
    if known is None:
        raise InputError(
            f"{result} has no {file}: an earlier version of Transect counted it; run the census again, which takes "
            "what was found from its cache."
        )
    try:
        digest = sha256_file(result / file)
    except OSError as error:
        raise InputError(f"{result / file} cannot be read: {error.strerror or error}; run the census again.") from error
    if digest != known["sha256"]:
        raise InputError(f"{result / file} was changed after the census; run the census again, and review that.")
    return digest


def _newest(results: Path, otherwise: str) -> Path:
    found = []
    for path in results.glob(f"*/{_RESULT_MANIFEST}"):
        try:
            found.append((str(json.loads(path.read_text(encoding="utf-8"))["created_at"]), path.parent))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    if not found:
        raise InputError(f"{otherwise}; run `transect census run` first, or name the result folder.")
    return max(found)[1]


def _checked_name(name: str) -> str:
    if not name.strip() or name != name.strip() or set(name) & set('/\\:*?"<>|\0') or name.startswith("."):
        raise InputError(f"{name!r} is no name for a review: it names a folder, so give letters and digits.")
    return name


def _check_same(folder: Path, seed: int) -> None:
    there = read_manifest(folder)
    if there.seed != seed:
        raise InputError(
            f"{folder} is a review with the seed {there.seed}; give another --name for one with the seed {seed}."
        )
