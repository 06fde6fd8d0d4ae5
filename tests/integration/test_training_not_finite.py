"""A training whose loss is no number."""

from pathlib import Path

import pytest

from tiny_datasets import write_spots_dataset
from transect.errors import InputError
from transect.registry import connect
from transect.settings import load_settings
from transect.training import TrainRequest, train

# Nothing that Ultralytics takes overflows more surely.
_RECIPE = """
train: {epochs: 3, imgsz: 64, batch: 4, nbs: 4, optimizer: SGD, lr0: 1.0, momentum: 0.98, warmup_epochs: 0,
  box: 1.0e+38, cls: 1.0e+38, plots: false}
"""


def test_a_loss_that_stays_nan_is_one_sentence_and_a_failed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(_RECIPE)
    data = write_spots_dataset(tmp_path / "spots", images=2, size=64)
    settings = load_settings(
        {"TRANSECT_HOME": str(tmp_path / "home"), "TRANSECT_PRETRAINED": "none", "TRANSECT_THREADS": "1"}, env_file=None
    )
    with pytest.raises(InputError, match=r"became NaN or infinite and stayed so; give .* lr0=0\.0005"):
        train(TrainRequest("yolo11n", Path("tiny.yaml"), data), settings)
    registry = connect(settings)
    (run,) = registry.client.search_runs([registry.experiment("tiny")])
    assert run.info.status == "FAILED"
    # The first epoch was told as it was.
    assert not run.data.metrics["val/loss"] < 1e308
    assert "val/loss (first at step 1)" in run.data.tags["transect.not_finite"]
    assert "NaN or infinite at step 1: " in caplog.text
    assert registry.list_versions() == []
