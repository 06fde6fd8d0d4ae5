from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from transect.errors import InputError
from transect.training.config.recipe import load_recipe
from transect.training.sweep.config import METRICS, as_overrides, load_sweep

_SPACE = {
    "lr0": {"log_uniform": ["1e-4", 0.01]},
    "mosaic": {"uniform": [0, 1]},
    "imgsz": {"int": [64, 128], "step": 32},
    "optimizer": {"choice": ["AdamW", "SGD"]},
    "cos_lr": {"choice": [True, False]},
}


def _write(folder: Path, **keys: Any) -> Path:
    """A sweep with these keys; a key that is None is left out."""
    recipe = folder / "tiny.yaml"
    recipe.write_text("train: {epochs: 3, imgsz: 64, lr0: 0.002}\n")
    document = {"recipe": str(recipe), "space": _SPACE, **keys}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in document.items() if value is not None}))
    return path


def test_a_sweep_is_read_with_its_defaults(tmp_path: Path) -> None:
    read = load_sweep(_write(tmp_path), overrides=["epochs=5"])
    assert read.space == {
        "lr0": FloatDistribution(1e-4, 0.01, log=True),
        "mosaic": FloatDistribution(0, 1),
        "imgsz": IntDistribution(64, 128, step=32),
        "optimizer": CategoricalDistribution(["AdamW", "SGD"]),
        "cos_lr": CategoricalDistribution([True, False]),
    }
    assert (read.trials, read.metric, read.value_name) == (20, "best/mAP50-95", "mAP50-95")
    assert (read.sampler.seed, read.pruner.kind) == (0, "median")


def test_the_command_decides_how_many_trials(tmp_path: Path) -> None:
    assert load_sweep(_write(tmp_path, trials=7)).trials == 7
    assert load_sweep(_write(tmp_path, trials=7), trials=9).trials == 9


def test_the_sweep_that_comes_with_the_project_can_be_read() -> None:
    read = load_sweep(Path("configs/sweep/wildlife.yaml"))
    assert read.metric in METRICS
    assert read.trials > read.sampler.startup_trials


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"recipe": None}, "names no recipe to start from"),
        ({"recipe": "none.yaml"}, "Recipe none.yaml cannot be read"),
        ({"space": None}, "has no space to search"),
        ({"space": {"lr": {"uniform": [0, 1]}}}, "'lr' is not a key of .* did you mean lr"),
        ({"space": {"iou": {"uniform": [0, 1]}}}, "'iou' is not a key of a training recipe that a sweep can search"),
        ({"spaces": {}}, "spaces is not a key of a sweep; did you mean space"),
        ({"trials": 0}, r"trials: input should be greater than or equal to 1 \(it is 0\)"),
        ({"metric": "test/mAP50-95"}, "metric: the test split has to stay unseen"),
        ({"metric": "val/loss"}, "metric: no sweep can maximise it; give one of best/mAP50-95"),
        ({"sampler": {"seeds": 1}}, "sampler.seeds is not a key of a sweep; did you mean seed"),
        ({"pruner": {"kind": "mean"}}, "pruner.kind: input should be 'median' or 'none'"),
        ({"pruner": 5}, "pruner: it must hold `key: value` lines"),
        ({"space": {"lr0": [0, 1]}}, "lr0: give one of uniform"),
        ({"space": {"lr0": {"uniform": [0.1]}}}, r"uniform: \[0.1\] is no range: give two numbers"),
        ({"space": {"lr0": {"uniform": [0.2, 0.1]}}}, "is empty: the first number must be the smaller"),
        ({"space": {"lr0": {"uniform": [0, float("inf")]}}}, "is no range"),
        ({"space": {"lr0": {"uniform": [0, 1], "step": 1}}}, "step goes with int alone"),
        ({"space": {"lr0": {"log_uniform": [0, 1]}}}, "must begin above 0"),
        ({"space": {"epochs": {"int": [1.5, 3]}}}, "give two whole numbers"),
        ({"space": {"epochs": {"int": [1, 10], "step": 2}}}, "step=2 does not lead from 1"),
        ({"space": {"epochs": {"choice": [5]}}}, "is no choice"),
        ({"space": {"epochs": {"choice": [5, 5]}}}, "names something twice"),
        ({"space": {"imgsz": {"int": [64, 100]}}}, "space, imgsz: imgsz=100 is not usable: give a multiple of 32"),
    ],
)
def test_what_is_wrong_is_one_sentence(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as raised:
        load_sweep(_write(tmp_path, **keys))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["[", "- a", "a"])
def test_a_file_that_is_no_sweep_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"broken\.yaml"):
        load_sweep(path)
    with pytest.raises(InputError, match=r"cannot be read: .*; configs/sweep holds one"):
        load_sweep(tmp_path / "absent.yaml")


def test_a_setting_that_is_looked_for_cannot_be_fixed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\+train\.lr0=0\.1: lr0 is in the space of"):
        load_sweep(_write(tmp_path), overrides=["+train.lr0=0.1"])


@given(
    lr0=st.floats(1e-12, 1e6),
    epochs=st.integers(1, 10**6),
    optimizer=st.sampled_from(["AdamW", "SGD", "true", "1e-3x", "null-ish"]),
    cos_lr=st.booleans(),
)
def test_a_trial_trains_with_exactly_what_was_drawn(
    lr0: float, epochs: int, optimizer: str, cos_lr: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = tmp_path_factory.getbasetemp() / "empty.yaml"
    recipe.write_text("")
    drawn = {"lr0": lr0, "epochs": epochs, "optimizer": optimizer, "cos_lr": cos_lr}
    assert load_recipe(recipe, as_overrides(drawn)).train == drawn


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: r\ntrials: 2\ntrials: 3\n", "line 3, column 1: 'trials' stands in line 2 already"),
        ("space: {lr0: {choice: [1, 2]}, lr0: {choice: [1, 3]}}\n", "'lr0' stands in line 1 already"),
        ("recipes: r\n", "did you mean recipe? (line 1, column 1)."),
        ("recipe: r\nspace:\n  lr: {uniform: [0, 1]}\n", "(line 3, column 3)."),
        ("recipe: r\nspace:\n  lr0: {uniform: [1, 0]}\n", "must be the smaller one (line 3, column 3)."),
        ("recipe: r\nspace:\n  lr0:\n    uniforms: [0, 1]\n", "did you mean uniform? (line 4, column 5)."),
        ("recipe: r\ntrials: many\nspace: {lr0: {uniform: [0, 1]}}\n", "(line 2, column 1)."),
        ("recipe: r\nsampler:\n  seed: -1\nspace: {lr0: {uniform: [0, 1]}}\n", "(line 3, column 3)."),
        ("recipe: 3\n", "names no recipe to start from, such as recipe: configs/train/wildlife.yaml (line 1"),
    ],
)
def test_a_wrong_sweep_has_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_sweep(path)
    assert message in str(caught.value)
