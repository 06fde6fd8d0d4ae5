"""units.parquet: the sampling units and the strata as polygons on the survey's grid, unrounded."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from shapely import to_wkb

from transect.census.counting.count import Census
from transect.files import atomic_path


def write_units(path: Path, census: Census) -> None:
    """Write one row a sampling unit, in the order of the coverage; the metadata's `strata` are JSON.

    `photos` are rows of photos.parquet.
    """
    coverage = census.coverage
    row = np.cumsum(census.usable) - 1
    table = pa.table(
        {
            "stratum": pa.array([one.stratum for one in coverage.units], pa.string()),
            "transect": pa.array([one.transect for one in coverage.units], pa.string()),
            "area_km2": pa.array([one.area_km2 for one in coverage.units], pa.float64()),
            "polygon": pa.array([to_wkb(one.polygon) for one in coverage.units], pa.binary()),
            "photos": pa.array([row[list(one.frames)] for one in coverage.units], pa.list_(pa.int64())),
        },
        metadata={
            "crs": f"EPSG:{census.plan.grid.epsg}",
            "strata": json.dumps(
                [
                    {
                        "name": one.name,
                        "area_km2": one.area_km2,
                        "transects_possible": one.transects_possible,
                        "polygon": None if one.polygon is None else to_wkb(one.polygon, hex=True),
                    }
                    for one in coverage.regions
                ],
                allow_nan=False,
            ),
        },
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
