import json
from dataclasses import replace

import pytest

from transect.census.counting.breakdown import correction_records, species_steps
from transect.census.counting.tally import SpeciesRow, StratumSample, Tally, UnitCount, estimate_species
from transect.census.estimates.correction import Correction, DetectorError, SpeciesFactors
from transect.census.estimates.ground import GroundAlarms

DETECTOR = DetectorError(
    precision=0.9, precision_se=0.018, recall=0.75, recall_se=0.03, factor=1.2, cv=0.05, images=80, objects=400,
    precision_ci95=(0.859, 0.931), recall_ci95=(0.688, 0.805), factor_ci95=(1.09, 1.33),
)  # fmt: skip
KNOWN = SpeciesFactors(availability=0.8, availability_se=0.04)
BOTH = Correction(species="zebra", factor=1.5, cv=0.0707, detector=DETECTOR, factors=KNOWN, note="")


def row(corrected: float | None) -> SpeciesRow:
    return SpeciesRow(
        species="zebra",
        seen=300,
        seen_unplaced=4,
        unique=110,
        outside=2,
        estimate=900.0,
        se=90.0,
        ci95=(700.0, 1100.0),
        density_per_km2=9.0,
        area_km2=12.0,
        corrected=corrected,
        single_look=100.0,
    )


def test_without_a_correction_there_are_three_steps() -> None:
    for correction in (
        None,
        Correction(species="zebra", factor=1.0, cv=0.0, detector=None, factors=SpeciesFactors(), note="no counts"),
    ):
        steps = species_steps(row(None), correction)
        assert [(step.name, step.value) for step in steps] == [("seen", 300), ("unique", 110), ("estimate", 900)]
        assert steps[-1].cv == pytest.approx(0.1)
        assert "2 unique animals outside" in steps[-1].why


def test_each_factor_of_the_detector_multiplies_the_single_look() -> None:
    steps = {step.name: step for step in species_steps(row(150.0), BOTH)}
    assert list(steps) == [
        *("seen", "unique", "single look", "precision", "recall", "availability", "corrected", "estimate")
    ]
    assert [steps[name].value for name in ("single look", "precision", "recall", "availability")] == pytest.approx(
        [100, 90, 120, 150]
    )
    assert steps["availability"].value == pytest.approx(steps["corrected"].value)
    factor = 1.0
    for name in ("precision", "recall", "availability"):
        factor *= steps[name].factor or 0
    assert factor == pytest.approx(steps["corrected"].factor)
    assert [steps[name].cv for name in ("precision", "recall", "availability")] == pytest.approx([0.02, 0.04, 0.05])
    assert steps["precision"].why.endswith("90.0% were right; 95% limits 85.9% to 93.1%.")
    assert steps["recall"].why.endswith("75.0% were found; 95% limits 68.8% to 80.5%.")


def test_the_alarms_of_the_ground_are_taken_off_before_anything_is_multiplied() -> None:
    # 0.05 a megapixel; one look has 400, so 20 of the 100 boxes.
    ground = GroundAlarms(rate=0.05, se=0.01, ci95=(0.03, 0.08), effect=1.2, alarms=25, images=200, mpx=500.0)
    correction = replace(BOTH, ground=ground)
    steps = {step.name: step for step in species_steps(replace(row(120.0), searched_mpx=400.0), correction)}
    assert [steps[name].value for name in ("ground", "precision", "recall", "availability")] == pytest.approx(
        [80, 72, 96, 120]
    )
    assert correction.of(100, 400) == pytest.approx(120)
    assert steps["ground"].factor is None
    assert steps["ground"].cv == pytest.approx(0.01 * 400 / 80)
    assert "the model drew 25 boxes" in steps["ground"].why
    assert steps["ground"].why.endswith("are 20.0, 95% limits 12.0 to 32.0.")
    assert "that touch an animal" in steps["precision"].why
    # More alarms than boxes: nothing is left, and nothing is known of its relative error.
    few = {step.name: step for step in species_steps(replace(row(0.0), searched_mpx=4000.0), correction)}
    assert (few["ground"].value, few["ground"].cv, few["availability"].value) == (0, None, 0)


