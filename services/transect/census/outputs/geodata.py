"""Geodata of the result: GeoJSON in WGS84 degrees, and a GeoPackage on the survey's grid.

GeoJSON is for the web and has degrees alone (RFC 7946). The GeoPackage is for measuring: its layers are in the metres
of the survey's UTM zone, in which every area is computed, unrounded, and not cut at the antimeridian. Any reader can
transform it by its EPSG code.
"""

import errno
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyogrio
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError
from shapely import (
    bounds,
    get_coordinates,
    get_parts,
    get_type_id,
    is_valid,
    make_valid,
    multipolygons,
    orient_polygons,
    points,
    to_geojson,
    to_wkb,
    transform,
)
from shapely.geometry import MultiPolygon

from transect.arrays import IntArray
from transect.census.counting.tally import UnitCount
from transect.census.ground.coverage import Coverage
from transect.census.ground.geometry import Grid
from transect.census.ground.overlap import ground_areas_m2
from transect.census.ground.placement.frames import Frame
from transect.census.lonlat import cut_at_antimeridian, lonlat_bounds
from transect.census.outputs.writers import encode, write_json
from transect.census.sightings.animals import Animals
from transect.files import atomic_path

Shapes = NDArray[np.object_]

# Seven decimals of a degree are about a centimetre.
_DEGREES = 7
_CHUNK = 50_000
_POLYGON, _MULTIPOLYGON = 3, 6
# GDAL writes the time of writing into a GeoPackage; equal results must be equal files.
_NO_TIME = "1970-01-01T00:00:00.000Z"


def animal_table(animals: Animals, names: Sequence[str], coverage: Coverage, grid: Grid) -> pa.Table:
    """One row an animal, numbered from 1: species, position, stratum and transect, number of photos, best score."""
    lonlat = grid.inverse(animals.xy).round(_DEGREES)
    xy = animals.xy.round(3)
    # An animal outside every unit has -1, the last of these.
    strata = pa.array([*(unit.stratum for unit in coverage.units), ""], pa.string())
    transects = pa.array([*(unit.transect for unit in coverage.units), ""], pa.string())
    unit = pa.array(np.where(animals.unit < 0, len(coverage.units), animals.unit))
    return pa.table(
        {
            "animal": pa.array(np.arange(1, len(animals.species) + 1)),
            "species": pa.array(names, pa.string()).take(pa.array(animals.species)),
            "lon": pa.array(lonlat[:, 0]),
            "lat": pa.array(lonlat[:, 1]),
            "easting": pa.array(xy[:, 0]),
            "northing": pa.array(xy[:, 1]),
            "stratum": strata.take(unit),
            "transect": transects.take(unit),
            "photos": pa.array(animals.sightings),
            "best_score": pa.array(animals.score),
        }
    )


