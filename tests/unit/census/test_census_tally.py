from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely.geometry import box

from observation_builders import species_row
from transect.census.counting.tally import StratumSample, Tally, estimate_species, tally, with_doubtful
from transect.census.estimates.correction import Correction, DetectorError, SpeciesFactors
from transect.census.ground.coverage import Coverage, Region, Unit
from transect.census.inputs.species import ReportedSpecies, species_corrections
from transect.census.inputs.survey import Survey, SurveySpec
from transect.census.sightings.animals import Animals
from transect.census.sightings.observations import Observations
from transect.engine import DetectOptions, PackageManifest
from transect.errors import SurveyError

PLAIN = StratumSample(
    stratum="plain", stratum_km2=180, transects_possible=None, counts=(12, 5, 0, 22, 8), areas=(4, 3, 2.5, 5, 3.5)
)
HILL = StratumSample(stratum="hill", stratum_km2=40, transects_possible=16, counts=(1, 4, 2), areas=(1, 2, 1))
BEACH = StratumSample(stratum="beach", stratum_km2=9, transects_possible=None, counts=(), areas=())
# A detector whose factor of 1.25 is known exactly.
SURE = DetectorError(
    precision=1.0,
    precision_se=0.0,
    recall=0.8,
    recall_se=0.0,
    factor=1.25,
    cv=0.0,
    images=100,
    objects=1000,
    precision_ci95=(1.0, 1.0),
    recall_ci95=(0.8, 0.8),
    factor_ci95=(1.25, 1.25),
)


def test_one_stratum_has_no_sum() -> None:
    (found,) = estimate_species("zebra", [PLAIN], "jolly2")
    assert (found.stratum, found.species, found.uncorrected) == ("plain", "zebra", None)
    assert found.estimate.estimate == pytest.approx(470)
    assert found.estimate.ci95 == pytest.approx((128.650, 811.350), abs=5e-4)


def test_several_strata_have_a_sum() -> None:
    found = estimate_species("zebra", [PLAIN, HILL], "bootstrap")
    assert [one.stratum for one in found] == ["plain", "hill", "all"]
    plain, hill, whole = (one.estimate for one in found)
    assert whole.estimate == pytest.approx((plain.estimate or 0) + (hill.estimate or 0))
    assert whole.variance == pytest.approx((plain.variance or 0) + (hill.variance or 0))
    assert whole.ci95 is not None


def test_a_stratum_that_was_not_flown_leaves_no_total() -> None:
    found = estimate_species("zebra", [PLAIN, BEACH], "bootstrap")
    assert [one.estimate.estimate for one in found] == [pytest.approx(470), None, None]
    assert found[2].estimate.seen == 47
    assert "No transect was flown" in found[2].estimate.note


def test_total_coverage_divides_by_the_covered_share() -> None:
    found = estimate_species("zebra", [PLAIN, HILL], "total")
    assert found[0].estimate.estimate == pytest.approx(470)
    assert found[2].estimate.estimate == pytest.approx(470 + 70)
    assert found[2].estimate.ci95 is None


def test_a_correction_is_common_to_all_strata() -> None:
    correction = Correction(species="zebra", factor=1.25, cv=0.1, detector=SURE, factors=SpeciesFactors(), note="")
    plain = estimate_species("zebra", [PLAIN, HILL], "jolly2")
    found = estimate_species("zebra", [PLAIN, HILL], "jolly2", correction)
    assert [one.uncorrected for one in found] == [one.estimate for one in plain]
    assert found[2].estimate.estimate == pytest.approx(1.25 * (plain[2].estimate.estimate or 0))
    # One factor errs the same way everywhere, so its error does not shrink in the sum.
    before, after = plain[2].estimate, found[2].estimate
    cv2 = (before.variance or 0) / (before.estimate or 1) ** 2 + 0.1**2
    assert after.variance == pytest.approx(cv2 * (after.estimate or 0) ** 2)


