"""A YOLO training set cut from scenes with ground truth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from transect.errors import InputError
from transect.progress import progress
from transect.synth.animals.species import SPECIES
from transect.synth.domains import Domain, survey_background, survey_tile, wide_tile
from transect.synth.output import build_folder, is_finished, map_in_processes, write_jpeg
from transect.synth.scene import Picture, render

_SPLITS = ("train", "val", "test")
_BACKGROUND = len(_SPLITS)
_DOMAINS = {"survey": survey_tile, "wide": wide_tile}
_SPACING_M = 500.0


@dataclass(frozen=True, kw_only=True)
class _Job:
    folder: Path
    seed: int
    domain: Domain
    split: int
    index: int
    tile: int


def make_dataset(
    out: Path,
    *,
    seed: int = 0,
    train: int = 240,
    val: int = 48,
    test: int = 72,
    tile: int = 640,
    domain: Domain = "survey",
    background: int = 0,
    processes: int = 2,
) -> Path:
    """Make `out/images/{train,val,test}`, `out/labels/...` and `out/data.yaml`; return the latter.

    `background` pictures of empty ground go into `out/images/background`: the survey's own ground, at random, with no
    more decoys than a survey has.

    The splits lie on ground of their own. A finished set of the same parameters is left as it is;
    the pictures do not depend on `processes`.

    seed: non-negative. train, val, test: pictures a split. tile: side of a picture in pixels (64..2048).
    domain: "survey" is like `make_survey`'s frames cut into tiles, "wide" any ground, light and camera. background: 0
    or more, in the domain "survey".
    Raises InputError for a bad parameter or when `out` contains other files.
    """
    counts = (train, val, test)
    if min(counts) < 1 or seed < 0 or not 64 <= tile <= 2048 or domain not in _DOMAINS:
        raise InputError(
            "A synthetic training set needs at least 1 picture a split, a seed from 0 on, "
            f"a tile of 64 to 2048 px and a domain of {' or '.join(_DOMAINS)}."
        )
    if background < 0 or (background and domain != "survey"):
        raise InputError('Empty ground is 0 pictures or more, and of the domain "survey": others have no survey.')
    parameters = {
        "kind": "dataset", "seed": seed, "train": train, "val": val, "test": test, "tile": tile, "domain": domain,
    }  # fmt: skip
    # Parameters newer than the first sets are included only where they are used.
    parameters |= {"background": background} if background else {}
    if is_finished(out, parameters):
        return out / "data.yaml"
    with build_folder(out, parameters) as part:
        jobs = [
            _Job(folder=part, seed=seed, domain=domain, split=split, index=index, tile=tile)
            for split, count in enumerate((*counts, background))
            for index in range(count)
        ]
        with progress(f"Making {domain} training set", len(jobs), "tiles") as advance:
            for _ in map_in_processes(_make_tile, jobs, processes):
                advance()
        # No `path`: the folder stays valid wherever it is moved.
        description = {name: f"images/{name}" for name in _SPLITS} | {"names": {s.index: s.name for s in SPECIES}}
        (part / "data.yaml").write_text(yaml.safe_dump(description, sort_keys=False), encoding="utf-8")
    return out / "data.yaml"


def _make_tile(job: _Job) -> None:
    domain = tuple(_DOMAINS).index(job.domain)
    world = int(np.random.SeedSequence((job.seed, domain, job.split)).generate_state(1)[0])
    rng = np.random.default_rng((job.seed, domain, job.split, job.index))
    empty = job.split == _BACKGROUND
    draw = survey_background if empty else _DOMAINS[job.domain]
    scene, view, optics = draw(rng, job.tile, (_SPACING_M * (job.index + 0.5), 0.0), world)
    picture = render(scene, view, optics, int(rng.integers(1 << 31)))
    split, name = "background" if empty else _SPLITS[job.split], f"{job.domain}_{job.index:05d}"
    write_jpeg(job.folder / "images" / split / f"{name}.jpg", picture.pixels, optics.quality)
    if empty:
        return
    labels = job.folder / "labels" / split / f"{name}.txt"
    labels.parent.mkdir(parents=True, exist_ok=True)
    labels.write_text(label_text(picture), encoding="ascii")


def label_text(picture: Picture) -> str:
    """Labels in YOLO's format: class, then centre and size of the box over the picture's size."""
    height, width = picture.pixels.shape[:2]
    lines = []
    for box in picture.boxes:
        x, y = (box.x1 + box.x2) / 2 / width, (box.y1 + box.y2) / 2 / height
        lines.append(
            f"{box.animal.species} {x:.6f} {y:.6f} {(box.x2 - box.x1) / width:.6f} {(box.y2 - box.y1) / height:.6f}\n"
        )
    return "".join(lines)
