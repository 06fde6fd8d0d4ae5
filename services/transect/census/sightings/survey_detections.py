"""What was found in all photos of a survey, in columns: a million photos with ten boxes each in half a gigabyte."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np

from transect.arrays import BoolArray, FloatArray, IntArray
from transect.census.sightings.candidates import NO_CANDIDATES, Candidates
from transect.census.sightings.found import FrameDetections

_DIGEST_BYTES = 32
_NO_DIGEST = bytes(_DIGEST_BYTES)


@dataclass(frozen=True, kw_only=True)
class PhotoBoxes:
    """The boxes of photos, one row each, photo by photo.

    `first` (photos + 1,) is the row at which each photo's boxes start; `box` (n, 4) is xyxy in pixels, `score` (n,) and
    `class_code` (n,) an index into `class_names`. `size` (photos, 2) is each photo's width and height in pixels.
    """

    first: IntArray
    box: FloatArray
    score: FloatArray
    class_code: IntArray
    class_names: tuple[str, ...]
    size: FloatArray

    @classmethod
    def of(cls, found: Sequence[FrameDetections]) -> "PhotoBoxes":
        """The boxes that count of some photos."""
        return SurveyDetections.collect(found).counted

    def __len__(self) -> int:
        return len(self.size)

    @property
    def counts(self) -> IntArray:
        """The boxes of each photo, (photos,)."""
        return np.diff(self.first)

    @property
    def frame(self) -> IntArray:
        """The photo of each box, (n,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    def only(self, photos: BoolArray) -> "PhotoBoxes":
        """The same photos, of which those that are false in `photos` have no boxes."""
        if photos.all():
            return self
        return self._rows(np.repeat(photos, self.counts), np.where(photos, self.counts, 0))

    def of_classes(self, names: Iterable[str]) -> "PhotoBoxes":
        """The same photos with the boxes of some classes alone."""
        wanted = set(names)
        if wanted.issuperset(self.class_names):
            return self
        chosen = np.array([name in wanted for name in self.class_names], bool)[self.class_code]
        before = np.concatenate([[0], np.cumsum(chosen)])[self.first]
        return self._rows(chosen, np.diff(before))

    def part(self, photos: slice) -> "PhotoBoxes":
        """Consecutive photos with their boxes."""
        start, stop, _ = photos.indices(len(self))
        first = self.first[start : stop + 1]
        rows = slice(int(first[0]), int(first[-1]))
        return PhotoBoxes(
            first=first - first[0],
            box=self.box[rows],
            score=self.score[rows],
            class_code=self.class_code[rows],
            class_names=self.class_names,
            size=self.size[photos],
        )

    def _rows(self, rows: BoolArray, counts: IntArray) -> "PhotoBoxes":
        return PhotoBoxes(
            first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            box=self.box[rows],
            score=self.score[rows],
            class_code=self.class_code[rows],
            class_names=self.class_names,
            size=self.size,
        )


@dataclass(frozen=True, kw_only=True)
class SurveyDetections(Sequence[FrameDetections]):
    """The detections in all photos of a survey: a sequence that makes each photo's when it is asked for.

    `counted` are the boxes that count, `candidates` those below the threshold. `tiles`, `scale`, `truncated`,
    `candidates_truncated` and `reused` (n,) are as in FrameDetections; `failure` is by row. `digests` are the SHA-256
    of all photos, zeros for one that could not be read. `appearance` (n, k) is the mean over a photo's tiles, NaN where
    it was not measured: a photo's own `appearance` has that mean as its only row.
    """

    digests: bytes
    counted: PhotoBoxes
    candidates: PhotoBoxes
    tiles: IntArray
    scale: FloatArray
    truncated: BoolArray
    candidates_truncated: BoolArray
    reused: BoolArray
    failure: dict[int, str]
    appearance: FloatArray

    @classmethod
    def collect(cls, found: Iterable[FrameDetections]) -> "SurveyDetections":
        """The detections of photos in their order, each of which is let go at once."""
        if isinstance(found, SurveyDetections):
            return found
        columns = _Columns()
        for one in found:
            columns.add(one)
        return columns.frozen()

    def __len__(self) -> int:
        return len(self.tiles)

    def __iter__(self) -> Iterator[FrameDetections]:
        return (self._photo(row) for row in range(len(self)))

    @overload
    def __getitem__(self, row: int) -> FrameDetections: ...
    @overload
    def __getitem__(self, row: slice) -> list[FrameDetections]: ...
    def __getitem__(self, row: int | slice) -> FrameDetections | list[FrameDetections]:
        if isinstance(row, slice):
            return [self._photo(one) for one in range(*row.indices(len(self)))]
        return self._photo(range(len(self))[row])

    def sha256(self, row: int) -> str:
        """A photo's SHA-256 as hexadecimal digits; empty for one that could not be read."""
        digest = self.digests[row * _DIGEST_BYTES : (row + 1) * _DIGEST_BYTES]
        return "" if digest == _NO_DIGEST else digest.hex()

    def first_of_content(self) -> IntArray:
        """For each photo the first one of the same content, (n,): mostly itself."""
        start = np.frombuffer(self.digests, np.uint64)[:: _DIGEST_BYTES // 8]
        _, group, size = np.unique(start, return_inverse=True, return_counts=True)
        first, found = np.arange(len(self)), dict[str, int]()
        # Eight bytes leave few photos that may be alike; the whole hash decides.
        for row in np.flatnonzero(size[group.reshape(-1)] > 1).tolist():
            digest = self.sha256(row)
            first[row] = found.setdefault(digest, row) if digest else row
        return first

    def _photo(self, row: int) -> FrameDetections:
        boxes = self._boxes(self.counted, row)
        width, height = self.counted.size[row].astype(int).tolist()
        seen = self.appearance[row : row + 1]
        return FrameDetections(
            sha256=self.sha256(row),
            width=width,
            height=height,
            boxes=boxes[0],
            scores=boxes[1],
            classes=boxes[2],
            tiles=int(self.tiles[row]),
            truncated=bool(self.truncated[row]),
            failure=self.failure.get(row, ""),
            reused=bool(self.reused[row]),
            scale=float(self.scale[row]),
            appearance=np.empty((0, 0)) if np.isnan(seen).any() or not seen.size else seen,
            candidates=self._low(row),
        )

    def _low(self, row: int) -> Candidates:
        boxes, scores, classes = self._boxes(self.candidates, row)
        truncated = bool(self.candidates_truncated[row])
        if not classes and not truncated:
            return NO_CANDIDATES
        return Candidates(boxes=boxes, scores=scores, classes=classes, truncated=truncated)

    @staticmethod
    def _boxes(columns: PhotoBoxes, row: int) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
        rows = slice(int(columns.first[row]), int(columns.first[row + 1]))
        names = columns.class_names
        return columns.box[rows], columns.score[rows], tuple(names[code] for code in columns.class_code[rows].tolist())


@dataclass(frozen=True)
class _BoxColumns:
    """Columns of PhotoBoxes that grow."""

    first: "array[int]" = field(default_factory=lambda: array("q", [0]))
    box: "array[float]" = field(default_factory=lambda: array("d"))
    score: "array[float]" = field(default_factory=lambda: array("d"))
    code: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, boxes: FloatArray, scores: FloatArray, codes: Iterable[int]) -> None:
        if len(scores):
            self.box.frombytes(np.ascontiguousarray(boxes, np.float64).tobytes())
            self.score.frombytes(np.ascontiguousarray(scores, np.float64).tobytes())
            self.code.extend(codes)
        self.first.append(len(self.score))

    def frozen(self, names: tuple[str, ...], size: FloatArray) -> PhotoBoxes:
        return PhotoBoxes(
            first=np.frombuffer(self.first, np.int64),
            box=_floats(self.box).reshape(-1, 4),
            score=_floats(self.score),
            class_code=np.frombuffer(self.code, np.int64) if self.code else np.empty(0, np.int64),
            class_names=names,
            size=size,
        )


class _Columns:
    """Columns of SurveyDetections that grow."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._counted, self._candidates = _BoxColumns(), _BoxColumns()
        self._size, self._tiles, self._scale = array("d"), array("q"), array("d")
        self._truncated, self._low_truncated, self._reused = bytearray(), bytearray(), bytearray()
        self._failure = dict[int, str]()
        self._codes = dict[str, int]()
        self._appearance, self._measured = array("d"), 0

    def add(self, one: FrameDetections) -> None:
        """Add the detections in the next photo."""
        row = len(self._tiles)
        self._digests += bytes.fromhex(one.sha256) if one.sha256 else _NO_DIGEST
        self._counted.add(one.boxes, one.scores, self._coded(one.classes))
        low = one.candidates
        self._candidates.add(low.boxes, low.scores, self._coded(low.classes))
        self._size.extend((one.width, one.height))
        self._tiles.append(one.tiles)
        self._scale.append(one.scale)
        self._truncated.append(one.truncated)
        self._low_truncated.append(low.truncated)
        self._reused.append(one.reused)
        if one.failure:
            self._failure[row] = one.failure
        self._look(row, one.appearance)

    def frozen(self) -> SurveyDetections:
        """The columns as they are; nothing can be added any more."""
        names, size = tuple(self._codes), _floats(self._size).reshape(-1, 2)
        count = len(self._tiles)
        if self._measured:
            self._appearance.extend([np.nan] * (count * self._measured - len(self._appearance)))
        return SurveyDetections(
            digests=bytes(self._digests),
            counted=self._counted.frozen(names, size),
            candidates=self._candidates.frozen(names, size),
            tiles=np.array(self._tiles, np.int64),
            scale=_floats(self._scale),
            truncated=np.frombuffer(bytes(self._truncated), bool),
            candidates_truncated=np.frombuffer(bytes(self._low_truncated), bool),
            reused=np.frombuffer(bytes(self._reused), bool),
            failure=self._failure,
            appearance=_floats(self._appearance).reshape(count, self._measured),
        )

    def _coded(self, classes: Sequence[str]) -> list[int]:
        return [self._codes.setdefault(name, len(self._codes)) for name in classes]

    def _look(self, row: int, appearance: FloatArray) -> None:
        if not len(appearance):
            return
        mean = appearance.mean(axis=0)
        self._measured = self._measured or len(mean)
        # Photos before this one, or between, whose appearance was not measured.
        self._appearance.extend([np.nan] * (row * self._measured - len(self._appearance)))
        self._appearance.frombytes(np.ascontiguousarray(mean, np.float64).tobytes())


def _floats(values: "array[float]") -> FloatArray:
    return np.frombuffer(values, np.float64) if values else np.empty(0)
