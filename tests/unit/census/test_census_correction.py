import json
import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import beta, gamma

from transect.census.estimates.correction import (
    Correction,
    DetectorError,
    SpeciesFactors,
    correct_species,
    corrected,
    correction_record,
    detector_error,
)
from transect.census.estimates.estimate import Estimate, estimate_strip, jolly2, total_coverage
from transect.census.estimates.intervals import StripSample
from transect.engine import ValidationCounts

COUNTS, AREAS, STRATUM = [12, 5, 0, 22, 8, 31, 2, 9], [4, 3, 2.5, 5, 3.5, 4.5, 2, 3.7], 300.0
NONE = SpeciesFactors()


def made(images: int = 400, seed: int = 1) -> ValidationCounts:
    """Images with herds: precision near 0.9, recall near 0.8, both by image."""
    generator = np.random.default_rng(seed)
    rows = []
    for image in range(images):
        herd = int(generator.negative_binomial(0.5, 0.1))
        found, wrong = int(generator.binomial(herd, 0.8)), int(generator.poisson(0.09 * herd))
        if herd or wrong:
            rows.append((image, found, wrong, herd - found))
    return ValidationCounts(images=images, conf=0.25, iou=0.6, counts={"zebra": tuple(rows)})


def factor(value: float, cv: float) -> Correction:
    """A factor with log-normal limits, and without chance errors in the survey: no animal stands behind it."""
    reach = math.exp(1.959964 * math.sqrt(math.log1p(cv**2)))
    shares, limits = ((1.0, 1.0), (1 / value, 1 / value)), (value / reach, value * reach)
    detector = DetectorError(
        precision=1.0,
        precision_se=0.0,
        recall=1 / value,
        recall_se=0.0,
        factor=value,
        cv=cv,
        images=40,
        objects=0,
        precision_ci95=shares[0],
        recall_ci95=shares[1],
        factor_ci95=limits,
    )
    return Correction(species="zebra", factor=value, cv=cv, detector=detector, factors=NONE, note="")


def test_precision_and_recall_are_of_the_sums() -> None:
    counts = ValidationCounts(
        images=12, conf=0.25, iou=0.6, counts={"zebra": tuple((i, 9, 1, 3) for i in range(10)), "gnu": ((0, 5, 5, 5),)}
    )
    found = detector_error(["zebra"], counts)
    assert (found.precision, found.recall) == (0.9, 0.75)
    # precision / recall is labelled / detected.
    assert found.factor == pytest.approx(120 / 100)
    # Every image errs alike. A bootstrap would call that certain; as chance it is about that of single animals:
    # sqrt(0.25 0.75 + 1 / 12) / sqrt(120) of D = 1 - 30 / 120 + 10 / 120.
    assert found.cv == pytest.approx(math.sqrt((0.1875 + 1 / 12) / 120) / (100 / 120), rel=0.1)
    assert (found.images, found.objects) == (10, 120)


def test_no_error_among_62_animals_is_not_certainty() -> None:
    # One animal an image, so each is independent: Jeffreys' limits are Beta(0.5, 62.5) of the misses and
    # Gamma(0.5) / 62 of the false alarms, and those of 1 / factor = 1 - misses + alarms follow from them.
    counts = ValidationCounts(images=62, conf=0.25, iou=0.6, counts={"zebra": tuple((i, 1, 0, 0) for i in range(62))})
    found = detector_error(["zebra"], counts)
    missed, wrong = beta(0.5, 62.5), gamma(0.5, scale=1 / 62)
    assert (found.precision, found.recall, found.factor) == (1, 1, 1)
    assert found.recall_ci95 == pytest.approx((1 - missed.ppf(0.975), 1))
    assert found.precision_ci95 == pytest.approx((1 - missed.ppf(0.975), 1))
    assert found.factor_ci95 == pytest.approx((1 / (1 + wrong.ppf(0.975)), 1 / (1 - missed.ppf(0.975))))
    squares = [one.var() + one.mean() ** 2 for one in (missed, wrong)]
    assert found.recall_se == found.precision_se == pytest.approx(math.sqrt(squares[0]))
    assert found.cv == pytest.approx(math.sqrt(sum(squares)))
    # The survey's own errors are bounded by the same: as many animals again double the variance.
    correction = correct_species("zebra", ["zebra"], counts, conf=0.25, iou=0.6)
    assert correction.chance_variance(62) == pytest.approx(found.cv**2)


