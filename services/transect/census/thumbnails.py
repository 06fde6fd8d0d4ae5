"""Cut-outs of photos with their boxes, as JPEG inside the report."""

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from transect.census.charts import palette_index
from transect.census.observations import Observations
from transect.census.positions import Frame
from transect.errors import ImageError
from transect.imagery import Raster, annotate, open_raster

logger = logging.getLogger(__name__)

# Sides of a cut-out in pixels of the photo (at least) and of the picture in the report.
_CLOSE, _CLOSE_SHOWN = 96, (220, 220)
_CROWD, _CROWD_SHOWN = (560, 420), (480, 360)


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URI, and what stands below it."""

    uri: str
    caption: str


@dataclass(frozen=True)
class _Mark:
    box: tuple[float, float, float, float]
    score: float
    class_id: int
    class_name: str


@dataclass(frozen=True)
class _Window:
    frame: int
    middle: tuple[float, float]
    size: tuple[float, float]
    shown: tuple[int, int]
    caption: str


def least_certain(
    frames: Sequence[Frame], seen: Observations, names: Sequence[str], many: int, max_pixels: int
) -> list[Thumbnail]:
    """Close-ups of the detections with the lowest scores."""
    order = np.argsort(seen.score, kind="stable")[:many]
    windows = []
    for row in order:
        x1, y1, x2, y2 = seen.box[row]
        side = max(_CLOSE, 3 * max(x2 - x1, y2 - y1))
        caption = f"{names[seen.species[row]]} {seen.score[row]:.2f} · {frames[seen.frame[row]].name}"
        middle = ((x1 + x2) / 2, (y1 + y2) / 2)
        windows.append(_Window(int(seen.frame[row]), middle, (side, side), _CLOSE_SHOWN, caption))
    return _cut(frames, seen, names, windows, max_pixels)


def most_crowded(
    frames: Sequence[Frame], seen: Observations, names: Sequence[str], many: int, max_pixels: int
) -> list[Thumbnail]:
    """The windows, one a photo, that hold the most detections."""
    per_frame = np.bincount(seen.frame, minlength=len(frames))
    busiest = [int(number) for number in np.argsort(-per_frame, kind="stable")[: 4 * many] if per_frame[number]]
    windows = []
    for number in busiest:
        box = seen.box[seen.frame == number]
        middle = (box[:, :2] + box[:, 2:]) / 2
        # Beyond some hundred, one window is as crowded as the next.
        apart = np.abs(middle[:200, None] - middle[None]) <= np.array(_CROWD) / 2
        inside = apart.all(axis=2).sum(axis=1)
        best = int(np.argmax(inside))
        caption = f"{int(inside[best])} detections · {frames[number].name}"
        place = (float(middle[best, 0]), float(middle[best, 1]))
        windows.append((int(inside[best]), _Window(number, place, _CROWD, _CROWD_SHOWN, caption)))
    windows.sort(key=lambda one: -one[0])
    return _cut(frames, seen, names, [window for _, window in windows[:many]], max_pixels)


def _cut(
    frames: Sequence[Frame], seen: Observations, names: Sequence[str], windows: Sequence[_Window], max_pixels: int
) -> list[Thumbnail]:
    pictures: dict[int, Thumbnail] = {}
    # Photo by photo, so that each is decoded once and only one is held.
    for number in sorted({window.frame for window in windows}):
        frame = frames[number]
        rows = np.flatnonzero(seen.frame == number)
        try:
            with open_raster(frame.path, name=frame.name, max_pixels=max_pixels) as raster:
                for index, window in enumerate(windows):
                    if window.frame == number:
                        pictures[index] = Thumbnail(_picture(raster, seen, rows, names, window), window.caption)
        except ImageError as error:
            logger.warning("No picture of %s in the report: %s", frame.name, error)
    return [pictures[index] for index in sorted(pictures)]


def _picture(raster: Raster, seen: Observations, rows: NDArray[np.intp], names: Sequence[str], window: _Window) -> str:
    height, width = raster.height, raster.width
    across, down = min(window.size[0], width), min(window.size[1], height)
    left = int(np.clip(window.middle[0] - across / 2, 0, width - across))
    top = int(np.clip(window.middle[1] - down / 2, 0, height - down))
    crop = raster.read(left, top, min(round(across), width - left), min(round(down), height - top))
    zoom = min(window.shown[0] / crop.shape[1], window.shown[1] / crop.shape[0])
    size = (max(round(crop.shape[1] * zoom), 1), max(round(crop.shape[0] * zoom), 1))
    shown = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC), np.uint8)
    boxes = (seen.box[rows] - [left, top, left, top]) * zoom
    marks = [
        _Mark(
            (b[0], b[1], b[2], b[3]),
            float(seen.score[row]),
            palette_index(int(seen.species[row])),
            names[seen.species[row]],
        )
        for b, row in zip(boxes.tolist(), rows, strict=True)
        if b[2] > 0 and b[3] > 0 and b[0] < size[0] and b[1] < size[1]
    ]
    drawn = annotate(shown, marks, line=2, labels=False)
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not ok:
        raise ImageError("A picture of the report could not be encoded as JPEG.")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
