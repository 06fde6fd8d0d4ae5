import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import gamma

from transect.census.counting.tally import StratumSample, estimate_species
from transect.census.estimates.correction import (
    Correction,
    DetectorError,
    SpeciesFactors,
    correct_species,
    corrected,
    correction_record,
    spread_factor,
)
from transect.census.estimates.estimate import (
    STRIP_METHODS,
    Estimate,
    StripMethod,
    estimate_strip,
    jolly2,
    total_coverage,
)
from transect.census.estimates.ground import GroundAlarms, SearchEffort, ground_alarms, less_ground
from transect.census.estimates.intervals import StripSample
from transect.engine import BackgroundCounts, ValidationCounts

COUNTS, AREAS, STRATUM = [12, 5, 0, 22, 8, 31, 2, 9], [4, 3, 2.5, 5, 3.5, 4.5, 2, 3.7], 300.0
NONE = SpeciesFactors()
# Precision 0.5 among the boxes, but 0.8 among those that touch an animal.
VALIDATED = ValidationCounts(
    images=100,
    conf=0.25,
    iou=0.6,
    counts={"zebra": tuple((i, 4, 4, 1) for i in range(60))},
    beside={"zebra": tuple((i, 1) for i in range(60))},
)
GROUND = GroundAlarms(rate=0.1, se=0.02, ci95=(0.07, 0.15), effect=1.5, alarms=25, images=100, mpx=250.0)


def empty(images: int, alarms: int, mpx: float = 0.5) -> BackgroundCounts:
    """So many alarms, one each in the first pictures."""
    return BackgroundCounts(
        conf=0.25, iou=0.6, mpx=(mpx,) * images, counts={"zebra": tuple((i, 1) for i in range(alarms))}
    )


def sure(ground: GroundAlarms | None, factor: float = 1.25, precision: float = 1.0) -> Correction:
    """A factor without any error of its own, behind which no animal stands."""
    limits = ((precision, precision), (0.8, 0.8), (factor, factor))
    detector = DetectorError(
        precision=precision,
        precision_se=0.0,
        recall=0.8,
        recall_se=0.0,
        factor=factor,
        cv=0.0,
        images=40,
        objects=0,
        precision_ci95=limits[0],
        recall_ci95=limits[1],
        factor_ci95=limits[2],
    )
    return Correction(species="zebra", factor=factor, cv=0.0, detector=detector, factors=NONE, note="", ground=ground)


def test_no_alarm_on_empty_ground_is_not_certainty() -> None:
    found = ground_alarms(["zebra"], empty(80, 0))
    assert (found.rate, found.ci95[0], found.alarms, found.images, found.mpx) == (0, 0, 0, 80, 40)
    # Jeffreys' limit of a rate without an event: Gamma(1/2) over the area.
    assert found.ci95[1] == pytest.approx(gamma(0.5, scale=1 / 40).ppf(0.975))
    assert found.se > 0


def test_classes_of_one_species_share_their_alarms() -> None:
    counts = BackgroundCounts(conf=0.25, iou=0.6, mpx=(0.5, 1.5), counts={"bull": ((0, 2),), "cow": ((0, 1), (1, 3))})
    assert ground_alarms(["bull", "cow"], counts).rate == pytest.approx(6 / 2)
    assert ground_alarms(["cow"], counts).rate == pytest.approx(4 / 2)


def test_by_ground_only_false_positives_beside_animals_count() -> None:
    by_precision = correct_species("zebra", ["zebra"], VALIDATED, conf=0.25, iou=0.6)
    by_ground = correct_species("zebra", ["zebra"], VALIDATED, conf=0.25, iou=0.6, background=empty(80, 8))
    assert by_precision.ground is None
    assert by_ground.ground is not None
    assert by_precision.precision == pytest.approx(0.5)
    assert by_precision.factor == pytest.approx(5 / 8)
    assert by_ground.precision == pytest.approx(0.8)
    # Labelled animals over boxes that touch one.
    assert by_ground.factor == pytest.approx(5 / 5)
    assert by_ground.ground.rate == pytest.approx(8 / 40)
    records = [correction_record(one) for one in (by_precision, by_ground)]
    assert [one["basis"] for one in records] == ["validation", "ground"]
    assert [one["background_alarms"] for one in records] == [None, 8]


