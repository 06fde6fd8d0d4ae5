"""The result as files that other programs read: Parquet, GeoJSON, CSV, JSON. Each is whole or absent."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from shapely import transform
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from transect.census.animals import Animals
from transect.census.correction import correction_record
from transect.census.coverage import Coverage
from transect.census.geometry import Grid
from transect.census.lonlat import cut_at_antimeridian
from transect.census.observations import Observations
from transect.census.positions import Frame
from transect.census.result import Failure
from transect.census.tally import SpeciesRow, StratumEstimate, Tally, UnitCount
from transect.files import atomic_path, atomic_write, atomic_write_json

# Seven decimals of a degree are about a centimetre.
_DEGREES = 7
_ANIMAL_COLUMNS = (
    *("animal", "species", "lon", "lat", "easting", "northing"),
    *("stratum", "transect", "photos", "best_score"),
)
_ESTIMATE_COLUMNS = (
    *("stratum", "species", "method", "n", "seen", "area_km2", "density"),
    *("estimate", "variance", "se", "ci95", "note", "df", "stratum_km2", "uncorrected"),
)


def write_detections(
    path: Path,
    *,
    frames: Sequence[Frame],
    observations: Observations,
    names: Sequence[str],
    animal_of: np.ndarray[Any, np.dtype[np.int64]],
    grid: Grid,
) -> None:
    """Every box of a reported species: where in which photo, where on the ground, which animal (null: none)."""
    lonlat = np.full_like(observations.xy, np.nan)
    lonlat[observations.placed] = grid.inverse(observations.xy[observations.placed])
    frame = observations.frame
    table = pa.table(
        {
            "image": pa.array([frames[number].name for number in frame], pa.string()),
            "transect": pa.array([frames[number].transect for number in frame], pa.string()),
            "species": pa.array([names[number] for number in observations.species], pa.string()),
            "class_name": pa.array(observations.class_name, pa.string()),
            "score": pa.array(observations.score),
            **{name: pa.array(observations.box[:, i]) for i, name in enumerate(("x1", "y1", "x2", "y2"))},
            "cut_by_edge": pa.array(observations.cut),
            "middle_in_photo": pa.array(observations.inside),
            "lon": pa.array(lonlat[:, 0], from_pandas=True),
            "lat": pa.array(lonlat[:, 1], from_pandas=True),
            "easting": pa.array(observations.xy[:, 0], from_pandas=True),
            "northing": pa.array(observations.xy[:, 1], from_pandas=True),
            "animal": pa.array(animal_of + 1, pa.int64(), mask=animal_of < 0),
        }
    )
    table = table.replace_schema_metadata({"crs": f"EPSG:{grid.epsg}"})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def animal_records(animals: Animals, names: Sequence[str], coverage: Coverage, grid: Grid) -> list[dict[str, Any]]:
    """One record an animal, numbered from 1: species, position, how many photos, the best score."""
    lonlat = grid.inverse(animals.xy).round(_DEGREES)
    records = []
    for number in range(len(animals.species)):
        unit = coverage.units[animals.unit[number]] if animals.unit[number] >= 0 else None
        records.append(
            {
                "animal": number + 1,
                "species": names[animals.species[number]],
                "lon": float(lonlat[number, 0]),
                "lat": float(lonlat[number, 1]),
                "easting": round(float(animals.xy[number, 0]), 3),
                "northing": round(float(animals.xy[number, 1]), 3),
                "stratum": unit.stratum if unit else "",
                "transect": unit.transect if unit else "",
                "photos": int(animals.sightings[number]),
                "best_score": float(animals.score[number]),
            }
        )
    return records


def write_animals(folder: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """animals.csv and animals.geojson."""
    write_csv(folder / "animals.csv", _ANIMAL_COLUMNS, records)
    features = [
        _feature(
            {"type": "Point", "coordinates": [record["lon"], record["lat"]]},
            {key: value for key, value in record.items() if key not in ("lon", "lat")},
        )
        for record in records
    ]
    _write_features(folder / "animals.geojson", features)


def write_coverage(path: Path, frames: Sequence[Frame], coverage: Coverage, grid: Grid) -> None:
    """Strata, the ground of each transect, and the footprint of each photo, as WGS84 polygons."""
    features = []
    for region in coverage.regions:
        if region.polygon is not None:
            properties = {"kind": "stratum", "name": region.name, "area_km2": region.area_km2}
            features.append(_feature(_degrees(region.polygon, grid), properties))
    for unit in coverage.units:
        properties = {"kind": "transect", "name": unit.transect, "stratum": unit.stratum, "area_km2": unit.area_km2}
        features.append(_feature(_degrees(unit.polygon, grid), properties))
    for number, polygon in coverage.footprints.items():
        frame = frames[number]
        properties = {"kind": "photo", "name": frame.name, "transect": frame.transect}
        features.append(_feature(_degrees(polygon, grid), properties))
    _write_features(path, features)


def write_tables(folder: Path, tally: Tally, failures: Sequence[Failure]) -> None:
    """counts.csv, transects.csv, estimate.csv, estimate.json and failures.csv."""
    counts = [_with_limits(asdict(row)) for row in tally.rows]
    write_csv(folder / "counts.csv", _with_limit_columns([field.name for field in fields(SpeciesRow)]), counts)
    units = [asdict(unit) for unit in tally.units]
    write_csv(folder / "transects.csv", [field.name for field in fields(UnitCount)], units)
    estimates = [estimate_record(one) for one in tally.estimates]
    write_csv(folder / "estimate.csv", _with_limit_columns(_ESTIMATE_COLUMNS), [_with_limits(one) for one in estimates])
    corrections = [correction_record(one) for one in tally.corrections]
    atomic_write_json(folder / "estimate.json", {"estimates": estimates, "corrections": corrections})
    listed = [{"file": one.file, "reason": one.reason, "kind": one.kind} for one in failures]
    write_csv(folder / "failures.csv", ["file", "reason", "kind"], listed)


def estimate_record(one: StratumEstimate) -> dict[str, Any]:
    """One estimate as JSON, unrounded."""
    estimate = one.estimate
    return {
        "stratum": one.stratum,
        "species": one.species,
        "method": estimate.method,
        "n": estimate.n,
        "seen": estimate.seen,
        "area_km2": estimate.area_km2,
        "density": estimate.density,
        "estimate": estimate.estimate,
        "variance": estimate.variance,
        "se": estimate.se,
        "ci95": None if estimate.ci95 is None else list(estimate.ci95),
        "note": estimate.note,
        "df": estimate.df,
        "stratum_km2": estimate.stratum_km2,
        "uncorrected": None if one.uncorrected is None else one.uncorrected.estimate,
    }


def write_csv(path: Path, columns: Sequence[str], records: Iterable[Mapping[str, Any]]) -> None:
    """A CSV file in UTF-8; None is an empty cell."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    atomic_write(path, stream.getvalue())


def _with_limits(record: dict[str, Any]) -> dict[str, Any]:
    low, high = record.pop("ci95") or (None, None)
    return record | {"ci95_low": low, "ci95_high": high}


def _with_limit_columns(columns: Sequence[str]) -> list[str]:
    at = columns.index("ci95")
    return [*columns[:at], "ci95_low", "ci95_high", *columns[at + 1 :]]


def _degrees(shape: BaseGeometry, grid: Grid) -> Mapping[str, Any]:
    return dict(mapping(cut_at_antimeridian(transform(shape, lambda xy: grid.inverse(xy).round(_DEGREES)))))


def _feature(geometry: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _write_features(path: Path, features: Sequence[Mapping[str, Any]]) -> None:
    atomic_write_json(path, {"type": "FeatureCollection", "features": features})
