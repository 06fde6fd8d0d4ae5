import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.engine import COUNT_ERROR, MAP50_95, RECALL, Gain, PairedComparison
from transect.errors import InputError
from transect.registry import GateConfig, Measured, load_gate
from transect.registry.promotion.gate import ClassLimits, Evidence, Latency, LossLimits, judge

_SHARES = st.floats(0, 1)
_ANY_CLASS_LOSS = LossLimits(map50_95=1, recall=1, count_error=1)


def _model(map50_95: float, map50: float = 0.9) -> Measured:
    return Measured(map50=map50, map50_95=map50_95, precision=0.8, recall=0.8)


def _gain(candidate: float, reference: float, spread: float = 0.001) -> Gain:
    gain = candidate - reference
    return Gain(candidate, reference, gain, gain - spread, gain + spread)


def _even() -> dict[str, Gain]:
    return {MAP50_95: _gain(0.5, 0.5), RECALL: _gain(0.9, 0.9), COUNT_ERROR: Gain(0.1, 0.1, 0.0, -0.01, 0.01)}


def _evidence(overall: Gain, latency: float = 1.0, **classes: dict[str, Gain]) -> Evidence:
    paired = PairedComparison(
        images=96,
        confidence=0.95,
        instances=dict.fromkeys(classes, 40),
        overall=_even() | {MAP50_95: overall},
        classes={name: _even() | gains for name, gains in classes.items()},
    )
    return Evidence(
        candidate=_model(overall.candidate),
        production=_model(overall.reference),
        paired=paired,
        latency=Latency(
            candidate_ms=20.0 * latency, production_ms=20.0, ratio=latency, ratio_low=0.9 * latency, images=8, rounds=7
        ),
    )


def test_a_first_promotion_needs_the_least_map50() -> None:
    gate = GateConfig(min_map50=0.4)
    assert judge(Evidence(_model(0.1, map50=0.4)), gate) == []
    (refusal,) = judge(Evidence(_model(0.1, map50=0.39)), gate)
    assert "0.390" in refusal
    assert "0.4" in refusal


def test_a_better_candidate_passes() -> None:
    assert judge(_evidence(_gain(0.61, 0.6), cow={}), GateConfig()) == []


@pytest.mark.parametrize("candidate", [0.59, 0.6, 0.604])
def test_a_worse_an_equal_and_a_hardly_better_candidate_are_refused(candidate: float) -> None:
    (refusal,) = judge(_evidence(_gain(candidate, 0.6)), GateConfig())
    assert f"its mAP50-95 is {candidate:.3f} and production's 0.600 on the same images" in refusal


def test_a_gain_that_may_be_chance_is_refused_unless_chance_is_allowed() -> None:
    (refusal,) = judge(_evidence(_gain(0.62, 0.6, spread=0.05)), GateConfig())
    assert "may be chance: its 95% limits over 96 images are -0.030 to 0.070, and both must lie above 0" in refusal
    assert judge(_evidence(_gain(0.62, 0.6, spread=0.05)), GateConfig(significant_gain=False)) == []


def test_limits_that_reach_zero_are_not_above_it() -> None:
    (refusal,) = judge(_evidence(Gain(0.65, 0.6, 0.05, 0.0, 0.1)), GateConfig())
    assert "0.000 to 0.100" in refusal
    assert judge(_evidence(Gain(0.65, 0.6, 0.05, math.ulp(0.0), 0.1)), GateConfig()) == []


def test_what_is_just_allowed_passes_although_a_difference_of_floats_is_not_exact() -> None:
    gain, loss = _gain(0.105, 0.1), _gain(0.87, 0.9)
    assert gain.gain < 0.005
    assert -loss.gain > 0.03
    assert judge(_evidence(gain, cow={RECALL: loss}), GateConfig()) == []


def test_two_models_that_were_never_compared_are_refused() -> None:
    unpaired = Evidence(_model(0.7), production=_model(0.6))
    assert judge(unpaired, GateConfig()) == ["the test split has no labelled object, so that nothing can be compared"]


