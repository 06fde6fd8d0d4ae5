"""Input options and results of the engine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transect.errors import InputError

MIN_TILE = 64
# A smaller scale would read tiles of more than 60 times the pixels; a larger one adds no information.
LEAST_SCALE, MOST_SCALE = 1 / 8, 4.0


@dataclass(frozen=True)
class Detection:
    """One object: `box` is (x1, y1, x2, y2) in pixels of the original image, `score` is in 0..1."""

    box: tuple[float, float, float, float]
    score: float
    class_id: int
    class_name: str

    def to_json(self) -> dict[str, Any]:
        """The Detection contract; boxes to a hundredth of a pixel."""
        return {
            "box": [round(value, 2) for value in self.box],
            "score": round(self.score, 5),
            "class_id": self.class_id,
            "class_name": self.class_name,
        }


@dataclass(frozen=True)
class ModelRef:
    """The registered model of a result; version and run are empty for a package opened by path.

    `precision` (fp32, bf16, int8, fp16, tf32) is that of inference; empty until the model is opened.
    """

    name: str
    version: str = ""
    run_id: str = ""
    precision: str = ""

    def to_json(self) -> dict[str, str]:
        """The contract's `model` object."""
        return {"name": self.name, "version": self.version, "run_id": self.run_id, "precision": self.precision}


@dataclass(frozen=True)
class StageSeconds:
    """Seconds spent on one image, summed over its tiles, which are searched concurrently.

    `infer` is scaling to the input and the network; `post` is head decoding, suppression and stitching.
    """

    infer: float = 0.0
    post: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """The engine's result for one image.

    `tiles` is the number of inferences. `truncated` is true if a tile reached max_det, so that objects
    may be missing. `failure` is the reason for a missing result; it is None if the image was searched,
    also when nothing was found. `remarks` are sentences on decisions in reading the image, such as the
    rendering of 16-bit samples. `seconds` is the time by stage; it is not part of the contract, and
    equality ignores it.
    """

    image: str
    width: int
    height: int
    detections: tuple[Detection, ...]
    model: ModelRef
    tiles: int
    truncated: bool = False
    failure: str | None = None
    remarks: tuple[str, ...] = ()
    seconds: StageSeconds = field(default=StageSeconds(), compare=False)

    @classmethod
    def failed(cls, image: str, model: ModelRef, reason: str) -> "ImageResult":
        """The result for an image that could not be searched."""
        return cls(image=image, width=0, height=0, detections=(), model=model, tiles=0, failure=reason)

    def to_json(self) -> dict[str, Any]:
        """The per-image Detection contract, ready for json.dumps."""
        return {
            "image": self.image,
            "width": self.width,
            "height": self.height,
            "detections": [detection.to_json() for detection in self.detections],
            "model": self.model.to_json(),
            "tiles": self.tiles,
            "truncated": self.truncated,
            "failure": self.failure,
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """How to search an image.

    `conf` and `iou` default to the model package's recommendation. `classes` keeps only these class
    names. `tile` is "auto" (an image much larger than the model's input is cut into tiles of that
    size), "off" (the image is scaled to the input) or a tile side in pixels; `overlap` of tiles is
    in pixels, a fifth of the tile by default. `max_det` bounds the objects of one tile; reaching it
    sets `truncated`. `multi_label` allows several classes per box, as benchmarks of average
    precision do.

    `scale` resamples the image before it is searched: 0.5 leaves half of the pixels of each side. Then `tile`
    and `overlap` are pixels of the resampled image, and a small image is padded to the input, not scaled
    to fill it, so that the network sees every image at the scale asked for. Boxes are in the original
    image's pixels. None does not resample.

    Raises InputError for an invalid value.
    """

    conf: float | None = None
    iou: float | None = None
    classes: frozenset[str] | None = None
    tile: int | Literal["auto", "off"] = "auto"
    overlap: int | None = None
    max_det: int = 1000
    multi_label: bool = False
    scale: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("conf", self.conf), ("iou", self.iou)):
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{name}={value} is not usable: give a number from 0 to 1.")
        if isinstance(self.tile, str) and self.tile not in ("auto", "off"):
            raise InputError(f"tile={self.tile!r} is not usable: give auto, off or a number of pixels.")
        if isinstance(self.tile, int) and self.tile < MIN_TILE:
            raise InputError(f"tile={self.tile} is not usable: a tile has at least {MIN_TILE} pixels a side.")
        if self.overlap is not None and self.overlap < 0:
            raise InputError(f"overlap={self.overlap} is not usable: give 0 or more pixels.")
        if isinstance(self.tile, int) and self.overlap is not None and self.overlap >= self.tile:
            raise InputError(f"overlap={self.overlap} is not usable: it must be smaller than the tile of {self.tile}.")
        if self.max_det < 1:
            raise InputError(f"max_det={self.max_det} is not usable: give 1 or more.")
        if self.scale is not None and not LEAST_SCALE <= self.scale <= MOST_SCALE:
            raise InputError(f"scale={self.scale} is not usable: give a number from {LEAST_SCALE:g} to {MOST_SCALE:g}.")
        if self.scale is not None and self.tile == "off":
            raise InputError("scale is not usable with tile=off, which scales each image to the model's input.")


@dataclass(frozen=True)
class Boxes:
    """Detections as arrays, one row each, best score first.

    `xyxy` is (n, 4) float32 in pixels, `scores` (n,) float32, `class_ids` (n,) int64.
    """

    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Boxes":
        """The rows chosen by an index or a mask, in that order."""
        return Boxes(self.xyxy[rows], self.scores[rows], self.class_ids[rows], self.truncated)

    def named(self, names: Sequence[str]) -> tuple[Detection, ...]:
        """Each row as a Detection; `names` are those of the classes."""
        rows = zip(self.xyxy.tolist(), self.scores.tolist(), self.class_ids.tolist(), strict=True)
        return tuple(Detection((x1, y1, x2, y2), score, k, names[k]) for (x1, y1, x2, y2), score, k in rows)
