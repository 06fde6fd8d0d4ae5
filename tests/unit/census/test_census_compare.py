import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from transect.census.compare import compare
from transect.census.counting.tally import StratumEstimate, StratumSample, estimate_species
from transect.census.estimates.correction import Correction, DetectorError, SpeciesFactors, correction_record
from transect.census.estimates.estimate import Method
from transect.census.outputs.files import estimate_record
from transect.census.saved_result import read_census
from transect.errors import InputError

PLAIN = StratumSample(
    stratum="plain", stratum_km2=180, transects_possible=None, counts=(12, 5, 0, 22, 8), areas=(4, 3, 2.5, 5, 3.5)
)
MORE = StratumSample(
    stratum="plain",
    stratum_km2=180,
    transects_possible=None,
    counts=(40, 35, 12, 60, 28, 31),
    areas=(4, 3, 2.5, 5, 3.5, 3),
)
HILL = StratumSample(
    stratum="hill", stratum_km2=40, transects_possible=None, counts=(1, 4, 2, 0, 3), areas=(1, 2, 1, 1, 1)
)

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """A result folder with its estimates, manifest and counts."""

    def saved(
        name: str,
        *samples: StratumSample,
        species: str = "zebra",
        method: Method = "bootstrap",
        manifest: Mapping[str, Any] | None = None,
        correction: Correction | None = None,
        change: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        records = [estimate_record(one) for one in estimate_species(species, samples, method, correction)]
        for record in records:
            change(record)
        corrections = [] if correction is None else [correction_record(correction)]
        (folder / "estimate.json").write_text(json.dumps({"estimates": records, "corrections": corrections}))
        if manifest is not None:
            (folder / "manifest.json").write_text(json.dumps(manifest))
        rows = ["stratum,transect,species,area_km2,count,single_look"]
        for sample in samples:
            looks = sample.single_look or sample.counts
            for number, (count, area, look) in enumerate(zip(sample.counts, sample.areas, looks, strict=True)):
                rows.append(f"{sample.stratum},{number},{species},{area},{count},{look}")
        (folder / "transects.csv").write_text("\n".join(rows) + "\n")
        return folder

    return saved


def manifest(digest: str, **options: object) -> dict[str, Any]:
    return {
        "schema": 1,
        "run": digest,
        "created_at": digest,
        "survey": {"name": "s", "digest": digest},
        "model": {"version": "3"},
        "options": options,
    }


def test_two_surveys_are_compared_by_their_limits(save: Save) -> None:
    a, b = read_census(save("a", PLAIN)), read_census(save("b", MORE))
    (found,) = compare(a, b).differences
    one, other = a.estimates["plain", "zebra"], b.estimates["plain", "zebra"]
    assert one.ci95 is not None
    assert other.ci95 is not None
    assert found.test == "mover"
    assert found.difference == pytest.approx((other.estimate or 0) - (one.estimate or 0))
    down = math.hypot((other.estimate or 0) - other.ci95[0], one.ci95[1] - (one.estimate or 0))
    assert found.ci95 is not None
    assert found.ci95[0] == pytest.approx((found.difference or 0) - down)
    assert found.ratio is not None
    assert found.ratio_ci95 is not None
    assert found.ratio_ci95[0] < found.ratio < found.ratio_ci95[1]


def test_a_survey_that_saw_none_is_compared_by_the_error_of_the_other(save: Save) -> None:
    none = StratumSample(
        stratum="plain", stratum_km2=180, transects_possible=None, counts=(0, 0, 0, 0), areas=(4, 3, 5, 4)
    )
    a = read_census(save("a", none))
    b = read_census(save("b", PLAIN))
    (found,) = compare(a, b).differences
    error = math.sqrt(b.estimates["plain", "zebra"].variance or 0)
    assert (found.test, found.ratio, found.ratio_ci95) == ("welch", None, None)
    assert found.se == pytest.approx(error)
    assert found.df == pytest.approx(4)
    assert "The first has no limits" in found.note


def test_corrected_total_coverage_has_a_normal_test(save: Save) -> None:
    def total(estimate: float) -> Callable[[dict[str, Any]], None]:
        def change(record: dict[str, Any]) -> None:
            limits = [estimate - 20, estimate + 30]
            record.update(method="total", n=0, df=None, estimate=estimate, variance=144.0, ci95=limits, uncorrected=90)

        return change

    a, b = save("a", PLAIN, change=total(100)), save("b", PLAIN, change=total(160))
    comparison = compare(read_census(a), read_census(b))
    (found,) = comparison.differences
    assert found.df is None
    assert found.se == pytest.approx(math.hypot(20, 30) / 1.959963984540054)
    assert found.p == pytest.approx(2 * stats.norm.sf(60 / (found.se or 1)))
    json.dumps(comparison.to_json(), allow_nan=False)


def test_a_difference_has_its_limits_on_one_side_of_zero_exactly_where_p_is_small(save: Save) -> None:
    (found,) = compare(read_census(save("a", PLAIN)), read_census(save("b", MORE))).differences
    assert found.p is not None
    assert found.p < 0.05
    assert found.ci95 is not None
    assert found.ci95[0] > 0


def test_swapping_turns_the_sign(save: Save) -> None:
    a, b = read_census(save("a", PLAIN, HILL)), read_census(save("b", MORE, HILL))
    for there, back in zip(compare(a, b).differences, compare(b, a).differences, strict=True):
        assert back.difference == pytest.approx(-(there.difference or 0))
        assert back.p == pytest.approx(there.p)


def test_what_changed_is_listed(save: Save) -> None:
    a = read_census(save("a", PLAIN, manifest=manifest("x", conf=0.25, tile="auto")))
    b = read_census(save("b", MORE, manifest=manifest("y", conf=0.3, tile="auto")))
    changes = {change.what: (change.a, change.b) for change in compare(a, b).changes}
    assert changes == {"survey.digest": ("x", "y"), "options.conf": (0.25, 0.3)}


def test_the_same_photos_are_tested_transect_by_transect(save: Save) -> None:
    other = StratumSample(
        stratum="plain", stratum_km2=180, transects_possible=None, counts=(13, 5, 1, 24, 9), areas=PLAIN.areas
    )
    a = read_census(save("a", PLAIN, manifest=manifest("x", conf=0.25)))
    b = read_census(save("b", other, manifest=manifest("x", conf=0.2)))
    comparison = compare(a, b)
    (found,) = comparison.differences
    assert comparison.same_photos
    assert found.test == "paired"
    # As independent surveys they would show no difference: their sampling error is far larger than the difference.
    assert found.difference == pytest.approx(50)
    assert found.se is not None
    assert found.se < 20
    assert found.p is not None
    assert found.p < 0.1


def test_the_sum_of_strata_is_tested_by_their_summed_variances(save: Save) -> None:
    moved = [
        StratumSample(
            stratum="plain", stratum_km2=180, transects_possible=None, counts=(13, 5, 1, 24, 9), areas=PLAIN.areas
        ),
        StratumSample(
            stratum="hill", stratum_km2=40, transects_possible=None, counts=(2, 4, 3, 0, 3), areas=HILL.areas
        ),
    ]
    a, b = save("a", PLAIN, HILL, manifest=manifest("x")), save("b", *moved, manifest=manifest("x"))
    found = {one.stratum: one for one in compare(read_census(a), read_census(b)).differences}
    expected = math.hypot(found["plain"].se or 0, found["hill"].se or 0)
    assert found["all"].se == pytest.approx(expected)
    assert found["all"].test == "paired"


def test_the_same_photos_on_other_transects_have_no_test(save: Save) -> None:
    a, b = save("a", PLAIN, manifest=manifest("x")), save("b", MORE, manifest=manifest("x"))
    (found,) = compare(read_census(a), read_census(b)).differences
    assert found.test is None
    assert found.p is None
    assert "same photos" in found.note


def corrected_by(recall: float, cv: float) -> Correction:
    reach = math.exp(1.96 * cv)
    limits = ((1.0, 1.0), (recall / reach, recall * reach), (1 / recall / reach, reach / recall))
    error = DetectorError(
        precision=1.0,
        precision_se=0.0,
        recall=recall,
        recall_se=recall * cv,
        factor=1 / recall,
        cv=cv,
        images=200,
        objects=900,
        precision_ci95=limits[0],
        recall_ci95=limits[1],
        factor_ci95=limits[2],
    )
    return Correction(species="zebra", factor=1 / recall, cv=cv, detector=error, factors=SpeciesFactors(), note="")


def test_the_same_photos_by_two_models_are_tested_as_each_was_corrected(save: Save) -> None:
    # The second model misses half of what the first one finds, and its recall is known.
    half = tuple(count / 2 for count in PLAIN.counts)
    poor = StratumSample(
        stratum="plain",
        stratum_km2=180,
        transects_possible=None,
        counts=(6, 3, 0, 11, 4),
        areas=PLAIN.areas,
        single_look=half,
    )
    a = save("a", PLAIN, manifest=manifest("x"), correction=corrected_by(1.0, 0.02))
    b = save("b", poor, manifest=manifest("x"), correction=corrected_by(0.5, 0.05))
    (found,) = compare(read_census(a), read_census(b)).differences
    assert found.test == "paired"
    assert found.difference == pytest.approx(0, abs=1e-9)
    # Nothing but the corrections errs.
    assert found.se == pytest.approx(math.hypot(0.02, 0.05) * 470)
    assert found.p == pytest.approx(1)


def test_two_corrections_by_ground_bring_the_errors_of_their_alarms(save: Save) -> None:
    folders = []
    for name, recall, error in (("a", 1.0, 30.0), ("b", 0.99, 40.0)):
        folder = save(name, PLAIN, manifest=manifest("x"), correction=corrected_by(recall, 0.0))
        content = json.loads((folder / "estimate.json").read_text())
        content["corrections"][0]["strata"] = [{"stratum": "plain", "ground_alarms_se": error}]
        (folder / "estimate.json").write_text(json.dumps(content))
        folders.append(read_census(folder))
    (found,) = compare(*folders).differences
    assert found.test == "paired"
    # Between the transects the two differ by a percent of what they hold; the rest is the alarms'.
    assert found.se == pytest.approx(50, rel=0.01)


def test_one_correction_of_both_leaves_its_error_in_the_difference_alone(save: Save) -> None:
    other = StratumSample(
        stratum="plain", stratum_km2=180, transects_possible=None, counts=(13, 5, 1, 24, 9), areas=PLAIN.areas
    )
    same = corrected_by(0.8, 0.05)
    a = save("a", PLAIN, manifest=manifest("x"), correction=same)
    b = save("b", other, manifest=manifest("x"), correction=same)
    (found,) = compare(read_census(a), read_census(b)).differences
    plain = compare(
        read_census(save("c", PLAIN, manifest=manifest("x"))), read_census(save("d", other, manifest=manifest("x")))
    ).differences[0]
    assert found.difference == pytest.approx(50 / 0.8)
    assert found.se == pytest.approx(math.hypot((plain.se or 0) / 0.8, 0.05 * 50 / 0.8))


def test_corrected_and_uncorrected_have_no_test(save: Save) -> None:
    b = save("b", MORE, change=lambda record: record.update(uncorrected=100.0))
    (found,) = compare(read_census(save("a", PLAIN)), read_census(b)).differences
    assert found.p is None
    assert "Only the second is corrected" in found.note


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (
            StratumSample(stratum="plain", stratum_km2=180, transects_possible=None, counts=(3,), areas=(4,)),
            PLAIN,
            "without a variance",
        ),
        (
            StratumSample(stratum="plain", stratum_km2=180, transects_possible=None, counts=(), areas=()),
            PLAIN,
            "No transect was flown",
        ),
        (
            StratumSample(stratum="plain", stratum_km2=180, transects_possible=None, counts=(0, 0), areas=(4, 4)),
            StratumSample(stratum="plain", stratum_km2=180, transects_possible=None, counts=(0, 0, 0), areas=(4, 4, 4)),
            "None was seen in either",
        ),
    ],
)
def test_what_cannot_be_tested_says_why(save: Save, one: StratumSample, other: StratumSample, said: str) -> None:
    (found,) = compare(read_census(save("a", one)), read_census(save("b", other))).differences
    assert found.p is None
    assert said in found.note