def test_a_loss_can_be_allowed() -> None:
    gate = GateConfig(min_gain=-0.02, significant_gain=False)
    assert judge(_evidence(_gain(0.58, 0.6)), gate) == []
    assert judge(_evidence(_gain(0.57, 0.6)), gate)


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ({MAP50_95: _gain(0.46, 0.5)}, "cow loses 0.040 of mAP50-95, 0.500 before and 0.460 now"),
        (
            {RECALL: _gain(0.8, 0.9)},
            "cow loses 0.100 of recall, 0.900 before and 0.800 now (95% limits 0.099 to 0.101, 40 labelled), "
            "and at most 0.03 may be lost",
        ),
        (
            {COUNT_ERROR: Gain(-0.2, 0.1, -0.1, -0.15, -0.05)},
            "cow loses 0.100 of count accuracy, +10.0% off before and -20.0% now (95% limits 0.050 to 0.150",
        ),
    ],
)
def test_a_class_that_pays_for_the_gain_is_named(gains: dict[str, Gain], said: str) -> None:
    (refusal,) = judge(_evidence(_gain(0.7, 0.6), sheep={}, cow=gains), GateConfig())
    assert said in refusal


def test_a_class_may_have_limits_of_its_own() -> None:
    evidence = _evidence(_gain(0.7, 0.6), sheep={RECALL: _gain(0.88, 0.9)}, cow={RECALL: _gain(0.8, 0.9)})
    gate = GateConfig(classes={"cow": ClassLimits(recall=0.2), "sheep": ClassLimits(recall=0.0)})
    (refusal,) = judge(evidence, gate)
    assert refusal.startswith("sheep loses 0.020 of recall")
    # What is not said of the class alone is what is said of all.
    assert gate.class_limits("cow") == {MAP50_95: 0.03, RECALL: 0.2, COUNT_ERROR: 0.05}


def test_what_is_not_said_keeps_its_default_and_null_allows_any_loss() -> None:
    gate = GateConfig.model_validate({"max_class_loss": {"recall": 0.1, "count_error": None}})
    assert gate.class_limits("cow") == {MAP50_95: 0.03, RECALL: 0.1}


def test_a_slow_candidate_is_refused() -> None:
    (refusal,) = judge(_evidence(_gain(0.7, 0.6), latency=2.5), GateConfig())
    assert refusal == (
        "an image takes it 50.0 ms and production 20.0 ms, 2.50 times as long (2.25 at the least), "
        "and at most 2 times is allowed"
    )
    assert judge(_evidence(_gain(0.7, 0.6), latency=2.5), GateConfig(max_latency_ratio=None)) == []


def test_one_that_may_only_look_slow_on_a_busy_machine_passes() -> None:
    assert judge(_evidence(_gain(0.7, 0.6), latency=2.2), GateConfig()) == []
    just = _evidence(_gain(0.7, 0.6))
    assert just.latency is not None
    assert judge(replace(just, latency=replace(just.latency, ratio_low=2.0)), GateConfig()) == []


def test_few_images_prove_no_gain_however_large() -> None:
    evidence = _evidence(_gain(0.9, 0.1))
    assert evidence.paired is not None
    few = replace(evidence, paired=replace(evidence.paired, images=5))
    (refusal,) = judge(few, GateConfig())
    assert "the test split has 5 images, and 95% confidence needs at least 6" in refusal
    assert judge(few, GateConfig(significant_gain=False)) == []
    assert judge(few, GateConfig(confidence=0.9)) == []


@pytest.mark.parametrize(("confidence", "least"), [(0.5, 2), (0.9, 5), (0.95, 6), (0.99, 8)])
def test_how_many_images_can_show_a_gain(confidence: float, least: int) -> None:
    assert GateConfig(confidence=confidence).least_images == least


def _with_unlabelled(**found: tuple[int, int]) -> Evidence:
    evidence = _evidence(_gain(0.7, 0.6), cow={})
    assert evidence.paired is not None
    return replace(evidence, paired=replace(evidence.paired, unlabelled=found))