def test_records_tell_what_was_taken_off_in_each_stratum() -> None:
    correction = replace(
        BOTH, ground=GroundAlarms(rate=0.05, se=0.01, ci95=(0.03, 0.08), effect=1.2, alarms=25, images=200, mpx=500.0)
    )
    units = (
        UnitCount(
            stratum="plain",
            transect="T1",
            species="zebra",
            area_km2=1.0,
            count=60,
            single_look=50.0,
            seen=200,
            searched_mpx=100.0,
        ),
        UnitCount(
            stratum="hill",
            transect="T2",
            species="zebra",
            area_km2=1.0,
            count=50,
            single_look=50.0,
            seen=100,
            searched_mpx=300.0,
        ),
    )
    samples = [
        StratumSample(
            stratum="plain",
            stratum_km2=5,
            transects_possible=None,
            counts=(60,),
            areas=(1.0,),
            single_look=(50.0,),
            searched_mpx=(100.0,),
        ),
        StratumSample(
            stratum="hill",
            stratum_km2=2,
            transects_possible=None,
            counts=(50,),
            areas=(1.0,),
            single_look=(50.0,),
            searched_mpx=(300.0,),
        ),
    ]
    estimates = estimate_species("zebra", samples, "total", correction)
    plain, hill, whole = correction_records(Tally((row(150.0),), units, tuple(estimates), (correction,)))[0]["strata"]
    # 1.5 (50 - 5) and 1.5 (50 - 15) in the sampled ground; five and two times that in all.
    assert [one["corrected"] for one in (plain, hill, whole)] == pytest.approx([67.5, 52.5, 120])
    assert [one["estimate"] for one in (plain, hill, whole)] == pytest.approx([337.5, 105, 442.5])
    assert [one["ground_alarms"] for one in (plain, hill, whole)] == pytest.approx([5, 15, 20])
    assert [one["ground_alarms_se"] for one in (plain, hill, whole)] == pytest.approx([7.5, 9, 16.5])


def test_known_shares_alone_multiply_the_unique_animals() -> None:
    steps = species_steps(
        row(137.5), Correction(species="zebra", factor=1.25, cv=0.05, detector=None, factors=KNOWN, note="")
    )
    assert [step.name for step in steps] == ["seen", "unique", "availability", "corrected", "estimate"]
    assert steps[2].value == pytest.approx(137.5)


def test_records_hold_the_steps_of_each_stratum() -> None:
    units = (
        UnitCount(stratum="plain", transect="T1", species="zebra", area_km2=1.0, count=60, single_look=50.0, seen=200),
        UnitCount(stratum="hill", transect="T2", species="zebra", area_km2=1.0, count=50, single_look=50.0, seen=100),
        UnitCount(stratum="hill", transect="T2", species="gnu", area_km2=1.0, count=9, single_look=9.0, seen=9),
    )
    samples = [
        StratumSample(
            stratum="plain", stratum_km2=5, transects_possible=None, counts=(60,), areas=(1.0,), single_look=(50.0,)
        ),
        StratumSample(
            stratum="hill", stratum_km2=2, transects_possible=None, counts=(50,), areas=(1.0,), single_look=(50.0,)
        ),
    ]
    estimates = estimate_species("zebra", samples, "total", BOTH)
    (record,) = correction_records(Tally((row(150.0),), units, tuple(estimates), (BOTH,)))
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert [step["name"] for step in record["steps"]][:3] == ["seen", "unique", "single look"]
    plain, hill, whole = record["strata"]
    assert plain == {
        "stratum": "plain", "seen": 200, "unique": 60, "single_look": 50, "corrected": 75, "estimate": 375,
        "uncorrected": 300, "searched_mpx": 0.0, "ground_alarms": None, "ground_alarms_se": None,
    }  # fmt: skip
    assert (hill["estimate"], whole["seen"], whole["corrected"], whole["estimate"]) == (150, 300, 150, 525)
