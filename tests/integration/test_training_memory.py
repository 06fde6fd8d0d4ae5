"""A batch that does not fit into the GPU's memory: Ultralytics halves it, and all that is logged follows."""

import json
import logging
import re
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_datasets import write_spots_dataset
from transect.datasets import Dataset, load_dataset
from transect.progress import progress
from transect.registry import connect
from transect.settings import Settings, load_settings
from transect.tracking.run_history import RunHistory
from transect.tracking.spool import Spool
from transect.training import TrainRequest, train
from transect.training.config.safe_load import load_checkpoint
from transect.training.pipeline import TAG_BATCH_REDUCED, TAG_BATCH_USED
from transect.training.trainer.checkpoints import LAST, Checkpoint
from transect.training.trainer.resumable import ResumableTrainer
from transect.training.trainer.trainer import Trained, TrainingCallbacks, run_training

_SENTENCE = "batch {} did not fit into the GPU's memory, trained with {}"
_IMAGES = 12
_OURS = "transect.training.trainer.trainer"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(write_spots_dataset(tmp_path_factory.mktemp("spots"), images=_IMAGES // 2, size=64))


@pytest.fixture
def full_at(monkeypatch: pytest.MonkeyPatch) -> deque[bool]:
    """Whether memory runs out at the batches to come, one after the other."""
    plan: deque[bool] = deque()
    real: Any = ResumableTrainer.preprocess_batch

    def preprocess_batch(self: Any, batch: dict[str, Any]) -> dict[str, Any]:
        if plan and plan.popleft():
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        moved: dict[str, Any] = real(self, batch)
        return moved

    # It is called where the forward pass of a GPU fails.
    monkeypatch.setattr(ResumableTrainer, "preprocess_batch", preprocess_batch)
    return plan


@dataclass
class CallbackCalls:
    """The calls of a training to its callbacks."""

    configurations: list[dict[str, Any]] = field(default_factory=list)
    reduced: list[tuple[int, str]] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)


def _run(
    dataset: Dataset, folder: Path, checkpoint: Checkpoint | None = None, **arguments: Any
) -> tuple[Trained, CallbackCalls]:
    calls = CallbackCalls()
    callbacks = TrainingCallbacks(
        started=calls.configurations.append,
        epoch=lambda number, _: calls.epochs.append(number),
        reduced=lambda batch, sentence: calls.reduced.append((batch, sentence)),
    )
    wanted = {
        "model": "yolo11n.yaml", "pretrained": False, "epochs": 2, "imgsz": 64, "batch": 8, "nbs": 12, "device": "cpu",
        "plots": False, "optimizer": "SGD", "amp": False, "patience": 0,
    }  # fmt: skip
    return run_training(dataset, {**wanted, **arguments}, folder, callbacks, checkpoint), calls


def test_the_halved_batch_is_told_and_the_bar_follows(
    dataset: Dataset,
    full_at: deque[bool],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    full_at.extend([False, True])
    with caplog.at_level(logging.WARNING, _OURS):
        trained, calls = _run(dataset, tmp_path / "run")
    assert trained.batch == 4
    assert calls.epochs == [1, 2]
    assert calls.reduced == [(4, _SENTENCE.format(8, 4))]
    messages = [record.getMessage() for record in caplog.records if record.name == _OURS]
    assert messages == ["B" + _SENTENCE.format(8, 4)[1:] + "."]
    before, after = calls.configurations
    changed = {name: (before[name], after[name]) for name in after if before[name] != after[name]}
    assert changed.pop("weight_decay_used") == pytest.approx((0.0005 * 8 * 2 / 12, 0.0005 * 4 * 3 / 12))
    assert changed == {"batch": (8, 4), "batches_per_epoch": (2, 3)}
    # One batch before memory ran out, and two epochs of three.
    assert re.findall(r"Training: (\d+)/(\d+) batches", capsys.readouterr().err)[-1] == ("7", "7")


def test_a_batch_that_is_halved_twice_is_told_from_what_it_was(
    dataset: Dataset, full_at: deque[bool], tmp_path: Path
) -> None:
    full_at.extend([True, True])
    trained, calls = _run(dataset, tmp_path / "run", epochs=1)
    assert trained.batch == 2
    assert calls.reduced == [(4, _SENTENCE.format(8, 4)), (2, _SENTENCE.format(8, 2))]


def test_a_batch_that_fits_is_told_once(dataset: Dataset, full_at: deque[bool], tmp_path: Path) -> None:
    trained, calls = _run(dataset, tmp_path / "run", epochs=1)
    assert (trained.batch, calls.reduced, len(calls.configurations)) == (8, [], 1)


def test_a_resumed_training_goes_on_with_the_halved_batch(
    dataset: Dataset, full_at: deque[bool], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    full_at.append(True)

    class _StopError(Exception):
        pass

    stopped = TrainingCallbacks(started=lambda _: None, epoch=_stop_at(2, _StopError), reduced=lambda *_: None)
    arguments = {
        "model": "yolo11n.yaml", "pretrained": False, "epochs": 3, "imgsz": 64, "batch": 8, "device": "cpu",
        "plots": False, "optimizer": "SGD", "amp": False,
    }  # fmt: skip
    with pytest.raises(_StopError):
        run_training(dataset, arguments, folder, stopped)
    assert load_checkpoint(folder / LAST).args["batch"] == 4
    trained, calls = _run(dataset, folder, Checkpoint(folder / LAST, complete=False, changes={}), epochs=3)
    assert trained.batch == 4
    assert calls.configurations[0]["batch"] == 4
    assert calls.reduced == []
    assert calls.epochs == [2, 3]


def _stop_at(epoch: int, error: type[Exception]) -> Any:
    def listener(number: int, _: dict[str, float]) -> None:
        if number == epoch:
            raise error

    return listener


def test_gradients_under_way_go_with_the_batch_that_did_not_fit(
    dataset: Dataset, full_at: deque[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    real: Any = ResumableTrainer._build_train_pipeline

    def build(self: Any) -> None:
        # As after a checkpoint that was written between two steps of the optimizer.
        self._skipped = 100
        real(self)
        found.append(self.accumulate)

    monkeypatch.setattr(ResumableTrainer, "_build_train_pipeline", build)
    full_at.append(True)
    _run(dataset, tmp_path / "run", epochs=1)
    assert found == [2, 3]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    environment = {"TRANSECT_HOME": str(tmp_path / "home"), "TRANSECT_PRETRAINED": "none"}
    return load_settings(environment, env_file=None)


def test_mlflow_has_the_batch_that_trained(
    dataset: Dataset, full_at: deque[bool], settings: Settings, tmp_path: Path
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("train: {epochs: 1, imgsz: 64, batch: 8, nbs: 12, plots: false, optimizer: SGD, amp: false}\n")
    full_at.append(True)
    outcome = train(TrainRequest("yolo11n", recipe, dataset.path, until="trained"), settings)
    run = connect(settings).client.get_run(outcome.run_id)
    assert run.data.tags[TAG_BATCH_REDUCED] == _SENTENCE.format(8, 4)
    assert run.data.tags[TAG_BATCH_USED] == "4"
    # MLflow's parameters cannot change; their differences are in the tag that a resumed run has too.
    assert run.data.params["batch"] == "8"
    drift = json.loads(run.data.tags["param_drift"])
    assert drift["batch"] == {"old": "8", "new": "4"}
    assert set(drift) == {"batch", "batches_per_epoch", "weight_decay_used"}
    assert RunHistory.read(Spool(outcome.run_dir)).params["batch"] == "8"


def test_a_bar_takes_another_total(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    with progress("Training", 2, "batches") as advance:
        advance()
        advance(0, total=4)
        advance(3)
    assert "4/4" in capsys.readouterr().err
