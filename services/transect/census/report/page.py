"""Render the report: one HTML file without external resources, for reading offline and for print."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.census.applicability.state import STATES, Applicability
from transect.census.counting.breakdown import species_steps
from transect.census.counting.tally import SpeciesRow, Tally, UnitCount
from transect.census.ground.coverage import Coverage
from transect.census.ground.geometry import Grid
from transect.census.ground.overlap import measure_overlap
from transect.census.ground.placement.frames import Frame
from transect.census.inputs.survey import SurveySpec
from transect.census.issues import Issue
from transect.census.report import charts, formatting, survey_map, thumbnails
from transect.census.report.remarks import remarks
from transect.census.sightings.animals import Animals
from transect.census.sightings.observations import Observations
from transect.files import atomic_write
from transect.pages.numbers import FILTERS
from transect.pages.svg import Markup
from transect.pages.templates import load_template

# The report names so many excluded files and transects; failures.csv and transects.csv name all.
_MOST_ISSUES, _MOST_UNITS = 200, 400


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "with_error": formatting.with_error,
    "share_limits": formatting.share_limits,
    "cv_of": formatting.cv_of,
}


@dataclass(frozen=True, kw_only=True)
class ReportInput:
    """The input of the report."""

    spec: SurveySpec
    frames: Sequence[Frame]
    coverage: Coverage
    observations: Observations
    animals: Animals
    tally: Tally
    issues: Sequence[Issue]
    names: Sequence[str]
    manifest: dict[str, Any]
    max_pixels: int
    grid: Grid
    applicability: Applicability


def write_report(path: Path, content: ReportInput) -> None:
    """Write the report, whole or not at all."""
    atomic_write(path, render_report(content))


def render_report(content: ReportInput) -> str:
    """The report as HTML text."""
    names, seen, rows = content.names, content.observations, content.tally.rows
    many = int(content.manifest["config"]["thumbnails"])
    corrections = {one.species: one for one in content.tally.corrections}
    applied = [one for one in content.tally.corrections if one.applies]
    html = load_template("transect.census.report", "report.html.j2", filters=FILTERS, functions=_FUNCTIONS).render(
        spec=content.spec,
        manifest=content.manifest,
        config=content.manifest["config"],
        sections=manifest_sections(content.manifest),
        species=[_species(row, number, content.applicability) for number, row in enumerate(rows)],
        steps=[
            (_species(row, n, content.applicability), species_steps(row, corrections.get(row.species)))
            for n, row in enumerate(rows)
        ],
        ticks=_ticks(rows),
        remarks=remarks(rows, content.manifest, content.frames, content.coverage, content.spec),
        corrections=content.tally.corrections,
        states={row.species: row.detector for row in rows},
        of_state={state: [row.species for row in rows if row.detector == state] for state in STATES},
        detector_corrected=any(one.detector is not None for one in applied),
        by_ground=[one.species for one in applied if one.ground is not None],
        by_precision=[one.species for one in applied if one.detector is not None and one.ground is None],
        factors_given=any(one.factors != type(one.factors)() for one in applied),
        estimates=_estimates(content),
        methods={one.estimate.method for one in content.tally.estimates},
        map=survey_map.draw_map(_layers(content)),
        drawn=_animals_per_mark(content.animals),
        strata=_strata(content),
        overlap=measure_overlap(content.frames, content.coverage, content.grid),
        bars=_bars(content),
        units=_by_unit(content)[:_MOST_UNITS],
        more_units=max(len(content.coverage.units) - _MOST_UNITS, 0),
        scores=_scores(content),
        uncertain=thumbnails.least_certain(content.frames, seen, names, many, content.max_pixels),
        crowded=thumbnails.most_crowded(content.frames, seen, names, many, content.max_pixels),
        kinds=formatting.issue_counts(content.issues),
        issues=content.issues[:_MOST_ISSUES],
        more_issues=max(len(content.issues) - _MOST_ISSUES, 0),
    )
    return html.lstrip() + "\n"


def manifest_sections(manifest: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every value of the manifest as (section, [(key, text)]); top-level values first."""
    top = [(key, _value_text(value)) for key, value in manifest.items() if not isinstance(value, Mapping | list)]
    sections = [("census", top)]
    for key, value in manifest.items():
        if isinstance(value, Mapping):
            sections.append((key, [(str(name), _value_text(one)) for name, one in value.items()]))
        elif isinstance(value, list):
            sections.append((key, [(str(number), _value_text(one)) for number, one in enumerate(value, start=1)]))
    return [(name.replace("_", " "), found) for name, found in sections if found]