def test_what_only_one_side_has_is_listed(save: Save) -> None:
    comparison = compare(read_census(save("a", PLAIN, HILL)), read_census(save("b", PLAIN)))
    assert comparison.only_a == (("hill", "zebra"), ("all", "zebra"))
    assert comparison.only_b == ()
    shown = comparison.to_json()
    assert json.loads(json.dumps(shown, allow_nan=False))["differences"][0]["ratio_ci95"] is not None
    assert shown["only_a"][0] == {"stratum": "hill", "species": "zebra"}


def test_nothing_in_common_is_refused(save: Save) -> None:
    with pytest.raises(InputError, match="no species and stratum in common"):
        compare(read_census(save("a", PLAIN)), read_census(save("b", PLAIN, species="gnu")))


def test_other_ground_is_refused(save: Save) -> None:
    larger = StratumSample(
        stratum="plain", stratum_km2=200, transects_possible=None, counts=PLAIN.counts, areas=PLAIN.areas
    )
    with pytest.raises(InputError, match=r"plain has 180 km2 .* and 200 km2"):
        compare(read_census(save("a", PLAIN)), read_census(save("b", larger)))


def test_a_file_of_estimates_is_enough(save: Save) -> None:
    a, b = save("a", PLAIN) / "estimate.json", save("b", MORE)
    assert compare(read_census(a), read_census(b)).differences[0].test == "mover"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "no JSON object"),
        ("{}", "no estimates"),
        ('{"estimates": []}', "no estimates"),
        ('{"estimates": [{"stratum": "a", "species": "b"}]}', "estimate 1 lacks or misspells 'ci95'"),
        ('{"estimates": [3]}', "estimate 1 lacks"),
    ],
)
def test_what_is_no_estimate_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "estimate.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"estimate\.json") as caught:
        read_census(path)
    assert said in str(caught.value)