def test_a_detector_is_corrected_from_one_look_and_known_shares_from_unique_animals() -> None:
    looked = replace(PLAIN, single_look=(10.5, 4.0, 1.5, 18.25, 7.75))
    detected = Correction(species="zebra", factor=1.25, cv=0.0, detector=SURE, factors=SpeciesFactors(), note="")
    (found,) = estimate_species("zebra", [looked], "jolly2", detected)
    assert found.estimate.seen == 42
    assert found.estimate.estimate == pytest.approx(1.25 * 42 / 18 * 180)
    assert found.uncorrected is not None
    assert found.uncorrected.seen == 47
    assert found.uncorrected.estimate == pytest.approx(470)
    known = Correction(
        species="zebra",
        factor=1.25,
        cv=0.05,
        detector=None,
        factors=SpeciesFactors(availability=0.8, availability_se=0.04),
        note="",
    )
    (found,) = estimate_species("zebra", [looked], "jolly2", known)
    assert found.estimate.estimate == pytest.approx(1.25 * 470)
    (found,) = estimate_species("zebra", [looked], "total", detected)
    assert found.estimate.estimate == pytest.approx(1.25 * 42 * 10)


def observed(visits: Sequence[int], xy: Sequence[tuple[float, float]]) -> Observations:
    """Boxes of one species; with 0 visits one that does not count where it is."""
    many = len(visits)
    zeros, ones = np.zeros(many, np.int64), np.ones(many)
    return Observations(
        frame=zeros,
        species=zeros,
        class_code=zeros,
        class_names=("zebra",),
        score=ones,
        box=np.zeros((many, 4)),
        xy=np.array(xy, np.float64).reshape(-1, 2),
        placed=ones > 0,
        cut=ones < 0,
        inside=np.array(visits) > 0,
        yaw_arm_m=ones,
        height_arm=ones,
        reported_sd_m=ones,
        box_sd=ones,
        visits=np.array(visits, np.int64),
    )


def two_transects() -> Coverage:
    grounds = [box(0, 0, 1000, 1000), box(5000, 0, 6000, 1000)]
    units = tuple(
        Unit(stratum="plain", transect=f"T{n + 1}", polygon=ground, area_km2=1.0, frames=(n,))
        for n, ground in enumerate(grounds)
    )
    return Coverage(dict(enumerate(grounds)), (Region("plain", 10.0, None, None),), units, 2.0, {})


def counted(seen: Observations, unique: int, correction: Correction | None) -> Tally:
    """Tallied with `unique` animals in the middle of the first transect."""
    zeros = np.zeros(unique, np.int64)
    animals = Animals(np.full((unique, 2), 500.0), zeros, zeros, np.ones(unique), zeros)
    known = {"zebra": correction} if correction else None
    spec = SurveySpec.model_validate({"name": "s"})
    return tally(["zebra"], seen, animals, two_transects(), spec, method="jolly2", corrections=known)


def test_each_box_counts_by_its_looks_where_it_lies() -> None:
    # An animal in all of four photos, one in one of two, one alone; one cut off by the edge; one beside all transects.
    seen = observed(
        [4, 4, 4, 4, 2, 1, 0, 2],
        [(500, 500)] * 4 + [(900, 900), (5500, 500), (500, 1), (3000, 0)],
    )
    found = counted(seen, 2, None)
    assert [(unit.transect, unit.seen, unit.single_look) for unit in found.units] == [("T1", 5, 1.5), ("T2", 1, 1.0)]
    assert (found.rows[0].seen, found.rows[0].single_look, found.rows[0].corrected) == (8, 3.0, None)
    corrected = counted(
        seen, 2, Correction(species="zebra", factor=1.25, cv=0.0, detector=SURE, factors=SpeciesFactors(), note="")
    ).rows[0]
    assert corrected.corrected == pytest.approx(3.75)
    assert corrected.estimate == pytest.approx(1.25 * 2.5 * 5)


