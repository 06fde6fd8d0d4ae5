"""Write the result files: Parquet, GeoPackage, GeoJSON, CSV, JSON. Each is whole or absent.

Equal results are equal bytes: no file contains its time of writing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from transect.census.applicability.state import Applicability, overall
from transect.census.counting.breakdown import correction_records
from transect.census.counting.count import Census
from transect.census.counting.tally import SpeciesRow, StratumEstimate, Tally, UnitCount
from transect.census.issues import Issue
from transect.census.outputs.detections import write_detections
from transect.census.outputs.geodata import animal_table, rows_of, write_animals, write_coverage, write_geopackage
from transect.census.outputs.interchange import SearchedPhotos, write_coco, write_megadetector
from transect.census.outputs.photos import write_photos
from transect.census.outputs.units import write_units
from transect.census.outputs.writers import write_csv
from transect.files import atomic_write_json, sha256_file

DATA_FILES = (
    *("animals.csv", "animals.geojson", "animals.gpkg", "coco.json", "counts.csv", "coverage.geojson"),
    *("detections.parquet", "estimate.csv", "estimate.json", "failures.csv", "megadetector.json"),
    *("photos.parquet", "transects.csv", "units.parquet"),
)
"""The files of `write_outputs`."""

_ESTIMATE_COLUMNS = (
    *("stratum", "species", "method", "n", "seen", "area_km2", "density"),
    *("estimate", "variance", "se", "ci95", "note", "df", "stratum_km2", "uncorrected"),
)


def write_outputs(
    folder: Path, census: Census, manifest: Mapping[str, Any], *, time_window_s: float
) -> dict[str, dict[str, Any]]:
    """Write all files except report and manifest; return the SHA-256 and size in bytes of each, by name.

    `time_window_s` is that of the census.
    """
    frames, grid, observations, coverage = census.plan.frames, census.plan.grid, census.observations, census.coverage
    names = census.species.names
    animals = animal_table(census.unique.animals, names, coverage, grid)
    write_detections(folder / "detections.parquet", census)
    write_photos(folder / "photos.parquet", census, time_window_s)
    write_units(folder / "units.parquet", census)
    write_csv(folder / "animals.csv", animals.column_names, rows_of(animals))
    write_animals(folder / "animals.geojson", animals)
    write_geopackage(
        folder / "animals.gpkg",
        animals=animals,
        frames=frames,
        boxes=np.bincount(observations.frame, minlength=len(frames)),
        coverage=coverage,
        counts=census.tally.units,
        grid=grid,
    )
    write_coverage(folder / "coverage.geojson", frames, coverage, grid)
    searched = SearchedPhotos(
        frames=frames,
        found=census.found,
        left_out=census.left_out,
        observations=observations,
        animal_of=census.unique.animal_of,
        names=names,
    )
    write_coco(folder / "coco.json", searched, manifest)
    write_megadetector(folder / "megadetector.json", searched, manifest)
    write_tables(folder, census.tally, census.issues, census.applicability)
    return {name: _identity(folder / name) for name in DATA_FILES}


def write_tables(folder: Path, tally: Tally, issues: Sequence[Issue], applicability: Applicability) -> None:
    """Write counts.csv, transects.csv, estimate.csv, estimate.json and failures.csv."""
    counts = [_with_limits(asdict(row)) for row in tally.rows]
    names = [field.name for field in fields(SpeciesRow)]
    columns = _with_limit_columns(_with_limit_columns(names), "doubtful_ci95")
    _write_records(folder / "counts.csv", columns, [_with_limits(one, "doubtful_ci95") for one in counts])
    units = [asdict(unit) for unit in tally.units]
    _write_records(folder / "transects.csv", [field.name for field in fields(UnitCount)], units)
    estimates = [estimate_record(one) for one in tally.estimates]
    limited = [_with_limits(one) for one in estimates]
    _write_records(folder / "estimate.csv", _with_limit_columns(_ESTIMATE_COLUMNS), limited)
    corrections = correction_records(tally)
    detector = detector_record(tally, applicability)
    atomic_write_json(
        folder / "estimate.json", {"detector": detector, "estimates": estimates, "corrections": corrections}
    )
    write_csv(folder / "failures.csv", ("file", "reason", "kind"), [(one.file, one.reason, one.kind) for one in issues])


def detector_record(tally: Tally, applicability: Applicability) -> dict[str, Any]:
    """Whether the model's validation applies to the survey, by species, and the numbers of doubtful corrections."""
    return {
        "state": overall({row.species: applicability.state(row.species) for row in tally.rows}),
        "species": {
            row.species: {
                **applicability.record(row.species),
                "doubtful": row.doubtful,
                "doubtful_estimate": row.doubtful_estimate,
                "doubtful_ci95": None if row.doubtful_ci95 is None else list(row.doubtful_ci95),
                "doubtful_estimates": [estimate_record(one) for one in tally.doubtful if one.species == row.species],
            }
            for row in tally.rows
        },
    }


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


def _write_records(path: Path, columns: Sequence[str], records: Sequence[Mapping[str, Any]]) -> None:
    write_csv(path, columns, [[record[column] for column in columns] for record in records])


def _identity(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_file(path), "size": path.stat().st_size}


def _with_limits(record: Mapping[str, Any], name: str = "ci95") -> dict[str, Any]:
    low, high = record[name] or (None, None)
    return {**record, f"{name}_low": low, f"{name}_high": high}


def _with_limit_columns(columns: Sequence[str], name: str = "ci95") -> list[str]:
    at = columns.index(name)
    return [*columns[:at], f"{name}_low", f"{name}_high", *columns[at + 1 :]]