def test_estimates_of_one_thing_twice_are_refused(save: Save) -> None:
    a = save("a", PLAIN) / "estimate.json"
    content = json.loads(a.read_text())
    a.write_text(json.dumps({"estimates": content["estimates"] * 2}))
    with pytest.raises(InputError, match="two estimates of zebra in stratum plain"):
        read_census(a)


def test_a_folder_without_a_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no result of a census"):
        read_census(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_census(tmp_path / "nowhere")


def test_damaged_counts_are_named(save: Save) -> None:
    a = save("a", PLAIN)
    (a / "transects.csv").write_text("stratum,transect\nplain,1\n")
    with pytest.raises(InputError, match=r"transects\.csv"):
        read_census(a)
    header = "stratum,transect,species,area_km2,count\n"
    for row, said in (("plain,1,zebra,4,2.5", "not a whole number"), ("plain,1,zebra,4", "4 cells")):
        (a / "transects.csv").write_text(f"{header}{row}\n")
        with pytest.raises(InputError, match=said):
            read_census(a)


def test_estimates_survive_the_file(save: Save) -> None:
    (expected,) = estimate_species("zebra", [PLAIN], "bootstrap")
    assert isinstance(expected, StratumEstimate)
    found = read_census(save("a", PLAIN)).estimates["plain", "zebra"]
    assert (found.estimate, found.variance, found.ci95) == (
        expected.estimate.estimate,
        expected.estimate.variance,
        expected.estimate.ci95,
    )
    assert (found.df, found.stratum_km2, found.corrected) == (4, 180, False)