@pytest.mark.parametrize("other", [{"conf": 0.3}, {"iou": 0.7}])
def test_alarms_at_other_thresholds_are_of_no_use(other: dict[str, float]) -> None:
    background = empty(80, 8).model_copy(update=other)
    assert correct_species("zebra", ["zebra"], VALIDATED, conf=0.25, iou=0.6, background=background).ground is None


def test_a_package_that_does_not_tell_boxes_beside_animals_is_corrected_by_precision() -> None:
    old = VALIDATED.model_copy(update={"beside": None})
    assert correct_species("zebra", ["zebra"], old, conf=0.25, iou=0.6, background=empty(80, 8)).ground is None


def test_what_the_ground_gives_is_taken_off_and_its_errors_added() -> None:
    # 60 boxes on half of the area: 120, of which 0.1 x 400 = 40 are of the ground.
    found = corrected(total_coverage(60, 5, 10), sure(GROUND), SearchEffort(200, 400))
    assert found.estimate == pytest.approx(1.25 * 80)
    assert found.density == pytest.approx(100 / 10)
    # The rate's error on 400 megapixels, and 20 alarms on 200 of them that scatter 1.5 times as Poisson, twice that.
    assert found.variance == pytest.approx(1.25**2 * ((400 * 0.02) ** 2 + 4 * 1.5 * 20))
    own = 1.959964 * math.sqrt(120)
    assert found.ci95 == pytest.approx((1.25 * (80 - math.hypot(20, own)), 1.25 * (80 + math.hypot(12, own))), rel=1e-5)


def test_between_transects_the_boxes_spread_as_they_were_counted() -> None:
    # As many megapixels a km2 everywhere: Jolly's residuals stay what they are.
    plain = jolly2(COUNTS, AREAS, STRATUM)
    mpx = 100 * sum(AREAS)
    ground = replace(GROUND, rate=0.01, se=0.0, ci95=(0.01, 0.01), effect=1.0)
    found = corrected(plain, sure(ground), SearchEffort(mpx, 100 * STRATUM))
    assert found.estimate == pytest.approx(1.25 * ((plain.estimate or 0) - 300))
    share = sum(AREAS) / STRATUM
    own = share * (STRATUM / sum(AREAS)) ** 2 * 0.01 * mpx
    assert found.variance == pytest.approx(1.25**2 * ((plain.variance or 0) + own))
    assert found.ci95 is not None
    assert found.ci95[1] == pytest.approx((found.estimate or 0) + 2.36462 * (found.se or 0), rel=1e-5)


@pytest.mark.parametrize("method", STRIP_METHODS)
@pytest.mark.parametrize("share", [0.5, 0.98, 1.0, 1.5, 4.0])
def test_no_number_falls_below_zero_and_upper_limits_stay_finite(method: StripMethod, share: float) -> None:
    plain = estimate_strip([StripSample.of(COUNTS, AREAS, STRATUM)], method)
    assert plain.estimate is not None
    # Alarms that are this share of the boxes.
    mpx = share * plain.estimate / 0.1
    found = corrected(plain, sure(GROUND), SearchEffort(mpx * sum(AREAS) / STRATUM, mpx))
    assert found.estimate == pytest.approx(max(1.25 * plain.estimate * (1 - share), 0))
    assert found.ci95 is not None
    low, high = found.ci95
    assert 0 <= low <= (found.estimate or 0) < high < math.inf
    if share >= 0.98:
        assert low == 0
    # No more animals than if every box were one.
    assert plain.ci95 is not None
    if method != "jolly2":
        assert high <= 1.25 * plain.ci95[1] * (1 + 1e-9)
    assert ("fewer boxes than false alarms" in found.note) == (share > 1)


