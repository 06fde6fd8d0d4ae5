"""YOLO label files: one row per box, `class x_centre y_centre width height`, normalised to the image.

A row of more than six numbers is a polygon, as in Ultralytics; its bounding box is used. In a set with keypoints
(`kpt_shape` in its data.yaml) the additional numbers are the points of a pose, after its box.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transect.errors import DatasetError

# Like Ultralytics, accept coordinates up to 1% outside the image, and clip them.
_TOLERANCE = 0.01


def label_path(image: Path) -> Path:
    """The label file of `image`: the last folder `images` becomes `labels`, the suffix `.txt`.

    Without such a folder the label file is beside the image (Ultralytics' rule).
    """
    parts = list(image.parts)
    for index in range(len(parts) - 2, 0, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def boxes_in_pixels(rows: NDArray[np.float64], size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Class ids (n,) and boxes (n, 4) as x1, y1, x2, y2 in pixels, clipped to an image of `size` (width, height).

    `rows` are (n, 5) as `read_rows` gives them.
    """
    centres, sides = rows[:, 1:3], rows[:, 3:5]
    corners = np.hstack([centres - sides / 2, centres + sides / 2]).clip(0.0, 1.0)
    boxes = corners * np.array([*size, *size])
    return rows[:, 0].astype(np.int64), boxes.astype(np.float32)


def read_rows(path: Path, classes: int | None = None, keypoint_numbers: int = 0) -> NDArray[np.float64]:
    """Read one label file as written: (n, 5) rows of class, x, y, width, height, normalised.

    A missing or empty file is an image without objects. Duplicate rows count once. With
    `keypoint_numbers`, that many numbers may follow a box; they are ignored.

    Raises DatasetError, with file and line, for a malformed row, a class id outside
    0..`classes`-1, or a coordinate outside the image.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        lines = []
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"Label file {path} cannot be read as text: {error}.") from error
    rows: dict[tuple[float, ...], None] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            rows[_parse_row(line, classes, keypoint_numbers, f"{path}, line {number}")] = None
    return np.array(list(rows), dtype=np.float64).reshape(-1, 5)


def _parse_row(line: str, classes: int | None, keypoint_numbers: int, where: str) -> tuple[float, ...]:
    try:
        values = [float(text) for text in line.split()]
    except ValueError as error:
        raise DatasetError(f"{where}: {line.strip()[:60]!r} is not a row of numbers.") from error
    polygon = False
    if keypoint_numbers:
        if len(values) not in (5, 5 + keypoint_numbers):
            raise DatasetError(
                f"{where}: a row has 5 numbers (class, x, y, width, height), or {5 + keypoint_numbers} with the points "
                f"of kpt_shape; this one has {len(values)}."
            )
        values = values[:5]
    elif len(values) != 5:
        polygon = len(values) > 6 and len(values) % 2 == 1
        if not polygon or _is_pose(values):
            hint = "; for labels with keypoints, data.yaml needs kpt_shape" if len(values) > 6 else ""
            hint = "; take out the score behind the box" if len(values) == 6 else hint
            raise DatasetError(
                f"{where}: a row has 5 numbers (class, x, y, width, height), this one has {len(values)}{hint}."
            )
    class_id = values[0]
    if not class_id.is_integer() or class_id < 0 or (classes is not None and class_id >= classes):
        bound = f"0 to {classes - 1}" if classes is not None else "0 or more"
        raise DatasetError(f"{where}: class {class_id:g} is out of range; classes are {bound}.")
    for value in values[1:]:
        # `not` also rejects NaN.
        if not -_TOLERANCE <= value <= 1 + _TOLERANCE:
            raise DatasetError(
                f"{where}: coordinate {value:g} is out of range; "
                "coordinates are fractions of the image's width and height, 0 to 1."
            )
    box = _polygon_box(values[1:]) if polygon else values[1:]
    if box[2] <= 0 or box[3] <= 0:
        raise DatasetError(f"{where}: the box has no area (width {box[2]:g}, height {box[3]:g}).")
    return (class_id, *box)


def _is_pose(values: list[float]) -> bool:
    """Whether a row that could be a polygon is a pose: points with a visibility (0, 1 or 2) inside its box."""
    points = values[5:]
    if len(points) < 6 or len(points) % 3 or not all(value in (0.0, 1.0, 2.0) for value in points[2::3]):
        return False
    x, y, width, height = values[1:5]
    seen = [(a, b) for a, b, shown in zip(points[0::3], points[1::3], points[2::3], strict=True) if shown]
    edge = _TOLERANCE
    return all(abs(a - x) <= width / 2 + edge and abs(b - y) <= height / 2 + edge for a, b in seen)


def _polygon_box(points: list[float]) -> list[float]:
    xs, ys = points[0::2], points[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