def _value_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_value_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_value_text(one) for one in value)
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def _species(row: SpeciesRow, number: int, applicability: Applicability) -> dict[str, Any]:
    head, tail = formatting.summary_sentence(row)
    return {
        "row": row,
        "name": row.species,
        "colour": charts.colour(number),
        "mark": survey_map.mark(number),
        "head": head,
        "tail": tail,
        "doubts": formatting.doubt_sentences(row, applicability.reasons(row.species)),
    }


def _ticks(rows: Sequence[SpeciesRow]) -> list[float]:
    """The axis of the estimates, from 0; empty where nothing is estimated."""
    tops = [max(row.estimate, row.ci95[1] if row.ci95 else 0.0) for row in rows if row.estimate is not None]
    return charts.axis(max(tops)) if tops and max(tops) > 0 else []


def _estimates(content: ReportInput) -> list[tuple[dict[str, Any], list[Any]]]:
    """The estimates of each species, strata first, their sum last, each with that of a doubtful correction."""
    found = []
    doubtful = {(one.stratum, one.species): one.estimate for one in content.tally.doubtful}
    for number, row in enumerate(content.tally.rows):
        mine = [
            (one, doubtful.get((one.stratum, row.species)))
            for one in content.tally.estimates
            if one.species == row.species
        ]
        if mine:
            found.append((_species(row, number, content.applicability), mine))
    return found


def _strata(content: ReportInput) -> list[dict[str, Any]]:
    rows = []
    for region in content.coverage.regions:
        units = [unit for unit in content.coverage.units if unit.stratum == region.name]
        sampled = sum(unit.area_km2 for unit in units)
        photos = sum(1 for stratum in content.coverage.region_of.values() if stratum == region.name)
        rows.append(
            {
                "name": region.name,
                "area": region.area_km2,
                "transects": len(units),
                "possible": region.transects_possible,
                "photos": photos,
                "sampled": sampled,
                "share": sampled / region.area_km2,
            }
        )
    return rows


def _layers(content: ReportInput) -> survey_map.MapLayers:
    coverage, animals = content.coverage, content.animals
    few = len(coverage.footprints) <= survey_map.MOST_SHAPES
    grounds = list(coverage.footprints.values()) if few else [unit.polygon for unit in coverage.units]
    step = _animals_per_mark(animals)
    labels = []
    for unit in coverage.units if content.spec.sampling == "strip" else ():
        west, _, east, north = unit.polygon.bounds
        labels.append((unit.transect, (west + east) / 2, north))
    return survey_map.MapLayers(
        content.grid,
        [(region.name, region.polygon) for region in coverage.regions if region.polygon is not None],
        grounds,
        labels,
        animals.xy[::step],
        animals.species[::step].tolist(),
    )


def _animals_per_mark(animals: Animals) -> int:
    return -(-max(len(animals.species), 1) // survey_map.MOST_ANIMALS)


def _by_unit(content: ReportInput) -> list[tuple[str, str, list[UnitCount]]]:
    """Stratum, transect and the counts of all species, for each sampling unit of a strip survey."""
    if content.spec.sampling != "strip":
        return []
    found: dict[tuple[str, str], list[UnitCount]] = {}
    for one in content.tally.units:
        found.setdefault((one.stratum, one.transect), []).append(one)
    return [(stratum, transect, counts) for (stratum, transect), counts in found.items()]


def _bars(content: ReportInput) -> list[tuple[str, Markup]]:
    """A chart for each species that was counted: (species, SVG)."""
    units = _by_unit(content)
    several = len(content.coverage.regions) > 1
    names = [f"{stratum} {transect}" if several else transect for stratum, transect, _ in units]
    shown = [number for number, row in enumerate(content.tally.rows) if row.unique]
    found = []
    for number in shown:
        species = content.names[number]
        title = f"{species}: animals counted on each transect"
        counts = [counts[number].count for _, _, counts in units]
        svg = charts.draw_bars(names, counts, number, title, named=number == shown[-1])
        found.append((species, svg))
    return [one for one in found if one[1]]


def _scores(content: ReportInput) -> list[tuple[str, int, Markup]]:
    """A chart for each species that was detected: (species, boxes, SVG)."""
    seen, threshold = content.observations, float(content.manifest["options"]["conf"])
    found = []
    for number, species in enumerate(content.names):
        scores = seen.score[seen.species == number]
        svg = charts.draw_scores(scores, number, threshold, f"{species}: detections by score")
        found.append((species, len(scores), svg))
    return [one for one in found if one[2]]