def test_the_lower_limit_stands_on_one_look_because_every_look_has_its_own_false_alarms() -> None:
    # 80% overlap: five looks at each of 100 animals, of which a look finds 70 and takes 10 other things for animals.
    boxes = 5 * (70 + 10)
    unique = 100 + 5 * 10
    seen = observed([5] * boxes, [(500.0, 500.0)] * boxes)
    detector = DetectorError(
        precision=0.875,
        precision_se=0.01,
        recall=0.7,
        recall_se=0.02,
        factor=1.25,
        cv=0.02,
        images=100,
        objects=1000,
        precision_ci95=(0.854, 0.893),
        recall_ci95=(0.66, 0.738),
        factor_ci95=(1.20, 1.30),
    )
    result = counted(
        seen,
        unique,
        Correction(species="zebra", factor=1.25, cv=0.02, detector=detector, factors=SpeciesFactors(), note=""),
    )
    # Unique animals times precision would be more than there are.
    assert unique * detector.precision > 125
    assert result.rows[0].corrected == pytest.approx(100)
    estimate = result.estimates[0].estimate
    assert estimate.ci95 is not None
    assert estimate.ci95[0] == pytest.approx(result.rows[0].single_look * detector.precision)
    assert estimate.ci95[0] < 100


def manifest(**changes: Any) -> PackageManifest:
    values = {
        "names": ("bull", "cow", "rock"),
        "image_size": 640,
        "head_kind": "anchor-free",
        "architecture": "yolo11n",
        "conf": 0.25,
        "iou": 0.6,
        "created_at": datetime.now(UTC),
        "files": {"model.onnx": {"sha256": "0" * 64, "size": 1}},
    }
    return PackageManifest.model_validate(values | changes)


def survey(**keys: Any) -> Survey:
    return Survey(folder=Path("s"), spec=SurveySpec.model_validate({"name": "s"} | keys), images=())


CATTLE = ReportedSpecies(("cattle",), {"bull": 0, "cow": 0})


def test_species_of_several_classes_are_corrected_by_all_of_them() -> None:
    rows = {"bull": ((0, 3, 1, 1),), "cow": ((1, 5, 0, 2),), "rock": ((0, 0, 9, 0),)}
    package = manifest(validation_counts={"images": 2, "conf": 0.25, "iou": 0.6, "counts": rows})
    found = species_corrections(survey(), CATTLE, package, DetectOptions())["cattle"]
    assert found.factor == pytest.approx(11 / 9)
    other = species_corrections(survey(), CATTLE, package, DetectOptions(conf=0.4))["cattle"]
    assert not other.applies


def test_factors_of_the_survey_hold_without_validation_counts() -> None:
    known = survey(corrections={"cattle": {"availability": 0.8, "availability_se": 0.04}})
    found = species_corrections(known, CATTLE, manifest(), DetectOptions())["cattle"]
    assert found.detector is None
    assert found.factor == pytest.approx(1.25)
    assert found.cv == pytest.approx(0.05)
    assert "no validation counts" in found.note


def test_factors_of_a_species_that_is_not_reported_are_refused() -> None:
    known = survey(corrections={"catle": {"availability": 0.8}})
    with pytest.raises(SurveyError, match="corrects 'catle', which is not reported; the species are cattle"):
        species_corrections(known, CATTLE, manifest(), DetectOptions())


def test_what_is_not_validated_keeps_its_figures_beside_those_of_a_correction() -> None:
    rows = [replace(species_row(name), ci95=(128.0, 811.0)) for name in ("zebra", "cow", "goat")]
    fixed = [replace(row, corrected=58.75, estimate=587.5, se=150.0, ci95=(160.0, 1014.0)) for row in rows]
    estimates = {
        name: tuple(
            estimate_species(
                name,
                [PLAIN],
                "jolly2",
                Correction(species=name, factor=1.25, cv=0.1, detector=SURE, factors=SpeciesFactors(), note=""),
            )
        )
        for name in ("zebra", "cow", "goat")
    }
    counted = Tally((rows[0], fixed[1], rows[2]), (), ())
    corrected = Tally((*fixed[:2], rows[2]), (), sum(estimates.values(), ()))
    states = {"zebra": "not validated here", "cow": "validated", "goat": "not validated here"}
    found = with_doubtful(counted, corrected, states)
    zebra, cow, goat = found.rows
    assert (zebra.detector, zebra.estimate, zebra.ci95) == ("not validated here", 470.0, (128.0, 811.0))
    assert (zebra.doubtful, zebra.doubtful_estimate, zebra.doubtful_ci95) == (58.75, 587.5, (160.0, 1014.0))
    assert cow == replace(fixed[1], detector="validated")
    # Nothing is known that would correct it.
    assert goat == replace(rows[2], detector="not validated here")
    assert found.doubtful == estimates["zebra"]