def rows_of(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows of a table, converted to Python values in chunks."""
    for batch in table.to_batches(max_chunksize=_CHUNK):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def write_animals(path: Path, animals: pa.Table) -> None:
    """Write every animal of `animal_table` as a point (GeoJSON)."""
    lonlat = np.column_stack([animals["lon"].to_numpy(), animals["lat"].to_numpy()])
    attributes = animals.drop_columns(["lon", "lat"])
    properties = (dict(zip(attributes.column_names, row, strict=True)) for row in rows_of(attributes))
    _write_features(path, points(lonlat), properties)


def write_coverage(path: Path, frames: Sequence[Frame], coverage: Coverage, grid: Grid) -> None:
    """Write strata, the ground of each transect, and the footprint of each photo, as WGS84 polygons (GeoJSON)."""
    drawn = [region for region in coverage.regions if region.polygon is not None]
    shapes = [
        *(region.polygon for region in drawn),
        *(unit.polygon for unit in coverage.units),
        *coverage.footprints.values(),
    ]

    def properties() -> Iterator[dict[str, Any]]:
        for region in drawn:
            yield {"kind": "stratum", "name": region.name, "area_km2": region.area_km2}
        for unit in coverage.units:
            yield {"kind": "transect", "name": unit.transect, "stratum": unit.stratum, "area_km2": unit.area_km2}
        for number in coverage.footprints:
            yield {"kind": "photo", "name": frames[number].name, "transect": frames[number].transect}

    _write_features(path, in_degrees(np.array(shapes, object), grid), properties())


def in_degrees(shapes: Shapes, grid: Grid) -> Shapes:
    """Polygonal shapes (n,) on the grid as valid ones in degrees, as RFC 7946 requires.

    Outer rings run counterclockwise (3.1.6), and what crosses the antimeridian is in parts that do not (3.1.9).
    """
    if len(shapes) == 0:
        return shapes
    found = np.asarray(transform(shapes, grid.inverse), object)
    limits = bounds(found)
    across = np.flatnonzero(limits[:, 2] - limits[:, 0] > 180)
    found[across] = [cut_at_antimeridian(shape) for shape in found[across]]
    found = np.asarray(transform(found, lambda lonlat: lonlat.round(_DEGREES)), object)
    # Rounding can close a gap of less than a centimetre.
    odd = np.flatnonzero(~is_valid(found) | ~np.isin(get_type_id(found), (_POLYGON, _MULTIPOLYGON)))
    found[odd] = _as_multipolygons(make_valid(found[odd]))
    return np.asarray(orient_polygons(found), object)


def _write_features(path: Path, shapes: Shapes, properties: Iterator[Mapping[str, Any]]) -> None:
    head: dict[str, Any] = {"type": "FeatureCollection"}
    if len(shapes):
        head["bbox"] = [round(limit, _DEGREES) for limit in lonlat_bounds(get_coordinates(shapes))]
    texts = (text for start in range(0, len(shapes), _CHUNK) for text in to_geojson(shapes[start : start + _CHUNK]))
    features = (
        f'{{"type":"Feature","geometry":{shape},"properties":{encode(attributes)}}}'
        for shape, attributes in zip(texts, properties, strict=True)
    )
    write_json(path, head, {"features": features})


def write_geopackage(
    path: Path,
    *,
    animals: pa.Table,
    frames: Sequence[Frame],
    boxes: IntArray,
    coverage: Coverage,
    counts: Sequence[UnitCount],
    grid: Grid,
) -> None:
    """Write animals.gpkg with the layers `animals`, `photos`, `transects` and `strata`; a layer may be empty.

    `animals` is the `animal_table`, `boxes` (n,) the number of boxes of each frame, `counts` the tally's. Equal results
    are equal bytes. Raises OSError where the file cannot be written, such as on a full disk.
    """
    layers = {
        "animals": ("Point", _animal_layer(animals)),
        "photos": ("MultiPolygon", _photo_layer(frames, boxes, coverage, grid)),
        "transects": ("MultiPolygon", _transect_layer(coverage, counts)),
        "strata": ("MultiPolygon", _stratum_layer(coverage)),
    }
    with atomic_path(path) as temporary, _timeless():
        for number, (name, (kind, table)) in enumerate(layers.items()):
            try:
                pyogrio.write_arrow(
                    table,
                    temporary,
                    layer=name,
                    driver="GPKG",
                    geometry_name="geom",
                    geometry_type=kind,
                    crs=f"EPSG:{grid.epsg}",
                    append=number > 0,
                )
            except (DataSourceError, DataLayerError) as error:
                raise OSError(errno.EIO, str(error), str(path)) from error
        if not _is_complete(temporary, {name: len(table) for name, (_, table) in layers.items()}):
            raise OSError(errno.EIO, "it was not written to its end; is the disk full?", str(path))


def _is_complete(path: Path, rows: Mapping[str, int]) -> bool:
    """Whether a GeoPackage contains the given rows by layer, their bounds and their spatial indexes.

    GDAL writes the last pages on closing, and pyogrio does not report errors then.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            for name, count in rows.items():
                (found,) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()  # noqa: S608 - our own names
                (indexed,) = connection.execute(f'SELECT count(*) FROM "rtree_{name}_geom_rowid"').fetchone()  # noqa: S608
                (limits,) = connection.execute(
                    "SELECT count(min_x) FROM gpkg_contents WHERE table_name = ?", (name,)
                ).fetchone()
                if (found, indexed, limits) != (count, count, min(count, 1)):
                    return False
            return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


@contextmanager
def _timeless() -> Iterator[None]:
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _NO_TIME})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})


