"""The report: one HTML file that needs nothing else, for reading offline and for print."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from transect.census import charts, thumbnails
from transect.census.animals import Animals
from transect.census.coverage import Coverage
from transect.census.observations import Observations
from transect.census.positions import Frame
from transect.census.result import Failure
from transect.census.survey import SurveySpec
from transect.census.tally import Tally
from transect.files import atomic_write

# The report names so many excluded files; failures.csv names all.
_MOST_FAILURES = 200


@dataclass(frozen=True)
class ReportInput:
    """Everything that the report shows."""

    spec: SurveySpec
    frames: Sequence[Frame]
    coverage: Coverage
    observations: Observations
    animals: Animals
    tally: Tally
    failures: Sequence[Failure]
    names: Sequence[str]
    manifest: dict[str, Any]
    max_pixels: int


def write_report(path: Path, content: ReportInput) -> None:
    """Write the report, whole or not at all."""
    atomic_write(path, render_report(content))


def render_report(content: ReportInput) -> str:
    """The report as HTML text."""
    config = content.manifest["config"]
    many = int(config["thumbnails"])
    names, seen = content.names, content.observations
    return _template().render(
        spec=content.spec,
        manifest=content.manifest,
        manifest_text=json.dumps(content.manifest, indent=2, ensure_ascii=False),
        rows=content.tally.rows,
        estimates=content.tally.estimates,
        strata=_strata(content),
        notes=_notes(content),
        legend=[(name, charts.colour(number)) for number, name in enumerate(names)],
        map=charts.draw_map(_layers(content)),
        bars=_bars(content),
        histogram=charts.draw_histogram([seen.score[seen.species == number] for number in range(len(names))]),
        crowded=thumbnails.most_crowded(content.frames, seen, names, many // 2, content.max_pixels),
        uncertain=thumbnails.least_certain(content.frames, seen, names, many, content.max_pixels),
        failures=content.failures[:_MOST_FAILURES],
        more_failures=max(len(content.failures) - _MOST_FAILURES, 0),
        several=any(one.stratum == "all" for one in content.tally.estimates),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("transect.census", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = charts.count_text
    environment.filters["figures"] = _figures
    return environment.get_template("report.html.j2")


def _figures(value: float | None, digits: int = 3) -> str:
    """A number to so many significant figures, never in exponents; a dash for None."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    places = max(digits - 1 - int(np.floor(np.log10(abs(value)))), 0)
    return f"{value:,.{places}f}".replace(",", "\u202f")


def _strata(content: ReportInput) -> list[dict[str, Any]]:
    rows = []
    for region in content.coverage.regions:
        units = [unit for unit in content.coverage.units if unit.stratum == region.name]
        sampled = sum(unit.area_km2 for unit in units)
        rows.append(
            {
                "name": region.name,
                "area": region.area_km2,
                "transects": len(units),
                "sampled": sampled,
                "share": sampled / region.area_km2,
            }
        )
    return rows


def _notes(content: ReportInput) -> list[str]:
    images = content.manifest["images"]
    rows = content.tally.rows
    found = [f"{row.species}: {row.note}" for row in rows if row.note and row.unique]
    notes = list(dict.fromkeys(found)) if len({row.note for row in rows}) > 1 else [n for n in [rows[0].note] if n]
    unplaced, outside = sum(row.seen_unplaced for row in rows), sum(row.outside for row in rows)
    if unplaced:
        notes.append(
            f"{unplaced} detections are in {images['unplaced']} photos without a usable position. "
            "They are in no count of unique animals and in no estimate."
        )
    if outside:
        notes.append(f"{outside} unique animals lie outside every stratum or transect; they are in no estimate.")
    cameras = content.manifest["cameras"]
    if len(cameras) > 1:
        told = "; ".join(f"{one['camera']}, {one['focal_mm']:g} mm: {one['photos']} photos" for one in cameras)
        notes.append(f"The photos come from several cameras, each with its own scale: {told}.")
    if images["suspect"]:
        notes.append(
            f"{images['suspect']} photos count although their time or place contradicts that of others; they are named "
            "among the files below."
        )
    if images["truncated"]:
        notes.append(
            f"In {images['truncated']} photos the detector reached its limit of objects in a tile; "
            "animals may be missing there."
        )
    lone = sum(1 for number in content.coverage.footprints if content.frames[number].transect is None)
    if lone and content.spec.sampling == "strip" and content.coverage.regions:
        notes.append(f"{lone} photos are on no transect; their animals count as unique, but not in the estimate.")
    return notes


def _layers(content: ReportInput) -> charts.MapLayers:
    coverage, animals = content.coverage, content.animals
    few = len(coverage.footprints) <= charts.MOST_SHAPES
    grounds = list(coverage.footprints.values()) if few else [unit.polygon for unit in coverage.units]
    step = -(-max(len(animals.species), 1) // charts.MOST_ANIMALS)
    labels = []
    for unit in coverage.units:
        if content.spec.sampling == "strip" and len(coverage.units) <= 60:
            west, _, east, north = unit.polygon.bounds
            labels.append((unit.transect, (west + east) / 2, north))
    return charts.MapLayers(
        [(region.name, region.polygon) for region in coverage.regions if region.polygon is not None],
        grounds,
        labels,
        animals.xy[::step],
        animals.species[::step].tolist(),
    )


def _bars(content: ReportInput) -> str:
    if content.spec.sampling != "strip":
        return ""
    several = len(content.coverage.regions) > 1
    names = [f"{unit.stratum} {unit.transect}" if several else unit.transect for unit in content.coverage.units]
    counts = [[unit.count for unit in content.tally.units if unit.species == species] for species in content.names]
    return charts.draw_bars(names, counts)
