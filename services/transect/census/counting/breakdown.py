"""The correction steps from boxes seen to animals estimated, for review of the number. Pure."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from transect.census.counting.tally import SpeciesRow, StratumEstimate, Tally
from transect.census.estimates.correction import Correction, correction_record
from transect.census.estimates.ground import GroundAlarms
from transect.wording import count_of


@dataclass(frozen=True)
class CorrectionStep:
    """One step from seen to estimated.

    `name` is seen, unique, single look, ground, precision, recall, availability, perception, corrected or estimate.
    `value` is the number of animals after it (None where there is none). `factor` is the step's factor on the value
    before (None where it counts anew, subtracts, or divides by the sampled share). `cv` is the coefficient of variation
    of its factor, or of the value where it has no factor (None where there is none). `why` explains it in a sentence.
    """

    name: str
    value: float | None
    factor: float | None
    cv: float | None
    why: str


def species_steps(row: SpeciesRow, correction: Correction | None) -> tuple[CorrectionStep, ...]:
    """The steps of one species' result, with those of the correction where it applies.

    Every step before `estimate` is of all photos with a position; the estimate is of the study area.
    """
    steps = [
        CorrectionStep(
            "seen", float(row.seen), None, None, "Boxes in all photos with a position; overlapping photos repeat them."
        ),
        CorrectionStep(
            "unique", float(row.unique), None, None, "Each animal once: boxes of one animal in several photos joined."
        ),
    ]
    if correction is not None and correction.applies:
        steps += _corrected(row, correction)
    spread = row.se / row.estimate if row.se is not None and row.estimate else None
    steps.append(CorrectionStep("estimate", row.estimate, None, spread, _of_the_area(row)))
    return tuple(steps)


def correction_records(tally: Tally) -> list[dict[str, Any]]:
    """For each species, as JSON and unrounded: its correction, the steps of the whole survey, and those by stratum."""
    rows = {row.species: row for row in tally.rows}
    return [
        {
            **correction_record(correction),
            "detector": rows[correction.species].detector,
            "steps": [asdict(step) for step in species_steps(rows[correction.species], correction)],
            "strata": [
                _stratum_record(one, tally, correction) for one in tally.estimates if one.species == correction.species
            ],
        }
        for correction in tally.corrections
    ]


def _stratum_record(one: StratumEstimate, tally: Tally, correction: Correction) -> dict[str, Any]:
    units = [unit for unit in tally.units if unit.species == one.species and one.stratum in (unit.stratum, "all")]
    unique, single_look = sum(unit.count for unit in units), sum(unit.single_look for unit in units)
    start, searched = unique if correction.detector is None else single_look, sum(unit.searched_mpx for unit in units)
    return {
        "stratum": one.stratum,
        "seen": sum(unit.seen for unit in units),
        "unique": unique,
        "single_look": single_look,
        "searched_mpx": searched,
        "ground_alarms": None if correction.ground is None else correction.ground.rate * searched,
        "ground_alarms_se": _alarms_error(one, tally, correction),
        "corrected": correction.of(start, searched) if correction.applies else None,
        "estimate": one.estimate.estimate,
        "uncorrected": None if one.uncorrected is None else one.uncorrected.estimate,
    }


def _alarms_error(one: StratumEstimate, tally: Tally, correction: Correction) -> float | None:
    """The standard error, in animals, that subtracted false alarms add to a stratum's estimate; None without them."""
    if correction.ground is None:
        return None
    searched = 0.0
    for part in tally.estimates:
        units = [unit for unit in tally.units if unit.species == one.species and unit.stratum == part.stratum]
        if part.species == one.species and one.stratum in (part.stratum, "all") and units:
            sampled = sum(unit.area_km2 for unit in units)
            whole = sampled if part.estimate.stratum_km2 is None else part.estimate.stratum_km2
            searched += sum(unit.searched_mpx for unit in units) * whole / sampled
    return correction.factor * correction.ground.se * searched


def _corrected(row: SpeciesRow, correction: Correction) -> Iterator[CorrectionStep]:
    value = float(row.unique)
    detector = correction.detector
    if detector is not None:
        value = row.single_look
        yield CorrectionStep(
            "single look",
            value,
            None,
            None,
            "As one look at each place would show: each box divided by the photos that show its place, since precision "
            "and recall are of one look.",
        )
        of = "drawn in"
        if correction.ground is not None:
            step = _off_the_ground(value, row.searched_mpx, correction.ground)
            value, of = step.value or 0.0, "that touch an animal in"
            yield step
        value *= detector.precision
        yield CorrectionStep(
            "precision",
            value,
            detector.precision,
            detector.precision_se / detector.precision,
            f"Of the boxes {of} {detector.images} validation images, {detector.precision:.1%} were right; "
            f"{_limited(detector.precision_ci95)}.",
        )
        value /= detector.recall
        yield CorrectionStep(
            "recall",
            value,
            1 / detector.recall,
            detector.recall_se / detector.recall,
            f"Of the {count_of(detector.objects, 'animal')} labelled in them, {detector.recall:.1%} were found; "
            f"{_limited(detector.recall_ci95)}.",
        )
    factors = correction.factors
    for name, share, error, why in (
        ("availability", factors.availability, factors.availability_se, "of the animals could be seen at all"),
        ("perception", factors.perception, factors.perception_se, "of those would a perfect reader of the photos mark"),
    ):
        if share != 1 or error:
            value /= share
            yield CorrectionStep(name, value, 1 / share, error / share, f"By survey.yaml, {share:.1%} {why}.")
    yield CorrectionStep(
        "corrected",
        row.corrected,
        correction.factor,
        correction.cv,
        "All corrections together."
        if detector is None
        else "All corrections together; precision and recall err together, so their errors do not simply add.",
    )


def _off_the_ground(boxes: float, searched_mpx: float, ground: GroundAlarms) -> CorrectionStep:
    """The boxes less the false alarms expected of empty ground."""
    value = max(boxes - ground.rate * searched_mpx, 0.0)
    low, high = (limit * searched_mpx for limit in ground.ci95)
    return CorrectionStep(
        "ground",
        value,
        None,
        ground.se * searched_mpx / value if value > 0 else None,
        f"On {count_of(ground.images, 'picture')} without an animal, {ground.mpx:.1f} megapixels in all, the model "
        f"drew {count_of(ground.alarms, 'box', 'boxes')}; one look at this survey has {searched_mpx:.1f} megapixels, "
        f"where as many to the megapixel are {ground.rate * searched_mpx:.1f}, 95% limits {low:.1f} to {high:.1f}.",
    )


def _limited(limits: tuple[float, float]) -> str:
    return f"95% limits {limits[0]:.1%} to {limits[1]:.1%}"


def _of_the_area(row: SpeciesRow) -> str:
    if row.estimate is None:
        return row.note or "There is no estimate."
    area = "For the study area."
    if row.outside:
        area = f"For the study area; {row.outside} unique animals outside every stratum or transect are not in it."
    if row.detector == "not validated here":
        area += " Without a correction of the detector's errors, which are unknown on this ground."
    return area
