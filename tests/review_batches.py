"""A batch of a review with real photos: umlaut and blank in names, one name in two folders, EXIF, a blind one."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from transect.files import sha256_file
from transect.review.decisions.decision import PixelBox
from transect.review.exchange.batch import BatchBox, BatchPhoto, HandedOut, ReviewBatch, ShownBox
from transect.review.exchange.known import KnownBox, KnownItems, KnownPhoto
from transect.review.exchange.outgoing.export import ExportFormat, export_batch

SPECIES = ("sheep", "goat", "cow")
ONE, OTHER, BLIND, CROPS = "T1/a ü.jpg", "T2/a ü.jpg", "T2/b & c.png", "big.jpg"
# As they are seen: the first is stored on its side.
SIZES = {ONE: (160, 240), OTHER: (240, 160), BLIND: (200, 150), CROPS: (400, 300)}
# Image, species, box, and whether chance drew it as a crop.
BOXES: tuple[tuple[str, str, PixelBox, bool], ...] = (
    (ONE, "sheep", (20.0, 30.0, 44.5, 52.2), True),
    (ONE, "goat", (100.0, 200.0, 130.0, 228.1), False),
    (ONE, "sheep", (60.3, 120.7, 80.0, 141.0), False),
    (OTHER, "sheep", (20.0, 30.0, 44.5, 52.2), True),
    (BLIND, "cow", (50.0, 50.0, 90.0, 80.0), False),
    (CROPS, "goat", (0.0, 0.0, 12.0, 9.0), True),
    (CROPS, "sheep", (380.0, 280.0, 400.0, 300.0), True),
)


@dataclass(frozen=True)
class Sample:
    """A batch, what its review knows, and the keys of BOXES and hashes of the photos."""

    folder: Path
    batch: ReviewBatch
    known: KnownItems
    keys: tuple[str, ...]
    photos: dict[str, str]

    def box(self, number: int) -> PixelBox:
        return BOXES[number][2]


def make_sample(folder: Path) -> Sample:
    """The photos ONE and BLIND are searched, BLIND blind; OTHER and CROPS have boxes to decide alone."""
    rng = np.random.default_rng(7)
    for image, (width, height) in SIZES.items():
        squares = rng.integers(40, 200, (height // 10, width // 10, 3), np.uint8)
        pixels = squares.repeat(10, axis=0).repeat(10, axis=1)
        for name, species, (x1, y1, x2, y2), _ in BOXES:
            if name == image:
                pixels[int(y1) : int(y2), int(x1) : int(x2)] = (255, 60 * SPECIES.index(species), 0)
        _write(folder / image, pixels, turned=image == ONE)
    photos = {image: sha256_file(folder / image) for image in SIZES}
    keys = tuple(
        hashlib.sha256(f"{photos[image]} {species} {' '.join(f'{one:.1f}' for one in box)}".encode()).hexdigest()
        for image, species, box, _ in BOXES
    )
    boxes = tuple(
        BatchBox(
            box_key=key,
            photo_sha256=photos[image],
            image=image,
            path=folder / image,
            box=box,
            species=species,
            class_name=species,
            gsd_m=0.05 if image == CROPS else None,
            drawn="sample",
        )
        for key, (image, species, box, drawn) in zip(keys, BOXES, strict=True)
        if drawn
    )
    searched = tuple(
        BatchPhoto(
            photo_sha256=photos[image],
            image=image,
            path=folder / image,
            width=SIZES[image][0],
            height=SIZES[image][1],
            gsd_m=None,
            blind=image == BLIND,
            drawn="sample",
            boxes=tuple(
                ShownBox(key, box, species)
                for key, (name, species, box, _) in zip(keys, BOXES, strict=True)
                if name == image
            ),
        )
        for image in (ONE, BLIND)
    )
    batch = ReviewBatch(
        review_id="plain-1", batch=1, survey_name="Gr. Ebene", species=SPECIES, boxes=boxes, photos=searched
    )
    known = KnownItems(
        review_id="plain-1",
        species=SPECIES,
        boxes={
            key: KnownBox(photos[image], box, species, species)
            for key, (image, species, box, _) in zip(keys, BOXES, strict=True)
        },
        photos={photos[image]: KnownPhoto(image, *size) for image, size in SIZES.items()},
        batches={1: HandedOut.of(batch)},
    )
    return Sample(folder, batch, known, keys, photos)


TOOL_FILES: dict[ExportFormat, str] = {
    "coco": "instances.json",
    "cvat": "annotations.xml",
    "label-studio": "tasks.json",
}
"""The file that each labelling tool is given."""


def tool_texts(sample: Sample, folder: Path) -> dict[ExportFormat, str]:
    """What each labelling tool is given; `folder` takes the exports."""
    texts = {}
    for kind, name in TOOL_FILES.items():
        export_batch(sample.batch, folder / kind, kind, max_pixels=None)
        texts[kind] = (folder / kind / name).read_text(encoding="utf-8")
    return texts


def _write(path: Path, pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", *, turned: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if path.suffix == ".png":
        picture.save(path)
        return
    exif = Image.Exif()
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "S", (1.0, 30.0, 0.0), "E", (36.0, 15.0, 0.0)
    exif[0x010F] = "MakerOfCameras"
    if turned:
        # 6: the stored picture is to be turned clockwise to be seen.
        exif[0x0112] = 6
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    picture.save(path, quality=95, subsampling=0, exif=exif)