@pytest.mark.parametrize("method", STRIP_METHODS)
def test_limits_do_not_jump_where_the_boxes_pass_the_alarms(method: StripMethod) -> None:
    plain = estimate_strip([StripSample.of(COUNTS, AREAS, STRATUM)], method)
    sides = []
    for share in (0.999, 1.001):
        mpx = share * (plain.estimate or 0) / 0.1
        sides.append(corrected(plain, sure(GROUND), SearchEffort(mpx * sum(AREAS) / STRATUM, mpx)).ci95)
    assert sides[0] is not None
    assert sides[0] == pytest.approx(sides[1], rel=0.02, abs=0.1)


def test_no_box_gives_no_limits() -> None:
    for plain in (jolly2([0, 0, 0], [1, 2, 3], 60), total_coverage(0, 5, 10)):
        found = corrected(plain, sure(GROUND), SearchEffort(20, 200))
        assert (found.estimate, found.ci95, found.density) == (0, None, 0)
    assert "None was seen" in corrected(jolly2([0, 0, 0], [1, 2, 3], 60), sure(GROUND), SearchEffort(20, 200)).note


def test_boxes_beyond_any_alarm_are_the_least_there_is() -> None:
    plain = estimate_strip([StripSample.of([0, 0, 0, 0, 0, 0, 0, 80], AREAS, 30)])
    found = corrected(plain, sure(GROUND, precision=0.9), SearchEffort(50, 53))
    assert found.ci95 is not None
    # 5 alarms expected, 7.5 at most by the rate, and a chance of 1.96 sqrt(1.5 5) beside.
    doubt = math.hypot(50 * 0.05, 1.959964 * math.sqrt(7.5))
    assert found.ci95[0] >= 0.9 * (80 - 5 - doubt) * (1 - 1e-6)
    assert less_ground(plain, GROUND, SearchEffort(50, 53), 0.9).sure == pytest.approx(80 - 5 - doubt)


def test_limits_less_the_ground_are_those_of_a_difference() -> None:
    plain = Estimate(
        method="bootstrap", n=8, seen=30, area_km2=1, density=25, estimate=100, variance=169, ci95=(80, 120), df=7
    )
    # 100 boxes and 20 alarms expected of 200 Mpx. Of the quarter that was searched, the alarms scatter by chance with
    # the variance 0.25 4^2 1.5 0.1 50 = 30. The alarms may be 6 fewer or 10 more.
    net = less_ground(plain, GROUND, SearchEffort(50, 200), 0.25)
    assert (net.seen, net.value, net.surplus) == pytest.approx((25, 80, 80))
    assert net.variance == pytest.approx(169 + 4**2 + 30)
    chance = 1.959964 * math.sqrt(30)
    assert net.limits == pytest.approx((80 - math.hypot(20, 10, chance), 80 + math.hypot(20, 6, chance)), rel=1e-6)
    # Alarms by chance are not fewer than none, and the animals are not more than the boxes may be.
    few = replace(GROUND, rate=0.01, ci95=(0.007, 0.015), effect=30.0)
    net = less_ground(plain, few, SearchEffort(50, 200), 0.25)
    assert net.limits is not None
    assert net.limits[1] == pytest.approx(98 + math.hypot(20, 0.6, 2))
    wide = less_ground(replace(plain, ci95=(80, 100.5)), GROUND, SearchEffort(50, 200), 1.0).limits
    assert wide is not None
    assert wide[1] == 100.5


def test_each_stratum_loses_the_alarms_of_its_own_pixels() -> None:
    samples = [
        StratumSample(
            stratum="plain",
            stratum_km2=180,
            transects_possible=None,
            counts=(12, 5, 0, 22),
            areas=(4, 3, 2.5, 5),
            single_look=(),
            searched_mpx=(40.0, 30.0, 25.0, 50.0),
        ),
        # Flown higher: fewer pixels a km2.
        StratumSample(
            stratum="hill",
            stratum_km2=40,
            transects_possible=16,
            counts=(1, 4, 2),
            areas=(1, 2, 1),
            single_look=(),
            searched_mpx=(5.0, 10.0, 5.0),
        ),
    ]
    ground = replace(GROUND, rate=0.05)
    plain, hill, whole = (one.estimate for one in estimate_species("zebra", samples, "bootstrap", sure(ground)))
    assert plain.estimate == pytest.approx(1.25 * (39 - 0.05 * 145) * 180 / 14.5)
    assert hill.estimate == pytest.approx(1.25 * (7 - 0.05 * 20) * 40 / 4)
    assert whole.estimate == pytest.approx((plain.estimate or 0) + (hill.estimate or 0))
    with pytest.raises(ValueError, match="without the area that was searched"):
        estimate_species("zebra", [replace(one, searched_mpx=()) for one in samples], "bootstrap", sure(ground))


