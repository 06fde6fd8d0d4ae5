"""Applicability of a validation to a survey: each test's own error rate, and the sentences of the checks."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from transect.arrays import FloatArray
from transect.census.applicability.checks import Check, SurveyContext, check_applicability
from transect.census.applicability.differences import ClusteredMean, equivalence_p_value, holm, outlier_p_value, rate
from transect.census.applicability.evidence import Boxes, Pictures
from transect.census.applicability.state import Applicability, overall

NO_LEAST = np.zeros(4)


def test_a_picture_of_the_same_kind_is_outside_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [
        outlier_p_value(rng.normal(size=(30, 4)) @ np.diag([1, 5, 0.1, 2]), np.zeros(4), NO_LEAST) for _ in range(20)
    ]
    assert all(p is not None and p > 0.5 for p in found)  # the very middle
    mixing = rng.normal(size=(4, 4))
    values = [
        outlier_p_value(rng.normal(size=(30, 4)) @ mixing, rng.normal(size=4) @ mixing, NO_LEAST) for _ in range(2000)
    ]
    p_values = np.array([p for p in values if p is not None])
    for level in (0.02, 0.1, 0.5):
        assert np.mean(p_values <= level) == pytest.approx(level, abs=4 * math.sqrt(level / len(p_values)))


def test_what_does_not_vary_has_a_least_spread() -> None:
    grey = np.column_stack([np.linspace(0, 1, 20), np.zeros(20)])
    near, far = (outlier_p_value(grey, np.array([0.5, away]), np.array([0.01, 0.01])) for away in (0.01, 0.2))
    assert near is not None
    assert near > 0.3
    assert far is not None
    assert far < 1e-6
    assert outlier_p_value(grey[:3], np.zeros(2), np.zeros(2)) is None


def test_images_that_vary_alike_tell_the_spread_of_few() -> None:
    rng = np.random.default_rng(5)
    mixing = rng.normal(size=(8, 8))

    def p_values(many: int, alike: int, away: float) -> FloatArray:
        found = []
        for _ in range(1500):
            few, others = rng.normal(size=(many, 8)) @ mixing, rng.normal(size=(alike, 8)) @ mixing + 40
            mean = (rng.normal(size=8) + away) @ mixing
            found.append(outlier_p_value(few, mean, np.zeros(8), others if alike else None))
        return np.array(found, np.float64)

    for level in (0.02, 0.1):
        assert np.mean(p_values(10, 30, 0.0) <= level) == pytest.approx(level, abs=4 * math.sqrt(level / 1500))
        # In groups the p-value is on the safe side.
        assert np.mean(p_values(10, 0, 0.0) <= level) <= level + 4 * math.sqrt(level / 1500)
    assert np.mean(p_values(10, 30, 3.0) < 0.002) > 0.9


def test_animals_of_one_picture_go_together() -> None:
    values, pictures = np.array([1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 2.0, 2.0, 2.0, 2.0]), np.repeat(np.arange(5), 2)
    grouped = ClusteredMean.of(values, pictures)
    assert grouped is not None
    # By hand: sums 2, 4, 6, 4, 4 less twice the mean of 2 leave -2, 0, 2, 0, 0.
    assert (grouped.mean, grouped.pictures) == (2.0, 5)
    assert grouped.se == pytest.approx(math.sqrt(5 / 4 * 8) / 10)
    assert ClusteredMean.of(values[:4], pictures[:4]) is None


def test_a_rate_is_known_at_none() -> None:
    value, error = rate(np.zeros(10), np.full(10, 2.0))
    assert value == pytest.approx(0.5 / 20)
    assert error == pytest.approx(1 / math.sqrt(0.5))
    even = rate(np.full(100, 4.0), np.ones(100))
    assert even[1] == pytest.approx(1 / math.sqrt(400.5))
    herds = rate(np.r_[np.zeros(99), 400.0], np.ones(100))
    assert herds[1] > 0.9


def test_a_margin_is_no_difference() -> None:
    assert equivalence_p_value(0.1, 0.01, 0.15, 20) == 1.0
    assert equivalence_p_value(-0.35, 0.1, 0.15, 100) == pytest.approx(
        0.048, abs=0.001
    )  # t of 2, 99 degrees of freedom
    assert equivalence_p_value(0.35, 0.1, 0.15, 2) > 0.2


def test_a_family_is_corrected_for_its_number() -> None:
    # Holm 1979 by hand: 0.001 <= 0.05 / 4, 0.016 <= 0.05 / 3, 0.03 > 0.05 / 2.
    assert holm(np.array([0.03, 0.001, 0.4, 0.016]), 0.05).tolist() == [False, True, False, True]
    assert holm(np.array([]), 0.05).tolist() == []
    assert holm(np.array([0.0, 0.0]), 0.05).tolist() == [True, True]


def pictures(rng: np.random.Generator, count: int, *, size: float = 20.0, herds: float = 0.5, mpx: float = 0.1,
             score: float = 1.5, bright: float = 0.4, wrong: float = 0.05) -> Pictures:  # fmt: skip
    """`count` pictures of one light each, with herds of deer of like size in some of them."""
    rows = []
    for picture in range(count):
        if rng.random() < herds:
            mine = 1 + rng.poisson(4)
            logits = rng.normal(score + rng.normal(0, 0.3), 0.8, mine)
            sizes = size * np.exp(rng.normal(rng.normal(0, 0.05), 0.15, mine))
            rows += [
                (picture, 1 / (1 + math.exp(-a)), b, float(rng.random() > wrong))
                for a, b in zip(logits, sizes, strict=True)
            ]
    table = np.array(rows).reshape(-1, 4)
    boxes = Boxes(table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3] > 0)
    appearance = rng.normal(
        [bright, -2, 0.05, -0.1, -3, -3, -3, -3], [0.08, 0.3, 0.02, 0.02, 0.3, 0.3, 0.3, 0.3], (count, 8)
    )
    return Pictures(np.full(count, mpx), appearance, {"deer": boxes})


def failing(checks: Sequence[Check]) -> set[str]:
    return {check.kind for check in checks if check.differs}


SETTING = SurveyContext(gsd_m=0.05, training_gsd_m=0.05)


def test_the_same_kind_of_survey_is_hardly_ever_called_different() -> None:
    rng = np.random.default_rng(2)
    wrong = [failing(check_applicability(pictures(rng, 60), pictures(rng, 50), SETTING)) for _ in range(200)]
    assert sum(map(bool, wrong)) <= 10


@pytest.mark.parametrize(
    ("change", "setting", "kinds"),
    [
        ({"size": 40.0}, SETTING, {"sizes"}),
        ({"score": -0.5}, SETTING, {"scores"}),
        ({"bright": 0.9}, SETTING, {"ground"}),
        ({"herds": 0.02}, SETTING, {"density"}),
        ({}, SurveyContext(gsd_m=0.1, training_gsd_m=0.05), {"ground sample distance"}),
        # Where the false alarms of the ground are known, nothing rests on the number of animals.
        ({"herds": 0.02}, SurveyContext(0.05, 0.05, false_by_ground={"deer": 0.5}), set()),
        # Twice as many animals change the share of false alarms by less than matters.
        ({"herds": 1.0}, SETTING, set()),
    ],
)
def test_each_difference_is_found_by_its_check(
    change: dict[str, float], setting: SurveyContext, kinds: set[str]
) -> None:
    rng = np.random.default_rng(3)
    found = [failing(check_applicability(pictures(rng, 60), pictures(rng, 60, **change), setting)) for _ in range(10)]
    assert sum(one == kinds for one in found) >= 9, found


def test_a_species_that_is_absent_is_seen() -> None:
    rng = np.random.default_rng(4)
    checks = check_applicability(pictures(rng, 60), pictures(rng, 60, herds=0.0), SETTING)
    assert failing(checks) == {"density"}
    by_kind = {check.kind: check for check in checks}
    assert by_kind["sizes"].p is None
    assert "Too few photos of the survey hold deer" in by_kind["sizes"].sentence
    assert "background" in by_kind["density"].sentence


def test_the_state_follows_from_the_checks() -> None:
    good = Check(kind="ground", species="", p=0.5, sentence="The photos differ.")
    bad = Check(
        kind="sizes",
        species="deer",
        p=1e-9,
        sentence="What the model takes for deer is 2.00 times as large.",
        differs=True,
    )
    both = Applicability((good, bad))
    assert [both.state(name) for name in ("deer", "elk")] == ["not validated here", "validated"]
    assert both.reasons("deer") == (bad.sentence,)
    assert both.reasons("elk") == ()
    assert overall({"deer": "not validated here", "elk": "not known"}) == "not validated here"
    assert overall({"deer": "validated"}) == "validated"
    unknown = Applicability(missing="The model package is old.")
    assert (unknown.state("deer"), unknown.reasons("deer")) == ("not known", ("The model package is old.",))
    few = Applicability(
        (Check(kind="ground", species="", p=None, sentence="There are too few validation images (3)."),)
    )
    assert (few.state("deer"), few.reasons("deer")) == ("not known", ("There are too few validation images (3).",))
    record = both.record("deer")
    assert record["detector"] == "not validated here"
    assert [one["kind"] for one in record["checks"]] == ["ground", "sizes"]
