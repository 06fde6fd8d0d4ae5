"""What MLflow has of a training's learning rates and arguments, against the optimizer that trained."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from tiny_datasets import write_spots_dataset
from transect.registry import connect
from transect.settings import load_settings
from transect.training import TrainRequest, train
from transect.training.trainer.resumable import ResumableTrainer

_EPOCHS = 3
_BATCHES = 2
# Each batch is a step of the optimizer; the first half of them are warm-up.
_TRAIN = f"epochs: {_EPOCHS}, imgsz: 64, batch: 4, nbs: 4, plots: false, cos_lr: true, lrf: 0.1, seed: 1"


@dataclass
class Steps:
    """The optimizer that trained, and the rate of each of its groups at every step that it really made."""

    optimizer: Any = None
    rates: list[list[float]] = field(default_factory=list)

    def at_the_end_of(self, epoch: int) -> list[float]:
        """The rates of the last step of an epoch, counted from 1."""
        return self.rates[epoch * _BATCHES - 1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spots_dataset(tmp_path_factory.mktemp("spots"), images=4, size=64)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Filled by torch's own hook, and not by what Ultralytics says of its scheduler."""
    found = Steps()
    build: Any = ResumableTrainer.build_optimizer
    monkeypatch.setattr(ResumableTrainer, "_get_warmup_iterations", lambda *_: _EPOCHS)

    def recorded(self: Any, *arguments: Any, **options: Any) -> Any:
        found.optimizer = build(self, *arguments, **options)
        found.optimizer.register_step_post_hook(
            lambda optimizer, *_: found.rates.append([group["lr"] for group in optimizer.param_groups])
        )
        return found.optimizer

    monkeypatch.setattr(ResumableTrainer, "build_optimizer", recorded)
    return found


def _train(optimizer: str, folder: Path, data: Path) -> tuple[Run, dict[str, list[float]]]:
    """The run of a training, and the history of each learning rate, as MLflow has them."""
    recipe = folder / "tiny.yaml"
    recipe.write_text(f"train: {{{_TRAIN}, {optimizer}}}\n")
    environment = {"TRANSECT_HOME": str(folder / "home"), "TRANSECT_PRETRAINED": "none"}
    settings = load_settings(environment, env_file=None)
    outcome = train(TrainRequest("yolo11n", recipe, data, until="trained"), settings)
    client = connect(settings).client
    run = client.get_run(outcome.run_id)
    names = [name for name in run.data.metrics if name.startswith("lr/")]
    return run, {name: [one.value for one in client.get_metric_history(outcome.run_id, name)] for name in names}


@pytest.mark.parametrize(
    ("optimizer", "made", "distinct"),
    [
        ("optimizer: AdamW, lr0: 0.002", "AdamW", 2),  # biases warm up from above
        ("optimizer: auto, lr0: 0.5", "AdamW", 1),
        ("optimizer: MuSGD, lr0: 0.01", "MuSGD", 4),  # the head's groups learn three times as fast
    ],
)
def test_rates_are_those_that_the_optimizer_used(
    optimizer: str, made: str, distinct: int, steps: Steps, data: Path, tmp_path: Path
) -> None:
    run, logged = _train(optimizer, tmp_path, data)
    assert len(steps.rates) == _EPOCHS * _BATCHES
    assert len({f"{rate:.12g}" for rate in steps.at_the_end_of(1)}) == distinct
    groups = range(len(steps.rates[0]))
    assert logged == {
        f"lr/pg{group}": [steps.at_the_end_of(epoch)[group] for epoch in range(1, _EPOCHS + 1)] for group in groups
    }
    # Warm-up and cosine: there is something that could be wrong.
    assert all(len(set(values)) == _EPOCHS for values in logged.values())

    params, trained_by = run.data.params, steps.optimizer
    assert params["optimizer"] == params["optimizer_used"] == type(trained_by).__name__ == made
    slowest = min(group["initial_lr"] for group in trained_by.param_groups)
    assert float(params["lr0"]) == slowest
    assert params["initial_lr"] == ", ".join(f"{group['initial_lr']:g}" for group in trained_by.param_groups)
    first = trained_by.param_groups[0]
    assert float(params["momentum"]) == (first["betas"][0] if "betas" in first else first["momentum"])
    assert float(params["weight_decay_used"]) == max(group["weight_decay"] for group in trained_by.param_groups)
    assert params["forward_precision"] in ("bf16", "fp32")
    assert (params["workers"], params["batches_per_epoch"]) == ("0", str(_BATCHES))
