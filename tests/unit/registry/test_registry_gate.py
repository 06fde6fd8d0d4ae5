import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.errors import InputError
from transect.registry import GateConfig, Measured, load_gate
from transect.registry.gate import judge

_SHARES = st.floats(0, 1)


def _model(map50_95: float, map50: float = 0.9) -> Measured:
    return Measured(map50=map50, map50_95=map50_95, precision=0.8, recall=0.8)


def test_a_first_promotion_needs_the_least_map50() -> None:
    gate = GateConfig(min_map50=0.4)
    assert judge(_model(0.1, map50=0.4), None, gate) == []
    (refusal,) = judge(_model(0.1, map50=0.39), None, gate)
    assert "0.390" in refusal
    assert "0.4" in refusal


@pytest.mark.parametrize("map50_95", [0.595, 0.6, 0.9])
def test_a_candidate_within_the_allowed_loss_passes(map50_95: float) -> None:
    assert judge(_model(map50_95), _model(0.6), GateConfig(max_loss=0.005)) == []


def test_a_worse_candidate_is_refused_with_both_numbers() -> None:
    (refusal,) = judge(_model(0.59), _model(0.6), GateConfig(max_loss=0.005))
    assert "0.590" in refusal
    assert "0.600" in refusal


def test_a_candidate_without_a_number_is_refused() -> None:
    gate = GateConfig()
    assert judge(_model(math.nan), _model(0.6), gate)
    assert judge(_model(0.6, map50=math.nan), None, gate)


@given(candidate=_SHARES, production=_SHARES, loss=_SHARES)
def test_what_is_at_least_as_good_always_passes(candidate: float, production: float, loss: float) -> None:
    refusals = judge(_model(candidate), _model(production), GateConfig(max_loss=loss))
    if candidate >= production:
        assert not refusals
    if candidate < production - loss - 1e-6:
        assert refusals


def test_the_shipped_gate_is_the_default() -> None:
    shipped = Path(__file__).parents[3] / "configs" / "promotion.yaml"
    assert load_gate(shipped) == GateConfig()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("min_map50: 1.5", "min_map50"),
        ("max_los: 0.1", "max_los"),
        ("max_loss: high", "max_loss"),
        ("- 1\n- 2", "the file"),
        ("a: [", "YAML"),
        ("max_loss: .nan", "max_loss"),
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
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        load_gate(tmp_path / "nowhere.yaml")
