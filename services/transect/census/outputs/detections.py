"""detections.parquet: every box that counts, and after them the candidates, which are there for people to review."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transect.arrays import IntArray
from transect.census.counting.count import Census
from transect.census.sightings.box_keys import box_keys
from transect.census.sightings.observations import Observations
from transect.files import atomic_path


def write_detections(path: Path, census: Census) -> None:
    """Write every box of a reported species: its photo, pixels, ground position and animal (null: none).

    The column `looks` is the number of photos that show its place. `counts` is false for the candidates, which score
    below the threshold; `detection` numbers the rows from 0, and `box_key` names a box in every census of its photo.
    """
    counted, candidates = census.observations, census.candidates
    none = np.full(len(candidates), -1, np.int64)
    table = pa.concat_tables([_table(census, counted, census.unique.animal_of), _table(census, candidates, none)])
    for name, column in _added(census).items():
        table = table.append_column(name, column)
    table = table.replace_schema_metadata({"crs": f"EPSG:{census.plan.grid.epsg}"})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _table(census: Census, boxes: Observations, animal_of: IntArray) -> pa.Table:
    frames, grid = census.plan.frames, census.plan.grid
    lonlat = np.full_like(boxes.xy, np.nan)
    lonlat[boxes.placed] = grid.inverse(boxes.xy[boxes.placed])
    frame = pa.array(boxes.frame)
    return pa.table(
        {
            "image": pa.array([one.name for one in frames], pa.string()).take(frame),
            "transect": pa.array([one.transect for one in frames], pa.string()).take(frame),
            "species": pa.array(census.species.names, pa.string()).take(pa.array(boxes.species)),
            "class_name": pa.array(boxes.class_names, pa.string()).take(pa.array(boxes.class_code)),
            "score": pa.array(boxes.score),
            **{name: pa.array(boxes.box[:, i]) for i, name in enumerate(("x1", "y1", "x2", "y2"))},
            "cut_by_edge": pa.array(boxes.cut),
            "middle_in_photo": pa.array(boxes.inside),
            "lon": pa.array(lonlat[:, 0], from_pandas=True),
            "lat": pa.array(lonlat[:, 1], from_pandas=True),
            "easting": pa.array(boxes.xy[:, 0], from_pandas=True),
            "northing": pa.array(boxes.xy[:, 1], from_pandas=True),
            "looks": pa.array(boxes.visits),
            "animal": pa.array(animal_of + 1, pa.int64(), mask=animal_of < 0),
        }
    )


def _added(census: Census) -> Mapping[str, Any]:
    """The columns that tell candidates from boxes that count, and one box from another."""
    both = (census.observations, census.candidates)
    # One string a photo, not one a box.
    digests = [census.found.sha256(row) for row in range(len(census.found))]
    photos = [digests[frame] for boxes in both for frame in boxes.frame.tolist()]
    classes = [name for boxes in both for name in boxes.class_name]
    keys = box_keys(photos, classes, np.concatenate([boxes.box for boxes in both]))
    return {
        "detection": pa.array(np.arange(len(photos))),
        "photo_sha256": pa.array(photos, pa.string()),
        "box_key": pa.array(keys, pa.string()),
        "counts": pa.array(np.arange(len(photos)) < len(census.observations)),
    }