def _animal_layer(animals: pa.Table) -> pa.Table:
    places = np.column_stack([animals["easting"].to_numpy(), animals["northing"].to_numpy()])
    return animals.append_column("geom", pa.array(to_wkb(points(places)), pa.binary()))


def _photo_layer(frames: Sequence[Frame], boxes: IntArray, coverage: Coverage, grid: Grid) -> pa.Table:
    numbers = list(coverage.footprints)
    shown = [frames[number] for number in numbers]
    shapes = np.array(list(coverage.footprints.values()), object)
    times = [None if frame.taken_at is None else frame.taken_at.isoformat() for frame in shown]
    return _layer(
        shapes,
        {
            "photo": pa.array([frame.name for frame in shown], pa.string()),
            "transect": pa.array([frame.transect for frame in shown], pa.string()),
            "stratum": pa.array([coverage.region_of.get(number) for number in numbers], pa.string()),
            # A camera's clock has no zone, and a GeoPackage's times are in UTC.
            "taken_at": pa.array(times, pa.string()),
            "gsd_m": pa.array([None if one.placement is None else one.placement.gsd_m for one in shown], pa.float64()),
            "area_m2": pa.array(ground_areas_m2(coverage, grid) if numbers else [], pa.float64()),
            "boxes": pa.array(boxes[np.array(numbers, np.int64)], pa.int64()),
        },
    )


def _transect_layer(coverage: Coverage, counts: Sequence[UnitCount]) -> pa.Table:
    species = list(dict.fromkeys(count.species for count in counts))
    found = {(count.stratum, count.transect, count.species): count.count for count in counts}
    columns = {
        f"unique_{name}": pa.array(
            [found.get((unit.stratum, unit.transect, name), 0) for unit in coverage.units], pa.int64()
        )
        for name in species
    }
    return _layer(
        np.array([unit.polygon for unit in coverage.units], object),
        {
            "transect": pa.array([unit.transect for unit in coverage.units], pa.string()),
            "stratum": pa.array([unit.stratum for unit in coverage.units], pa.string()),
            "area_km2": pa.array([unit.area_km2 for unit in coverage.units], pa.float64()),
            "photos": pa.array([len(unit.frames) for unit in coverage.units], pa.int64()),
            **columns,
        },
    )


def _stratum_layer(coverage: Coverage) -> pa.Table:
    drawn = [region for region in coverage.regions if region.polygon is not None]
    units = [[unit for unit in coverage.units if unit.stratum == region.name] for region in drawn]
    return _layer(
        np.array([region.polygon for region in drawn], object),
        {
            "stratum": pa.array([region.name for region in drawn], pa.string()),
            "area_km2": pa.array([region.area_km2 for region in drawn], pa.float64()),
            "transects": pa.array([len(flown) for flown in units], pa.int64()),
            "sampled_km2": pa.array([sum(unit.area_km2 for unit in flown) for flown in units], pa.float64()),
        },
    )


def _layer(shapes: Shapes, columns: Mapping[str, pa.Array]) -> pa.Table:
    texts = to_wkb(orient_polygons(_as_multipolygons(shapes)))
    return pa.table({**columns, "geom": pa.array(list(texts), pa.binary())})


def _as_multipolygons(shapes: Shapes) -> Shapes:
    """The polygons in each shape (n,); lines and points, which an intersection may leave, are no ground."""
    whole: Shapes = np.full(len(shapes), MultiPolygon(), object)
    parts, index = get_parts(shapes, return_index=True)
    inner, within = get_parts(parts, return_index=True)
    kept = get_type_id(inner) == _POLYGON
    if kept.any():
        multipolygons(inner[kept], indices=index[within][kept], out=whole)
    return whole