def test_the_spread_of_a_fixed_share_of_the_boxes_is_too_even() -> None:
    plain = jolly2(COUNTS, AREAS, STRATUM)
    share = sum(AREAS) / STRATUM
    # Behind these factors no animal stands, so the validation images say nothing of the survey's own animals.
    assert spread_factor(plain, sure(None, precision=1.0)) == 1
    found = spread_factor(plain, sure(None, precision=0.3))
    assert found == pytest.approx(math.sqrt(1 + (0.7 / 0.3) ** 2 * share / (1 - share)))
    assert spread_factor(total_coverage(50, 5, 10), sure(None, precision=0.3)) == 1
    wide = corrected(plain, sure(None, factor=0.4, precision=0.3))
    assert wide.variance == pytest.approx((0.4 * found) ** 2 * (plain.variance or 0))
    boxes = estimate_strip([StripSample.of(COUNTS, AREAS, STRATUM)])
    wide = corrected(boxes, sure(None, factor=0.4, precision=0.3))
    assert boxes.ci95 is not None
    assert wide.ci95 is not None
    assert math.log(wide.ci95[1] / (wide.estimate or 1)) == pytest.approx(
        found * math.log(boxes.ci95[1] / (boxes.estimate or 1))
    )
    # What the validation images' own scatter says already is not added again.
    known = correct_species("zebra", ["zebra"], VALIDATED, conf=0.25, iou=0.6)
    relative = (plain.variance or 0) / (plain.estimate or 1) ** 2
    assert known.detector is not None
    own = share * known.detector.cv**2 * known.survey_share(plain.seen)
    expected = max((1 / known.precision - 1) ** 2 * share / (1 - share) - own / relative, 0)
    assert spread_factor(plain, known) == pytest.approx(math.sqrt(1 + expected))


def test_a_survey_with_a_twentieth_of_the_animals_is_right_by_ground_alone() -> None:
    # A total coverage of 500 photos: 1,500 animals or 75, and always 150 alarms. Precision where it was judged: 0.89.
    generator = np.random.default_rng(3)
    sums = np.zeros(3)
    held = surveys = 0
    for _ in range(60):
        validation = generator.poisson(3.0, 200)
        found = generator.binomial(validation, 0.8)
        wrong = generator.poisson(0.3, 200)
        rows = tuple(
            (i, int(r), int(w), int(n - r)) for i, (n, r, w) in enumerate(zip(validation, found, wrong, strict=True))
        )
        counts = ValidationCounts(images=200, conf=0.25, iou=0.6, counts={"zebra": rows}, beside={})
        alarms = tuple((i, int(n)) for i, n in enumerate(generator.poisson(0.3, 300)) if n)
        background = BackgroundCounts(conf=0.25, iou=0.6, mpx=(2.0,) * 300, counts={"zebra": alarms})
        truth = int(generator.poisson(75))
        boxes = int(generator.binomial(truth, 0.8)) + int(generator.poisson(150))
        plain = total_coverage(boxes, 5, 5)
        by_precision = corrected(plain, correct_species("zebra", ["zebra"], counts, conf=0.25, iou=0.6))
        correction = correct_species("zebra", ["zebra"], counts, conf=0.25, iou=0.6, background=background)
        by_ground = corrected(plain, correction, SearchEffort(1000, 1000))
        sums += (truth, by_precision.estimate or 0, by_ground.estimate or 0)
        assert by_ground.ci95 is not None
        held += by_ground.ci95[0] <= truth <= by_ground.ci95[1]
        surveys += 1
    assert sums[2] / sums[0] == pytest.approx(1, abs=0.1)
    assert sums[1] / sums[0] > 2.5
    assert held / surveys >= 0.88
