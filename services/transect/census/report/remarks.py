"""The report's remarks: caveats on the use of the numbers, one or two sentences each. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from transect.census.applicability.state import UNKNOWN_ERRORS
from transect.census.counting.tally import SpeciesRow
from transect.census.ground.coverage import Coverage
from transect.census.ground.placement.frames import Frame
from transect.census.inputs.survey import SurveySpec
from transect.wording import count_of


def remarks(
    rows: Sequence[SpeciesRow],
    manifest: Mapping[str, Any],
    frames: Sequence[Frame],
    coverage: Coverage,
    spec: SurveySpec,
) -> list[str]:
    """The remarks of a census, those on the estimates first."""
    return [*_of_estimates(rows), *_of_positions(rows, manifest, frames, coverage, spec), *_of_photos(manifest)]


def _of_estimates(rows: Sequence[SpeciesRow]) -> list[str]:
    """The notes of the rows, each once, with its species where it is not about all."""
    about: dict[str, list[str]] = {}
    for row in rows:
        # That note is printed beside the number itself.
        note = row.note.replace(UNKNOWN_ERRORS, "").strip()
        if note and (row.unique or row.seen_unplaced):
            about.setdefault(note, []).append(row.species)
    counted = sum(1 for row in rows if row.unique or row.seen_unplaced)
    return [note if len(names) == counted else f"{', '.join(names)}: {note}" for note, names in about.items()]


def _of_positions(
    rows: Sequence[SpeciesRow],
    manifest: Mapping[str, Any],
    frames: Sequence[Frame],
    coverage: Coverage,
    spec: SurveySpec,
) -> list[str]:
    notes = []
    unplaced, outside = sum(row.seen_unplaced for row in rows), sum(row.outside for row in rows)
    if unplaced:
        notes.append(
            f"Detections in photos without a usable position: {unplaced}, in "
            f"{count_of(manifest['images']['unplaced'], 'photo')}. "
            "They are in no count of unique animals and in no estimate."
        )
    if outside:
        notes.append(f"Unique animals outside every stratum or transect, which are in no estimate: {outside}.")
    lone = sum(1 for number in coverage.footprints if frames[number].transect is None)
    if lone and spec.sampling == "strip" and coverage.regions:
        notes.append(
            f"On no transect: {count_of(lone, 'photo')}. Their animals count as unique, but not in the estimate."
        )
    return notes


def _of_photos(manifest: Mapping[str, Any]) -> list[str]:
    images, cameras = manifest["images"], manifest["cameras"]
    notes = []
    if len(cameras) > 1:
        listed = "; ".join(
            f"{one['camera']}, {one['focal_mm']:g} mm: {count_of(one['photos'], 'photo')}" for one in cameras
        )
        notes.append(f"The photos come from several cameras, each with its own scale: {listed}.")
    if images["suspect"]:
        notes.append(
            "Counted although time or place contradicts that of other photos: "
            f"{count_of(images['suspect'], 'photo')}, named among the exclusions."
        )
    if images.get("remark"):
        notes.append(
            f"Counted although metadata contradict themselves or lack something: {images['remark']} remarks, each "
            "with what was decided, named among the exclusions."
        )
    resampled = manifest["resampling"]
    if resampled and resampled["without_gsd"]:
        notes.append(
            f"Without a position, and so without a ground sample distance of its own: "
            f"{count_of(resampled['without_gsd'], 'photo')}, searched as if at the median of the others."
        )
    if images["truncated"]:
        notes.append(
            f"In {count_of(images['truncated'], 'photo')} the detector reached its limit of objects in a tile; "
            "animals may be missing there."
        )
    return notes
