"""Read a finished census' units.parquet: the sampling units and strata, so that places are assigned as it did."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from shapely import from_wkb
from shapely.errors import GEOSException

from transect.census.ground.coverage import Coverage, Region, Unit
from transect.census.saved.photos import SavedPhotos
from transect.errors import InputError

UNITS_FILE = "units.parquet"


def read_units(folder: Path, photos: SavedPhotos) -> Coverage:
    """The coverage of a result folder, whose frames are the rows of `photos`; its area is that of the units.

    Raises InputError, naming the file, where it is missing, as in results of earlier versions, or is none.
    """
    path = folder / UNITS_FILE
    try:
        return _coverage(pq.read_table(path), photos)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} has no {UNITS_FILE}, which a census writes since it keeps candidates; run the census again."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (pa.ArrowException, GEOSException, KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is not what a census writes; run the census again.") from error


def _coverage(table: pa.Table, photos: SavedPhotos) -> Coverage:
    regions = tuple(
        Region(
            one["name"],
            float(one["area_km2"]),
            None if one["polygon"] is None else from_wkb(one["polygon"]),
            one["transects_possible"],
        )
        for one in json.loads(table.schema.metadata[b"strata"])
    )
    polygons = from_wkb(np.array(table["polygon"].to_pylist(), object)).tolist()
    columns = (table[name].to_pylist() for name in ("stratum", "transect", "area_km2", "photos"))
    units = tuple(
        Unit(stratum=stratum, transect=transect, polygon=polygon, area_km2=area, frames=tuple(frames))
        for (stratum, transect, area, frames), polygon in zip(zip(*columns, strict=True), polygons, strict=True)
    )
    shown = {row: shape for row, shape in enumerate(photos.shapes) if shape is not None}
    region_of = {row: name for row, name in enumerate(photos.stratum) if name is not None}
    return Coverage(shown, regions, units, sum(one.area_km2 for one in units), region_of)