def test_what_is_found_where_nothing_is_labelled_counts_against_it() -> None:
    assert judge(_with_unlabelled(rhino=(2, 0)), GateConfig()) == []
    assert judge(_with_unlabelled(rhino=(0, 9)), GateConfig()) == []
    (refusal,) = judge(_with_unlabelled(rhino=(3, 0)), GateConfig())
    assert refusal == (
        "it finds 3 rhino and production 0 where none is labelled, 0.075 more for each of the 40 labelled objects, "
        "and at most 0.05 is allowed"
    )
    assert judge(_with_unlabelled(rhino=(3, 0)), GateConfig(max_class_loss=_ANY_CLASS_LOSS)) == []


def test_each_class_without_labels_is_held_to_its_own_limit() -> None:
    two = _with_unlabelled(rhino=(1, 0), zebra=(1, 0))
    assert judge(two, GateConfig()) == []
    for name in ("rhino", "zebra"):
        (refusal,) = judge(two, GateConfig(classes={name: ClassLimits(count_error=0.0)}))
        assert refusal.startswith(f"it finds 1 {name} and production 0")
    # One that is held to nothing says nothing of the other.
    unlimited = GateConfig(max_class_loss=LossLimits(count_error=None), classes={"zebra": ClassLimits(count_error=0.0)})
    (refusal,) = judge(two, unlimited)
    assert "1 zebra" in refusal


def test_what_is_found_in_a_split_without_labels_has_no_share() -> None:
    found = _with_unlabelled(rhino=(9, 0))
    assert found.paired is not None
    unlabelled = replace(found, paired=replace(found.paired, instances={}, overall={}, classes={}))
    assert judge(unlabelled, GateConfig()) == ["the test split has no labelled object, so that nothing can be compared"]


def test_a_limit_that_the_test_split_cannot_tell_of_is_no_limit_that_holds() -> None:
    gate = GateConfig(classes={"rhino": ClassLimits(recall=0.0)})
    (refusal,) = judge(_with_unlabelled(rhino=(0, 0)), gate)
    assert refusal == "the gate has limits for rhino, and no rhino is labelled in the test split"
    assert judge(_with_unlabelled(rhino=(0, 0)), GateConfig(classes={"rhino": ClassLimits(count_error=0.0)})) == []


def test_every_reason_is_given_at_once() -> None:
    worst = _evidence(_gain(0.5, 0.6), latency=3, sheep={RECALL: _gain(0, 0.9)}, cow={MAP50_95: _gain(0, 0.5)})
    assert len(judge(replace(worst, not_numbers=("val/loss",)), GateConfig())) == 5


def test_what_is_not_a_number_is_refused_and_named() -> None:
    gate, nan = GateConfig(), math.nan
    assert "its mAP50 on the test split is not a number" in judge(Evidence(_model(0.6, map50=nan)), gate)
    assert judge(_evidence(Gain(nan, 0.6, nan, nan, nan)), gate)
    broken = replace(_evidence(_gain(0.7, 0.6)), production=_model(nan, map50=math.inf))
    assert judge(broken, gate) == [
        "production's mAP50 on the test split is not a number",
        "production's mAP50-95 on the test split is not a number",
    ]
    # With limits that forbid nothing, too.
    lenient = GateConfig(min_gain=-1, significant_gain=False, max_class_loss=_ANY_CLASS_LOSS)
    for quantity in (MAP50_95, RECALL, COUNT_ERROR):
        (refusal,) = judge(_evidence(_gain(0.7, 0.6), cow={quantity: Gain(nan, 0.5, nan, nan, nan)}), lenient)
        assert refusal.startswith("cow loses nan")
    assert judge(replace(_evidence(_gain(0.7, 0.6)), not_numbers=("val/loss",)), lenient) == [
        "val/loss of its training run is not a number"
    ]
    assert judge(_evidence(_gain(0.7, 0.6), latency=nan), gate)


def test_a_split_without_objects_proves_nothing() -> None:
    empty = replace(
        _evidence(_gain(0, 0)), paired=PairedComparison(images=4, confidence=0.95, instances={}, overall={}, classes={})
    )
    assert judge(empty, GateConfig()) == ["the test split has no labelled object, so that nothing can be compared"]


