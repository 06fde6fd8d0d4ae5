"""A training set whose data.yaml was written by someone else, used from a working directory that is not its own."""

from pathlib import Path

import pytest

from tiny_datasets import write_spots_dataset
from transect.registry import GateConfig, LossLimits, connect, promote
from transect.settings import Settings, load_settings
from transect.training import TrainRequest
from transect.training.pipeline import TrainOutcome, train
from transect.training.reproduce.reproduce import plan_reproduction, reproduce
from transect.training.sweep.run import SweepRequest, sweep
from transect.training.trainer import trainer

_RECIPE = """
train: {epochs: 1, imgsz: 64, batch: 4, optimizer: AdamW, lr0: 0.002, plots: false}
precision: {int8: false, bf16: false}
"""
_SWEEP = "recipe: tiny.yaml\ntrials: 1\nspace:\n  lr0: {choice: [0.002, 0.001]}\n"
_OPEN_GATE = GateConfig(
    min_map50=0.0,
    min_gain=-1.0,
    significant_gain=False,
    max_class_loss=LossLimits(map50_95=None, recall=None, count_error=None),
    max_latency_ratio=None,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    values = {"TRANSECT_HOME": str(tmp_path / "home"), "TRANSECT_PRETRAINED": "none", "TRANSECT_THREADS": "2"}
    return load_settings(values, env_file=None)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: it holds recipes, and no picture."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(_RECIPE)
    (folder / "sweep.yaml").write_text(_SWEEP)
    monkeypatch.chdir(folder)
    return folder


def _hostile(tmp_path: Path, canary: Path) -> Path:
    """A set with `path: .`, which Ultralytics looks for in the working directory, and code for where it is not."""
    data = write_spots_dataset(tmp_path / "Bärenzählung 1", images=2, size=64)
    code = f"import pathlib; pathlib.Path({str(canary)!r}).touch()"
    data.write_text(f"path: .\n{data.read_text()}download: {code}\n")
    return data


def _train(data: Path, settings: Settings, *, resume: bool = False) -> TrainOutcome:
    return train(TrainRequest("yolo11n", Path("tiny.yaml"), data, resume=resume), settings)


def test_code_in_a_data_yaml_never_runs(tmp_path: Path, elsewhere: Path, settings: Settings) -> None:
    canary = tmp_path / "canary"
    data = _hostile(tmp_path, canary)
    outcome = _train(data, settings)
    assert outcome.version == "1"
    arguments = (outcome.run_dir / "args.yaml").read_text()
    assert str(data) not in arguments
    registry = connect(settings)
    assert registry.resolve("@candidate").tags["transect.data"] == str(data)
    again = reproduce(plan_reproduction(outcome.run_id, settings), settings)
    assert again.outcome.metrics == outcome.metrics
    assert sweep(SweepRequest(config=Path("sweep.yaml"), data=data), settings).version == "2"
    promote(registry, gate=_OPEN_GATE, actor="test")
    assert registry.resolve("@production").version == "2"
    assert not canary.exists()
    assert {path.name for path in elsewhere.iterdir()} == {"tiny.yaml", "sweep.yaml"}


def test_a_run_that_died_of_it_is_finished(
    tmp_path: Path, elsewhere: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_spots_dataset(tmp_path / "spots", images=2, size=64)
    data.write_text(f"path: .\n{data.read_text()}")
    with monkeypatch.context() as as_it_was:
        as_it_was.setattr(trainer, "write_data_yaml", lambda dataset, _: dataset.path)
        with pytest.raises(FileNotFoundError, match="images not found"):
            _train(data, settings)
    (folder,) = (tmp_path / "home" / "train").iterdir()
    canary = tmp_path / "canary"
    data.write_text(f"{data.read_text()}download: bash -c 'touch {canary}'\n")
    another = tmp_path / "another"
    another.mkdir()
    (another / "tiny.yaml").write_text(_RECIPE)
    monkeypatch.chdir(another)
    outcome = _train(data, settings, resume=True)
    assert (outcome.run_dir, outcome.version) == (folder, "1")
    assert not canary.exists()
