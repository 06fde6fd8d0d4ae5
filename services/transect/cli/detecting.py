"""File processing of `transect detect`: a line of JSON per image, and an optional annotated copy."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from transect.engine import DetectOptions, Detector, ImageResult
from transect.errors import ImageError, InputError
from transect.files import atomic_write
from transect.imagery import LONGEST_JPEG_SIDE, Raster, annotate, encode_jpeg, open_raster
from transect.pictures.files import count_reasons, find_pictures
from transect.pictures.kinds import READ_NAMES
from transect.wording import count_of

logger = logging.getLogger(__name__)

# One image is searched while the next is decoded.
_CONCURRENT_IMAGES = 2


@dataclass(frozen=True)
class Line:
    """One image's result as the Detection contract on one line, and whether it could be searched."""

    text: str
    failed: bool


@dataclass(frozen=True)
class InputImages:
    """The images of the arguments, including those below folders; `refused` has the reasons of unreadable ones."""

    images: tuple[Path, ...]
    refused: Mapping[Path, str]


def find_images(paths: Sequence[Path]) -> InputImages:
    """Find the images of files and folders; folders are searched recursively.

    Logs the kinds and numbers of files skipped below a folder. Raises InputError for a folder that cannot be read,
    or contains no picture.
    """
    images: dict[Path, None] = {}
    refused: dict[Path, str] = {}
    for path in paths:
        if not path.is_dir():
            images[path] = None
            continue
        found = find_pictures(path, InputError)
        if not found.pictures and not found.unusable:
            raise InputError(f"{path} contains no pictures ({READ_NAMES}).")
        unusable = {one.path: f"{one.path} {one.reason}." for one in found.unusable}
        refused |= unusable
        images |= dict.fromkeys(sorted([*found.pictures, *unusable]))
        if found.left_out:
            kinds = ", ".join(f"{count} {reason}" for reason, count in count_reasons(found.left_out).items())
            files = count_of(len(found.left_out), "file is", "files are")
            logger.info("%s: %s left out: %s.", path, files, kinds)
    return InputImages(tuple(images), refused)


def detect_files(
    detector: Detector, inputs: InputImages, options: DetectOptions, *, out: Path | None, max_pixels: int
) -> Iterator[Line]:
    """Search each image; results in the order of `inputs.images`, and drawn copies below `out`.

    Copies keep the path below the images' common folder, so that equal names do not collide. An
    unreadable image yields a line with the reason; images too large to draw and remarks on reading are logged.
    Raises InputError if `out` cannot be written.
    """
    images = inputs.images
    places = [Path(os.path.normpath(path.absolute())) for path in images]
    common = os.path.commonpath([place.parent for place in places])
    below = {place: place.relative_to(common) for place in places}
    names = frozenset(below.values())

    def line(result: ImageResult) -> Line:
        return Line(json.dumps(result.to_json()), failed=result.failure is not None)

    def one(path: Path, place: Path) -> Line:
        if path in inputs.refused:
            return line(ImageResult.failed(str(path), detector.ref, inputs.refused[path]))
        try:
            with open_raster(path, max_pixels=max_pixels) as raster:
                for remark in raster.remarks:
                    logger.warning("%s: %s", path, remark)
                result = detector.detect(raster, name=str(path), options=options, fifo=True)
                if out is not None:
                    _draw(raster, result, out / _copy(below[place], names))
        except ImageError as error:
            result = ImageResult.failed(str(path), detector.ref, str(error))
        return line(result)

    pool = ThreadPoolExecutor(_CONCURRENT_IMAGES)
    try:
        yield from pool.map(one, images, places)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _copy(image: Path, inputs: Set[Path]) -> Path:
    """The path of the drawn copy, which is a JPEG: b.png becomes b.png.jpg, beside that of b.jpg.

    Where b.png.jpg is itself among the `inputs`, whose copies keep their names, it becomes b.png.jpg.jpg.
    """
    if image.suffix.lower() in (".jpg", ".jpeg"):
        return image
    copy = image.with_name(f"{image.name}.jpg")
    while copy in inputs:
        copy = copy.with_name(f"{copy.name}.jpg")
    return copy


def _draw(raster: Raster, result: ImageResult, target: Path) -> None:
    if raster.pixels is None or max(raster.width, raster.height) > LONGEST_JPEG_SIDE:
        logger.warning(
            "%s has %d x %d pixels, too many to draw; its detections are only in the JSON line.",
            result.image,
            raster.width,
            raster.height,
        )
        return
    picture = encode_jpeg(annotate(raster.pixels, result.detections))
    try:
        atomic_write(target, picture)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}.") from error