@given(candidate=_SHARES, production=_SHARES, least=st.floats(-1, 1))
def test_only_the_least_gain_decides_where_nothing_else_is_asked(
    candidate: float, production: float, least: float
) -> None:
    refusals = judge(_evidence(_gain(candidate, production)), GateConfig(min_gain=least, significant_gain=False))
    if candidate - production >= least:
        assert not refusals
    if candidate - production < least - 1e-6:
        assert refusals


def test_every_limit_is_a_parameter_of_the_verdict() -> None:
    gate = GateConfig(classes={"cow": ClassLimits(recall=0.1)})
    assert gate.as_params() == {
        "min_map50": 0.1,
        "min_gain": 0.005,
        "significant_gain": True,
        "confidence": 0.95,
        "max_class_loss.map50_95": 0.03,
        "max_class_loss.recall": 0.03,
        "max_class_loss.count_error": 0.05,
        "classes.cow.recall": 0.1,
        "max_latency_ratio": 2.0,
    }


def test_the_shipped_gate_is_the_default() -> None:
    shipped = Path(__file__).parents[3] / "configs" / "promotion.yaml"
    assert load_gate(shipped) == GateConfig()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("min_map50: 1.5", "min_map50"),
        ("min_gian: 0.1", "min_gian"),
        ("min_gain: high", "min_gain"),
        ("min_gain: 0.1\nmax_loss: 0.01", r"max_loss is no longer known; it is now min_gain.* \(line 2, column 1\)"),
        ("min_gani: 0.1", "min_gani is not a key of the gate; did you mean min_gain"),
        ("max_class_loss: {recal: 0.1}", "max_class_loss.recal"),
        ("classes: {cow: {recall: -1}}", "classes.cow.recall"),
        ("max_class_loss: {count_error: .inf}", "count_error"),
        ("max_latency_ratio: 0", "max_latency_ratio"),
        ("- 1\n- 2", "must be a mapping"),
        ("a: [", "YAML"),
        ("min_gain: .nan", "min_gain"),
    ],
)
def test_a_bad_gate_names_the_file_and_the_key(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=said) as caught:
        load_gate(path)
    assert str(path) in str(caught.value)


def test_an_empty_gate_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text("# nothing\n")
    assert load_gate(path) == GateConfig()


def test_a_missing_gate_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml cannot be read: .*; name another with --gate\.$"):
        load_gate(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("min_map50: 0.5\nmin_map50: 0.0\n", "line 2, column 1: 'min_map50' stands in line 1 already"),
        ('min_map50: 0.5\n"min_map50": 0.0\n', "line 2, column 1: 'min_map50' stands in line 1 already"),
        ("classes:\n  cow: {recall: 0}\n  cow: {recall: 1}\n", "line 3, column 3: 'cow' stands in line 2"),
        ("classes: {cow: {recall: 0, recall: 1}}\n", "line 1, column 28: 'recall' stands in line 1"),
        ("[]\n", "must be a mapping"),
        ("min_map5: 0.1\n", r"did you mean min_map50\? \(line 1, column 1\)"),
        ("max_class_loss:\n  recal: 0.1\n", r"did you mean recall\? \(line 2, column 3\)"),
        ("classes:\n  cow:\n    recal: 0.1\n", r"did you mean recall\? \(line 3, column 5\)"),
        ("confidence: 0.9\nmin_map50: 1.5\n", r"less than or equal to 1 \(it is 1.5\) \(line 2, column 1\)"),
        ("min_map50: yes\n", r"should be a number, and yes, .* \(line 1, column 1\)"),
    ],
)
def test_a_gate_is_never_open_by_mistake(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "promotion.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        load_gate(path)


def test_a_class_whose_name_is_a_number_has_limits(tmp_path: Path) -> None:
    path = tmp_path / "promotion.yaml"
    path.write_text("classes: {7: {recall: 1e-7}, no: {recall: 0.5}}\n")
    gate = load_gate(path)
    assert gate.class_limits("7")["recall"] == 1e-7
    assert gate.class_limits("no")["recall"] == 0.5
