"""Build observations, frames and rows for tests of the later census steps; unused fields of the first are zero."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from transect.census.counting.tally import SpeciesRow
from transect.census.ground.placement.frames import Frame
from transect.census.inputs.photos import LocalPhoto
from transect.census.sightings.observations import Observations


def observations(
    boxes: Sequence[tuple[int, int, float, float, float]], *, side: float = 10.0, **columns: Any
) -> Observations:
    """Boxes as (frame, species, score, x, y of the middle in pixels); a pixel is a decimetre from the frame's corner.

    Frames are 1000 m apart; `columns` replaces whole columns.
    """
    table = np.array(boxes, np.float64).reshape(-1, 5)
    middle = table[:, 3:]
    content: dict[str, Any] = {
        field.name: np.zeros(len(table)) for field in fields(Observations) if field.name != "class_names"
    }
    content |= {
        "frame": table[:, 0].astype(np.int64),
        "species": table[:, 1].astype(np.int64),
        "class_code": np.zeros(len(table), np.int64),
        "class_names": ("x",),
        "score": table[:, 2],
        "box": np.hstack([middle - side / 2, middle + side / 2]),
        "xy": np.column_stack([1000 * table[:, 0] + middle[:, 0] / 10, -middle[:, 1] / 10]),
        "placed": np.ones(len(table), bool),
        "cut": np.zeros(len(table), bool),
        "inside": np.ones(len(table), bool),
        "visits": np.ones(len(table), np.int64),
    }
    return Observations(**content | columns)


def frame(path: Path, *, transect: str | None = "T1", size: tuple[int, int] = (800, 600)) -> Frame:
    """A photo at `path` without a pose."""
    return Frame(
        name=path.name,
        photo=LocalPhoto(path),
        transect=transect,
        taken_at=None,
        width=size[0],
        height=size[1],
        placement=None,
    )


def species_row(species: str = "buffalo") -> SpeciesRow:
    """A species of a census: 47 animals in the photos, 470 in the area."""
    return SpeciesRow(
        species=species,
        seen=60,
        seen_unplaced=0,
        unique=47,
        outside=0,
        estimate=470.0,
        se=122.9,
        ci95=(128.65, 811.35),
        density_per_km2=2.6,
        area_km2=18.0,
    )


def path_of(frame: Frame) -> Path:
    """The file of a photo in a folder."""
    assert isinstance(frame.photo, LocalPhoto)
    return frame.photo.path
