from datetime import UTC, datetime

import pytest
from benchmarks.survey_accuracy import ALL, OVERLAP, Searched, Setting, count
from benchmarks.unique import perfect_detections

from transect.engine import PackageManifest, ValidationCounts
from transect.synth import SPECIES, PositionNoise, SurveyDesign, plan_survey

NAMES = tuple(kind.name for kind in SPECIES)


def searched(frames: int = 60) -> Searched:
    """A survey in which everything is found."""
    plan = plan_survey(
        SurveyDesign(frames=frames, seed=3, overlap=OVERLAP, transects=5, noise=PositionNoise(0.0, 0.0, 0.0))
    )
    found, _, _ = perfect_detections(plan)
    return Searched(plan, found)


def package(missed: int) -> PackageManifest:
    """Forty validation images with nine animals found each, and so many missed."""
    rows = tuple((image, 9, 0, missed) for image in range(40))
    return PackageManifest.model_validate(
        {
            "names": NAMES,
            "image_size": 640,
            "head_kind": "anchor-free",
            "architecture": "none",
            "conf": 0.25,
            "iou": 0.6,
            "created_at": datetime.now(UTC),
            "files": {"model.onnx": {"sha256": "0" * 64, "size": 1}},
            "validation_counts": ValidationCounts(images=40, conf=0.25, iou=0.6, counts=dict.fromkeys(NAMES, rows)),
        }
    )


@pytest.mark.parametrize("step", [1, 2])
def test_a_detector_without_faults_is_right(step: int) -> None:
    survey = searched()
    found = count(survey, Setting("exact", step, 0.0), package(missed=0))
    whole = found[ALL]
    assert whole.photographed == sum(found[name].photographed for name in NAMES)
    assert whole.population == len(survey.plan.scene.animals)
    assert whole.corrected == whole.single_look
    # Headings and heights are off by a little even here.
    assert whole.errors["unique"] == pytest.approx(0, abs=0.03)
    assert whole.errors["corrected"] == pytest.approx(0, abs=0.08)
    assert whole.ground == pytest.approx(1, abs=0.05)
    assert whole.held


def test_the_correction_of_the_package_is_applied() -> None:
    survey, setting = searched(), Setting("exact", 2, 0.0)
    plain, third = (count(survey, setting, package(missed)) for missed in (0, 3))
    for name in (ALL, *NAMES):
        assert third[name].corrected == pytest.approx(plain[name].corrected * 4 / 3)
    limits = [one[ALL].limits for one in (plain, third)]
    assert limits[0] is not None
    assert limits[1] is not None
    # The limits follow; a quarter that is missed is known a little less well than that none was.
    assert limits[0][1] * 4 / 3 < limits[1][1] < limits[0][1] * 4 / 3 * 1.03
