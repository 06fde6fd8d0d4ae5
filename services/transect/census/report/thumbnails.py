"""Cut-outs of photos with their boxes, as JPEG inside the report."""

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from transect.arrays import FloatArray
from transect.census.ground.placement.frames import Frame, open_frame
from transect.census.report.charts import palette_index
from transect.census.sightings.observations import Observations
from transect.errors import ImageError
from transect.imagery import Raster, annotate

logger = logging.getLogger(__name__)

# Sides of a cut-out in pixels of the photo (at least) and of the picture in the report.
_CLOSE, _CLOSE_SHOWN = 96, (220, 220)
_CROWD, _CROWD_SHOWN = (560, 420), (480, 360)
# Of so many busy photos for each picture is one chosen; positions this close may be one animal in two photos.
_TRIED_PER_PICTURE = 6
_SAME_CROWD_M = 4.0
# Beyond some hundred boxes, one window around them is as crowded as the next.
_MOST_TRIED = 200


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URI, and its caption; `uri` is empty where `problem` is the reason for none."""

    uri: str
    caption: str
    problem: str = ""


@dataclass(frozen=True)
class _Mark:
    box: tuple[float, float, float, float]
    score: float
    class_id: int
    class_name: str


@dataclass(frozen=True, kw_only=True)
class _Window:
    """A part of a photo: `middle` and `size` in its pixels, `shown` the picture's; `subject` is a row, -1 for none."""

    frame: int
    middle: tuple[float, float]
    size: tuple[float, float]
    shown: tuple[int, int]
    caption: str
    subject: int = -1


def least_certain(
    frames: Sequence[Frame], seen: Observations, names: Sequence[str], many: int, max_pixels: int
) -> list[Thumbnail]:
    """Close-ups of the detections with the lowest scores."""
    order = np.argsort(seen.score, kind="stable")[:many]
    windows = []
    for row in order.tolist():
        x1, y1, x2, y2 = seen.box[row].tolist()
        side = max(_CLOSE, 3 * max(x2 - x1, y2 - y1))
        caption = f"{names[seen.species[row]]} {seen.score[row]:.2f} · {frames[seen.frame[row]].name}"
        middle = ((x1 + x2) / 2, (y1 + y2) / 2)
        windows.append(
            _Window(
                frame=int(seen.frame[row]),
                middle=middle,
                size=(side, side),
                shown=_CLOSE_SHOWN,
                caption=caption,
                subject=row,
            )
        )
    return _cut(frames, seen, names, windows, max_pixels)


def most_crowded(
    frames: Sequence[Frame], seen: Observations, names: Sequence[str], many: int, max_pixels: int
) -> list[Thumbnail]:
    """The windows with the most detections: one a photo, and of photos that show one crowd the fullest."""
    per_frame = np.bincount(seen.frame, minlength=len(frames))
    busiest = [number for number in np.argsort(-per_frame, kind="stable").tolist() if per_frame[number]]
    windows = []
    for number in busiest[: _TRIED_PER_PICTURE * many]:
        rows = np.flatnonzero(seen.frame == number)
        middle: FloatArray = (seen.box[rows, :2] + seen.box[rows, 2:]) / 2
        apart: NDArray[np.bool_] = np.all(
            np.abs(middle[:_MOST_TRIED, None] - middle[None]) <= np.array(_CROWD) / 2, axis=2
        )
        best = int(np.argmax(apart.sum(axis=1)))
        held = rows[apart[best]]
        place = (float(middle[best, 0]), float(middle[best, 1]))
        caption = f"{_crowd_text(seen.species[held], names)} · {frames[number].name}"
        windows.append((held, _Window(frame=number, middle=place, size=_CROWD, shown=_CROWD_SHOWN, caption=caption)))
    windows.sort(key=lambda one: -len(one[0]))
    chosen: list[_Window] = []
    taken = np.empty((0, 2))
    for held, window in windows:
        ground = seen.xy[held[:_MOST_TRIED]]
        # Overlapping photos show one crowd; a window with more than half of its animals shown already is the same one.
        near = np.hypot(*(ground[:, None] - taken[None]).transpose(2, 0, 1)).min(axis=1, initial=np.inf)
        if len(chosen) < many and np.count_nonzero(near < _SAME_CROWD_M) <= len(ground) / 2:
            chosen.append(window)
            taken = np.concatenate([taken, ground[~np.isnan(ground[:, 0])]])
    return _cut(frames, seen, names, chosen, max_pixels)


def _crowd_text(species: NDArray[np.int64], names: Sequence[str]) -> str:
    counts = np.bincount(species, minlength=len(names))
    parts = [f"{counts[number]} {names[number]}" for number in np.argsort(-counts, kind="stable") if counts[number]]
    return ", ".join(parts[:4]) + (", …" if len(parts) > 4 else "")


def _cut(
    frames: Sequence[Frame], seen: Observations, names: Sequence[str], windows: Sequence[_Window], max_pixels: int
) -> list[Thumbnail]:
    pictures: dict[int, Thumbnail] = {}
    # Photo by photo, so that each is decoded once and only one is in memory.
    for number in sorted({window.frame for window in windows}):
        frame = frames[number]
        rows = np.flatnonzero(seen.frame == number)
        mine = [index for index, window in enumerate(windows) if window.frame == number]
        try:
            with open_frame(frame, max_pixels=max_pixels) as raster:
                for index in mine:
                    picture = _picture(raster, seen, rows, names, windows[index])
                    pictures[index] = Thumbnail(picture, windows[index].caption)
        except ImageError as error:
            # It was readable during the search, so it was moved or damaged since.
            logger.warning("No picture of %s in the report: %s", frame.name, error)
            for index in mine:
                pictures[index] = Thumbnail("", windows[index].caption, str(error))
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
    about_one = window.subject >= 0
    boxes = (seen.box[rows] - [left, top, left, top]) * zoom
    marks = [
        (
            _Mark(
                (b[0], b[1], b[2], b[3]),
                float(seen.score[row]),
                palette_index(int(seen.species[row])),
                names[seen.species[row]],
            ),
            int(row),
        )
        for b, row in zip(boxes.tolist(), rows, strict=True)
        if b[2] > 0 and b[3] > 0 and b[0] < size[0] and b[1] < size[1]
    ]
    drawn = annotate(
        shown, [one for one, row in marks if row != window.subject], line=1 if about_one else 2, labels=False
    )
    drawn = annotate(drawn, [one for one, row in marks if row == window.subject], line=2, labels=False)
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not ok:
        raise ImageError("A picture of the report could not be encoded as JPEG.")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
