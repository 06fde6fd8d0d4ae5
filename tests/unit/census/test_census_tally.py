from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from transect.census.correction import Correction, SpeciesFactors
from transect.census.run import species_corrections
from transect.census.survey import Survey, SurveySpec
from transect.census.tally import StratumSample, estimate_species
from transect.engine import DetectOptions, PackageManifest
from transect.errors import SurveyError

PLAIN = StratumSample("plain", 180, None, (12, 5, 0, 22, 8), (4, 3, 2.5, 5, 3.5))
HILL = StratumSample("hill", 40, 16, (1, 4, 2), (1, 2, 1))
BEACH = StratumSample("beach", 9, None, (), ())


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
    correction = Correction("zebra", 1.25, 0.1, None, SpeciesFactors(availability=0.8, availability_se=0.08), "")
    plain = estimate_species("zebra", [PLAIN, HILL], "jolly2")
    found = estimate_species("zebra", [PLAIN, HILL], "jolly2", correction)
    assert [one.uncorrected for one in found] == [one.estimate for one in plain]
    assert found[2].estimate.estimate == pytest.approx(1.25 * (plain[2].estimate.estimate or 0))
    # One factor errs the same way everywhere, so its error does not shrink in the sum.
    before, after = plain[2].estimate, found[2].estimate
    cv2 = (before.variance or 0) / (before.estimate or 1) ** 2 + 0.1**2
    assert after.variance == pytest.approx(cv2 * (after.estimate or 0) ** 2)


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
    return Survey(Path("s"), SurveySpec.model_validate({"name": "s"} | keys), ())


CLASSES = {"bull": 0, "cow": 0}


def test_species_of_several_classes_are_corrected_by_all_of_them() -> None:
    rows = {"bull": ((0, 3, 1, 1),), "cow": ((1, 5, 0, 2),), "rock": ((0, 0, 9, 0),)}
    package = manifest(validation_counts={"images": 2, "conf": 0.25, "iou": 0.6, "counts": rows})
    found = species_corrections(survey(), ["cattle"], CLASSES, package, DetectOptions())["cattle"]
    assert found.factor == pytest.approx(11 / 9)
    other = species_corrections(survey(), ["cattle"], CLASSES, package, DetectOptions(conf=0.4))["cattle"]
    assert not other.applies


def test_factors_of_the_survey_hold_without_validation_counts() -> None:
    known = survey(corrections={"cattle": {"availability": 0.8, "availability_se": 0.04}})
    found = species_corrections(known, ["cattle"], CLASSES, manifest(), DetectOptions())["cattle"]
    assert found.detector is None
    assert found.factor == pytest.approx(1.25)
    assert found.cv == pytest.approx(0.05)
    assert "no validation counts" in found.note


def test_factors_of_a_species_that_is_not_reported_are_refused() -> None:
    known = survey(corrections={"catle": {"availability": 0.8}})
    with pytest.raises(SurveyError, match="corrects 'catle', which is not reported; the species are cattle"):
        species_corrections(known, ["cattle"], CLASSES, manifest(), DetectOptions())
