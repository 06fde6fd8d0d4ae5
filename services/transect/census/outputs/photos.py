"""photos.parquet: every photo that was searched, with all that puts its pixels on the ground without the survey."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from shapely import to_wkb

from transect.census.counting.count import Census, frame_seconds
from transect.census.ground.view_records import view_to_json
from transect.files import atomic_path


def write_photos(path: Path, census: Census, time_window_s: float) -> None:
    """Write one row a photo that was searched and is no duplicate, in the order of the frames.

    Numbers are unrounded, so that a box on such a photo lies where the census would have put it: `census.saved` reads
    the views and the footprints back. Positions are metres of the grid that the file's metadata names as `crs`;
    `seconds` are after the survey's first photo, and `time_window_s` of the metadata is that of the census.
    """
    plan = census.plan
    rows = np.flatnonzero(census.usable)
    numbers, found = rows.tolist(), census.found
    frames, views = [plan.frames[row] for row in numbers], [plan.poses[row] for row in numbers]
    shown = [census.coverage.footprints.get(row) for row in numbers]
    strata = [census.coverage.region_of.get(row) for row in numbers]
    size = found.counted.size[rows].astype(np.int64)
    table = pa.table(
        {
            "image": pa.array([one.name for one in frames], pa.string()),
            "photo_sha256": pa.array([found.sha256(row) for row in numbers], pa.string()),
            "width": pa.array(size[:, 0]),
            "height": pa.array(size[:, 1]),
            "transect": pa.array([one.transect for one in frames], pa.string()),
            "stratum": pa.array(strata, pa.string()),
            "placed": pa.array([view is not None for view in views], pa.bool_()),
            "gsd_m": pa.array(
                [None if one.placement is None else one.placement.middle_gsd_m for one in frames], pa.float64()
            ),
            "scale": pa.array(found.scale[rows]),
            "view": pa.array([None if view is None else view_to_json(view) for view in views], pa.string()),
            "footprint": pa.array([None if shape is None else to_wkb(shape) for shape in shown], pa.binary()),
            "x": pa.array([None if view is None else view.x for view in views], pa.float64()),
            "y": pa.array([None if view is None else view.y for view in views], pa.float64()),
            "seconds": pa.array(frame_seconds(plan.frames)[rows], from_pandas=True),
            "truncated": pa.array((found.truncated | found.candidates_truncated)[rows]),
            "bands": pa.array([one.rendering.bands for one in frames], pa.list_(pa.int64())),
            "depth": pa.array([one.rendering.depth for one in frames], pa.int64()),
        },
        metadata={
            "crs": f"EPSG:{plan.grid.epsg}",
            "time_window_s": repr(time_window_s),
            "sizes_m": json.dumps(
                {
                    name: None if math.isnan(size) else size
                    for name, size in zip(census.species.names, census.sizes.tolist(), strict=True)
                }
            ),
        },
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
