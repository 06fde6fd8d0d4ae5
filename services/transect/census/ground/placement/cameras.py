"""The interior orientation of each photo's camera: pixel pitch and focal length.

survey.yaml takes precedence, then the table of known cameras (cameras.csv), then EXIF's focal plane tags. A camera
that is in none of them gives a sentence with the keys to write into survey.yaml, never a guess.
"""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from transect.census.ground.unplaced import UnplacedError
from transect.census.inputs.survey import CameraSpec, SurveySpec
from transect.imagery import FrameMetadata

# A focal length in EXIF is rounded; a larger deviation from a known camera's is another lens.
_FOCAL_TOLERANCE = 0.03
# Two shapes of picture are the same up to the rounding of their sides.
_SHAPE_TOLERANCE = 0.01
_SAME_SIDE = 0.005


@dataclass(frozen=True, kw_only=True)
class KnownCamera:
    """A row of cameras.csv: the whole sensor in mm and pixels; `focal_mm` None for lenses that are changed."""

    make: str
    model: str
    name: str
    sensor_width_mm: float
    sensor_height_mm: float
    width_px: int
    height_px: int
    focal_mm: float | None


@dataclass(frozen=True)
class Camera:
    """The interior orientation of one photo; `source` is where the pixel pitch comes from."""

    name: str
    pixel_pitch_mm: float
    focal_mm: float
    source: str

    @property
    def focal_px(self) -> float:
        """The focal length in pixels."""
        return self.focal_mm / self.pixel_pitch_mm


@cache
def known_cameras() -> tuple[KnownCamera, ...]:
    """The table of common survey cameras."""
    text = resources.files("transect.census.ground").joinpath("cameras.csv").read_text(encoding="utf-8")
    return tuple(
        KnownCamera(
            make=row["make"],
            model=row["model"],
            name=row["name"],
            sensor_width_mm=float(row["sensor_width_mm"]),
            sensor_height_mm=float(row["sensor_height_mm"]),
            width_px=int(row["width_px"]),
            height_px=int(row["height_px"]),
            focal_mm=float(row["focal_mm"]) if row["focal_mm"] else None,
        )
        for row in csv.DictReader(text.splitlines())
    )


def camera_name(metadata: FrameMetadata) -> str:
    """Make and model as one name, `unnamed camera` where EXIF has neither."""
    make, model = metadata.make or "", metadata.model or ""
    if model.lower().startswith(make.lower().split(" ")[0]):
        make = ""
    return f"{make} {model}".strip() or "unnamed camera"


def cameras_of(placements: Iterable[Any]) -> list[dict[str, Any]]:
    """Each camera with its parameters, their source and its number of photos; maps have none."""
    counts = Counter(camera for camera in (getattr(one, "camera", None) for one in placements) if camera is not None)
    return [
        {
            "camera": camera.name,
            "focal_mm": camera.focal_mm,
            "pixel_pitch_um": round(camera.pixel_pitch_mm * 1000, 6),
            "source": camera.source,
            "photos": count,
        }
        for camera, count in sorted(counts.items(), key=lambda one: (one[0].name, one[0].focal_mm))
    ]


def camera_of(metadata: FrameMetadata, spec: SurveySpec) -> Camera:
    """The camera of a photo. Raises UnplacedError where it has none."""
    if not metadata.width or not metadata.height:
        raise UnplacedError("no image size.")
    if (metadata.make or "").lower() == "gopro":
        raise UnplacedError(
            "no usable camera: a GoPro's fisheye lens has no scale that holds over its picture; export it undistorted."
        )
    if metadata.digital_zoom is not None and metadata.digital_zoom > 1.01:
        raise UnplacedError(
            f"no usable camera: it was taken with a digital zoom of {metadata.digital_zoom:g}, which hides its scale."
        )
    configured = spec.cameras.get(metadata.model or "") or spec.camera
    named = camera_name(metadata)
    found = _known(metadata)
    pitch, source = _pitch(metadata, configured, found)
    known_focal = found.focal_mm if found is not None else None
    focal = (configured.focal_mm if configured else None) or metadata.focal_mm or known_focal
    if focal is None:
        raise UnplacedError(
            f"no focal length: neither EXIF nor the table of cameras gives that of {named}; add focal_mm (in real "
            "millimetres, not the 35 mm equivalent) to camera in survey.yaml."
        )
    return Camera(named, pitch, focal, source)


def _pitch(metadata: FrameMetadata, configured: CameraSpec | None, found: KnownCamera | None) -> tuple[float, str]:
    """The pixel pitch in millimetres and its source. Raises UnplacedError where none gives it."""
    longer = max(metadata.width or 0, metadata.height or 0)
    if configured is not None and configured.pixel_pitch_um is not None:
        return configured.pixel_pitch_um / 1000, "survey.yaml"
    if configured is not None and configured.sensor_width_mm is not None:
        # The sensor's width is its long side, also for a photo that is stored upright.
        return configured.sensor_width_mm / longer, "survey.yaml"
    if found is not None:
        scale = _scale(found, longer, min(metadata.width or 0, metadata.height or 0))
        if scale is not None:
            return found.sensor_width_mm / found.width_px / scale, "table of cameras"
        raise UnplacedError(
            f"no camera: a picture of {metadata.width} x {metadata.height} pixels is neither the whole sensor of "
            f"{camera_name(metadata)} ({found.width_px} x {found.height_px}) nor a strip or a smaller copy of it; add "
            "`camera: {sensor_width_mm: ...}` to survey.yaml, the millimetres of sensor that the long side shows."
        )
    if metadata.pixel_pitch_um is not None:
        return metadata.pixel_pitch_um / 1000, "EXIF focal plane"
    fixed = metadata.focal_mm is not None and any(row.focal_mm is not None for row in _of_model(metadata))
    lens = f" with a lens of {metadata.focal_mm:g} mm" if fixed else ""
    raise UnplacedError(
        f"no camera: {camera_name(metadata)}{lens} is not in the table of cameras; add "
        "`camera: {sensor_width_mm: ..., focal_mm: ...}` to survey.yaml, both in real millimetres."
    )


def _known(metadata: FrameMetadata) -> KnownCamera | None:
    """The one camera in the table that took the photo; the lens and the size of the picture decide among several."""
    rows = _of_model(metadata)
    fixed = [row for row in rows if row.focal_mm is not None]
    if metadata.focal_mm is not None and fixed:
        rows = [row for row in fixed if abs(metadata.focal_mm / (row.focal_mm or 1) - 1) <= _FOCAL_TOLERANCE]
    if len(rows) > 1:
        rows = [row for row in rows if (row.width_px, row.height_px) == (metadata.width, metadata.height)]
    return rows[0] if len(rows) == 1 else None


def _of_model(metadata: FrameMetadata) -> list[KnownCamera]:
    model = (metadata.model or "").lower()
    return [row for row in known_cameras() if row.model.lower() == model]


def _scale(camera: KnownCamera, longer: int, shorter: int) -> float | None:
    """Pixels of the picture a pixel of the sensor; None where it is neither the sensor, a strip nor a smaller copy."""
    across, down = longer / camera.width_px, shorter / camera.height_px
    if abs(across - 1) <= _SAME_SIDE or abs(down - 1) <= _SAME_SIDE:
        # The whole sensor, or a strip of it (16:9 for example) at its own scale.
        return 1.0 if max(across, down) <= 1 + _SAME_SIDE else None
    return across if abs(across / down - 1) <= _SHAPE_TOLERANCE else None
