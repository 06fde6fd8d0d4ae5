"""Output of `transect census run --dry-run`."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transect.api import open_detector
from transect.errors import PackageError, RegistryError
from transect.pictures.files import count_reasons
from transect.settings import Settings
from transect.wording import count_of

if TYPE_CHECKING:
    from transect.census import CensusConfig
    from transect.census.dry_run import DryRun, FileInventory, Spread
    from transect.census.issues import Issue
    from transect.census.sightings.scales import Resampling

# The number of names printed; --json prints all.
_MOST_NAMES = 20


def print_plan(
    survey: str, model: str, config: "CensusConfig", settings: Settings, *, images: str = "", as_json: bool
) -> None:
    """Plan a census and print the plan. Without a model it lacks only the expected time."""
    from transect.census import open_survey
    from transect.census.dry_run import dry_run
    from transect.census.inputs.species import reported_species

    definition = open_survey(survey, settings, images=images)
    detector, why_not = None, ""
    try:
        detector = open_detector(model or definition.model or "", settings)
    except (RegistryError, PackageError) as error:
        why_not = str(error)
    if detector is not None:
        reported_species(definition, detector.manifest.names)
    planned = dry_run(definition, config, settings, detector=detector, why_not=why_not)
    if as_json:
        print(json.dumps(planned.to_json(), indent=2, allow_nan=False))
    else:
        _print(planned)


def _print(planned: "DryRun") -> None:
    table = Table("", "", title=f"Census of {escape(planned.survey)}, not run", show_header=False)
    table.add_row("files below images/", escape(_files(planned.files)))
    table.add_row("images", f"{planned.images}, of which {planned.placed} can be placed on the ground")
    for camera in planned.cameras:
        lens = f"{camera['focal_mm']:g} mm, {camera['pixel_pitch_um']:.3g} µm a pixel ({camera['source']})"
        table.add_row("camera", escape(f"{camera['camera']}: {count_of(camera['photos'], 'photo')}, {lens}"))
    table.add_row("height above ground", _spread(planned.height_m, 1, "m"))
    table.add_row("ground sample distance", _spread(planned.gsd_m, 100, "cm"))
    table.add_row("tilt", _spread(planned.off_nadir_deg, 1, "°"))
    west, south, east, north = planned.bounds
    table.add_row("place", f"{south:.5f} to {north:.5f} N, {west:.5f} to {east:.5f} E, {planned.grid}")
    table.add_row("footprint", _spread(planned.footprint_m2, 1, "m²"))
    table.add_row("ground shown", f"{planned.area_km2:.4g} km²")
    if planned.overlap is not None:
        overlap = planned.overlap
        forward = "" if overlap.forward is None else f"{overlap.forward:.0%} forward, "
        rest = (
            f"{overlap.across:.0%} between transects, {overlap.shared:.0%} in all; each place {overlap.looks:.2f} times"
        )
        table.add_row("overlap", forward + rest)
    table.add_row("transects", str(planned.transects))
    for one in planned.strata:
        area = f"{one.sampled_km2:.4g} of {one.area_km2:.4g} km² ({one.sampled_share:.1%})"
        sampled = f"{count_of(one.transects, 'transect')}, {area}"
        table.add_row(escape(f"stratum {one.stratum}"), sampled)
    if planned.resampling is not None:
        table.add_row("searched at", _resampling(planned.resampling))
    table.add_row("expected time", _time(planned))
    Console().print(table)
    _print_issues("cannot be used", planned.unusable)
    _print_issues("to check", planned.remarks)


def _files(files: "FileInventory") -> str:
    kinds = count_reasons(files.left_out)
    why = f" ({', '.join(f'{count} {reason}' for reason, count in kinds.items())})" if kinds else ""
    return (
        f"{files.found}: {len(files.counted)} counted, {len(files.left_out)} left out{why}, "
        f"{len(files.unusable)} unusable"
    )


def _spread(spread: "Spread | None", factor: float, unit: str) -> str:
    if spread is None:
        return "-"
    least, median, most = (f"{value * factor:.4g}" for value in (spread.least, spread.median, spread.most))
    return f"{median} {unit}" if least == most else f"{least} to {most}, median {median} {unit}"


def _resampling(found: "Resampling") -> str:
    whose = ", as the model was trained" if found.target == "training" else ""
    least, median, most = (f"{found.scale[key]:.3g}" for key in ("least", "median", "most"))
    scales = f"scale {median}" if least == most else f"scales {least} to {most}, median {median}"
    return f"{found.target_gsd_m * 100:.4g} cm a pixel{whose}: {found.resampled} of {found.photos} resampled, {scales}"


def _time(planned: "DryRun") -> str:
    expected = planned.time
    if expected.seconds is None:
        return escape(f"not known: {expected.why_not}")
    minutes = expected.seconds / 60
    duration = (
        f"{expected.seconds:.0f} s"
        if minutes < 2
        else f"{minutes:.0f} min"
        if minutes < 120
        else f"{minutes / 60:.1f} h"
    )
    return f"{duration} for {count_of(expected.tiles or 0, 'tile')} (from {count_of(expected.timed, 'photo')})"


def _print_issues(what: str, issues: "Sequence[Issue]") -> None:
    if issues:
        print(f"{len(issues)} {what}:")
    for issue in issues[:_MOST_NAMES]:
        named = "" if issue.reason.startswith(("Transect ", "In transect ", issue.file)) else f"{issue.file}: "
        print(f"  {named}{issue.reason}")
    if len(issues) > _MOST_NAMES:
        print(f"  and {len(issues) - _MOST_NAMES} more; --json names all")