def test_herds_tell_less_than_single_animals() -> None:
    def of_herds(size: int) -> DetectorError:
        rows = tuple((i, size, 0, 0) for i in range(60 // size))
        return detector_error(["zebra"], ValidationCounts(images=60, conf=0.25, iou=0.6, counts={"zebra": rows}))

    single, herds = of_herds(1), of_herds(20)
    assert herds.recall_ci95[0] < single.recall_ci95[0] < 1
    assert herds.recall_se > single.recall_se > 0
    assert herds.cv > single.cv > 0


def test_a_box_beside_its_animal_is_two_errors_and_no_wrong_count() -> None:
    # A missed animal and a false alarm each: in the same images the count is right, in others it is not.
    beside = tuple((i, 8, i % 2 * 2, i % 2 * 2) for i in range(40))
    apart = tuple((i, 8, (i + 1) % 2 * 2, i % 2 * 2) for i in range(40))
    together, alone = (
        detector_error(["zebra"], ValidationCounts(images=40, conf=0.25, iou=0.6, counts={"zebra": rows}))
        for rows in (beside, apart)
    )
    assert together.recall_ci95 == alone.recall_ci95
    assert together.cv < 0.7 * alone.cv
    assert together.factor_ci95[1] - together.factor_ci95[0] < 0.7 * (alone.factor_ci95[1] - alone.factor_ci95[0])


def test_classes_of_one_species_are_taken_together_by_image() -> None:
    counts = ValidationCounts(
        images=3, conf=0.25, iou=0.6, counts={"bull": ((0, 1, 0, 1), (1, 1, 1, 0)), "cow": ((1, 4, 0, 2),)}
    )
    found = detector_error(["bull", "cow"], counts)
    assert (found.precision, found.recall) == pytest.approx((6 / 7, 6 / 9))
    assert found.images == 2


def test_errors_agree_with_a_plain_bootstrap_over_images() -> None:
    counts = made()
    table = np.zeros((400, 3))
    for image, *rest in counts.counts["zebra"]:
        table[image] = rest
    sums = table[np.random.default_rng(0).integers(0, 400, (4000, 400))].sum(axis=1)
    precision, recall = sums[:, 0] / (sums[:, 0] + sums[:, 1]), sums[:, 0] / (sums[:, 0] + sums[:, 2])
    found = detector_error(["zebra"], counts)
    assert found.precision_se == pytest.approx(precision.std(), rel=0.1)
    assert found.recall_se == pytest.approx(recall.std(), rel=0.1)
    assert found.cv == pytest.approx((precision / recall).std() / found.factor, rel=0.1)


def test_the_same_counts_give_the_same_errors() -> None:
    assert detector_error(["zebra"], made()) == detector_error(["zebra"], made())


def test_a_package_without_counts_is_reported_uncorrected() -> None:
    found = correct_species("zebra", ["zebra"], None, conf=0.25, iou=0.6)
    assert (found.factor, found.cv, found.applies) == (1.0, 0.0, False)
    assert found.note == (
        "The model package holds no validation counts, so the detector's errors are not corrected for."
    )


@pytest.mark.parametrize(
    ("conf", "iou", "named"),
    [
        (0.3, 0.6, "score threshold 0.3 and the model was validated with 0.25"),
        (0.25, 0.7, "NMS IoU 0.7 and the model was validated with 0.6"),
    ],
)
def test_another_threshold_is_reported_uncorrected(conf: float, iou: float, named: str) -> None:
    found = correct_species("zebra", ["zebra"], made(), conf=conf, iou=iou)
    assert not found.applies
    assert found.note == (
        f"The survey was searched with the {named}, so the detector's errors are unknown and not corrected for."
    )


@pytest.mark.parametrize("rows", [(), ((0, 0, 3, 5),)])
def test_a_species_that_was_never_found_is_reported_uncorrected(rows: tuple[tuple[int, int, int, int], ...]) -> None:
    counts = ValidationCounts(images=5, conf=0.25, iou=0.6, counts={"zebra": rows})
    found = correct_species("zebra", ["zebra"], counts, conf=0.25, iou=0.6)
    assert not found.applies
    assert found.note == (
        "The model found no zebra rightly in 5 validation images, so its errors are unknown and not corrected for."
    )
    with pytest.raises(ValueError, match="no true positive"):
        detector_error(["zebra"], counts)


def test_few_images_are_named() -> None:
    counts = ValidationCounts(images=50, conf=0.25, iou=0.6, counts={"zebra": ((0, 5, 1, 1), (7, 3, 0, 1))})
    found = correct_species("zebra", ["zebra"], counts, conf=0.25, iou=0.6)
    assert found.applies
    assert "2 validation images only" in found.note


def test_factors_multiply_and_their_squared_errors_add() -> None:
    known = SpeciesFactors(availability=0.8, availability_se=0.04, perception=0.9, perception_se=0.09)
    found = correct_species("zebra", ["zebra"], made(), conf=0.25, iou=0.6, factors=known)
    assert found.detector is not None
    assert found.factor == pytest.approx(found.detector.factor / 0.72)
    assert found.cv == pytest.approx(math.sqrt(0.05**2 + 0.1**2 + found.detector.cv**2))


@pytest.mark.parametrize(
    "bad", [{"availability": 0}, {"availability": 1.2}, {"perception_se": -0.1}, {"perception": math.nan}, {"seen": 1}]
)
def test_impossible_factors_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SpeciesFactors.model_validate(bad)


def test_a_correction_scales_everything_and_adds_squared_errors() -> None:
    plain = jolly2(COUNTS, AREAS, STRATUM)
    found = corrected(plain, factor(2, 0.1))
    assert found.estimate == pytest.approx(2 * (plain.estimate or 0))
    assert found.density == pytest.approx(2 * (plain.density or 0))
    cv = math.hypot((plain.se or 0) / (plain.estimate or 1), 0.1)
    assert found.se == pytest.approx(cv * (found.estimate or 0))
    assert found.variance == pytest.approx((found.se or 0) ** 2)
    assert found.ci95 is not None
    # t(0.975, 7) = 2.3646.
    assert found.ci95[1] == pytest.approx((found.estimate or 0) + 2.36462 * (found.se or 0), rel=1e-5)
    assert (found.seen, found.n, found.area_km2) == (plain.seen, plain.n, plain.area_km2)


def test_a_sure_correction_only_scales_the_bootstrap_limits() -> None:
    plain = estimate_strip([StripSample.of(COUNTS, AREAS, STRATUM)])
    found = corrected(plain, factor(2, 0))
    assert plain.ci95 is not None
    assert found.ci95 == pytest.approx((2 * plain.ci95[0], 2 * plain.ci95[1]))


def test_an_unsure_correction_widens_the_limits_on_both_sides() -> None:
    plain = estimate_strip([StripSample.of(COUNTS, AREAS, STRATUM)])
    sure, unsure = corrected(plain, factor(1.5, 0)), corrected(plain, factor(1.5, 0.3))
    assert sure.ci95 is not None
    assert unsure.ci95 is not None
    assert unsure.ci95[0] < sure.ci95[0]
    assert unsure.ci95[1] > sure.ci95[1]


def test_the_lower_limit_is_never_below_the_real_animals_seen() -> None:
    detector = correct_species("zebra", ["zebra"], made(), conf=0.25, iou=0.6)
    assert detector.detector is not None
    plain = estimate_strip([StripSample.of([0, 0, 0, 0, 0, 0, 0, 80], AREAS, 30)])
    found = corrected(plain, replace(detector, detector=replace(detector.detector, factor_ci95=(0.1, 9.0))))
    assert found.ci95 is not None
    assert found.ci95[0] >= 80 * detector.detector.precision * (1 - 1e-9)


def test_total_coverage_gets_the_limits_of_the_correction() -> None:
    found = corrected(total_coverage(50, 5, 5), factor(2, 0.1))
    assert found.estimate == 100
    assert found.se == pytest.approx(10)
    assert found.ci95 is not None
    # exp(1.95996 sqrt(ln 1.01)) = 1.21593.
    assert found.ci95 == pytest.approx((100 / 1.21593, 121.593), abs=0.01)
    assert found.note == "Total coverage has no sampling error. The limits hold the error of the correction alone."


def test_the_limits_of_the_detector_keep_their_asymmetry() -> None:
    # The survey counts 100 animals, the validation images had 300: four times their variance, twice the reach.
    detector = DetectorError(
        precision=0.9,
        precision_se=0.01,
        recall=0.45,
        recall_se=0.02,
        factor=2.0,
        cv=0.06,
        images=40,
        objects=300,
        precision_ci95=(0.88, 0.92),
        recall_ci95=(0.41, 0.49),
        factor_ci95=(1.9, 2.4),
    )
    found = corrected(
        total_coverage(50, 5, 5),
        Correction(species="zebra", factor=2.0, cv=0.06, detector=detector, factors=NONE, note=""),
    )
    assert found.ci95 == pytest.approx((100 * (1.9 / 2) ** 2, 100 * (2.4 / 2) ** 2))
    assert found.se == pytest.approx(100 * 0.06 * 2)


def test_animals_that_cannot_be_seen_add_chance() -> None:
    # Of N animals each is there to be seen by itself: with 50 seen and a half available, CV2 is 0.5 / 50.
    known = Correction(
        species="zebra",
        factor=2.0,
        cv=0.1,
        detector=None,
        factors=SpeciesFactors(availability=0.5, availability_se=0.05),
        note="",
    )
    assert corrected(total_coverage(50, 5, 5), known).se == pytest.approx(100 * math.sqrt(0.1**2 + 0.01))
    # Of a strip survey the share in the sampled ground is added; the rest is between the transects.
    plain = jolly2(COUNTS, AREAS, STRATUM)
    sampled, seen = sum(AREAS) / STRATUM, sum(COUNTS)
    cv2 = (plain.variance or 0) / (plain.estimate or 1) ** 2 + 0.1**2 + sampled * 0.5 / seen
    assert corrected(plain, known).variance == pytest.approx(cv2 * (2 * (plain.estimate or 0)) ** 2)


def test_the_survey_errs_as_its_validation_images_do() -> None:
    # Total coverage by 60 photos of herds like those of 240 validation images: only the detector errs.
    sure = hits = 0
    surveys = 150
    for number in range(surveys):
        correction = correct_species("zebra", ["zebra"], made(240, seed=number), conf=0.25, iou=0.6)
        rows = made(60, seed=10_000 + number).counts["zebra"]
        counted = sum(found + wrong for _, found, wrong, _ in rows)
        truth = sum(found + missed for _, found, _, missed in rows)
        assert correction.detector is not None
        own, chance = correction.cv**2, correction.chance_variance(counted)
        # A quarter of the images, so about four times the variance.
        assert 1.5 < chance / own < 12
        limits = corrected(total_coverage(counted, 5, 5), correction).ci95
        assert limits is not None
        hits += limits[0] <= truth <= limits[1]
        sure += abs(math.log(truth / (counted * correction.factor))) <= 1.96 * correction.cv
    assert hits / surveys >= 0.9
    # Without the chance of the survey itself the limits would be far too narrow.
    assert sure / surveys < 0.8


@pytest.mark.parametrize("plain", [jolly2([7], [2.0], 10), jolly2([0, 0, 0], [1, 2, 3], 60)])
def test_what_has_no_interval_gets_none(plain: Estimate) -> None:
    found = corrected(plain, factor(2, 0.1))
    assert found.ci95 is None
    assert found.estimate == pytest.approx(2 * (plain.estimate or 0))


def test_no_correction_changes_nothing() -> None:
    plain = jolly2(COUNTS, AREAS, STRATUM)
    assert (
        corrected(plain, Correction(species="zebra", factor=1.0, cv=0.0, detector=None, factors=NONE, note="none"))
        == plain
    )


def test_corrected_limits_hold_the_truth() -> None:
    # Sampling error and the error of precision and recall at once: 60 surveys of 20 transects, each with a model that
    # was validated on 120 images of its own.
    generator, hits, surveys = np.random.default_rng(5), 0, 60
    for number in range(surveys):
        areas = generator.gamma(8, 0.125, 200)
        truth = generator.negative_binomial(1, 1 / (1 + 12 * areas))
        found = generator.binomial(truth, 0.8) + generator.poisson(0.09 * truth)
        flown = generator.choice(200, 20, replace=False)
        plain = estimate_strip([StripSample(found[flown].astype(float), areas[flown], float(areas.sum()))])
        correction = correct_species("zebra", ["zebra"], made(120, seed=number), conf=0.25, iou=0.6)
        limits = corrected(plain, correction).ci95
        assert limits is not None
        hits += limits[0] <= truth.sum() <= limits[1]
    assert hits / surveys >= 0.88


def test_a_record_is_json() -> None:
    for counts in (made(), None):
        record = correction_record(correct_species("zebra", ["zebra"], counts, conf=0.25, iou=0.6))
        assert json.loads(json.dumps(record, allow_nan=False)) == record
        given = [record[key] is not None for key in ("precision_ci95", "recall_ci95", "detector_factor_ci95")]
        assert given == [counts is not None] * 3
