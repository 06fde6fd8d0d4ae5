"""The benchmark of tracking trains twice, with and without it, and both trainings are one."""

from pathlib import Path

import pytest
from benchmarks.interleaved import Span
from benchmarks.training_process import train, write_recipe

from tiny_datasets import write_spots_dataset
from transect.settings import load_settings
from transect.training import TrainRequest


def test_the_training_without_tracking_is_the_same_and_tells_nothing(tmp_path: Path) -> None:
    data = write_spots_dataset(tmp_path / "spots", images=5, size=64)
    environment = {"TRANSECT_HOME": str(tmp_path / "home"), "TRANSECT_PRETRAINED": "none", "TRANSECT_DEVICE": "cpu"}
    settings = load_settings({**environment, "TRANSECT_THREADS": "1"}, env_file=None)
    request = TrainRequest("yolo11n", write_recipe(tmp_path / "tiny.yaml", epochs=1, tile=64, plots=False), data)
    always = [Span(float("-inf"), float("inf"))]
    tracked = train(request, settings, tracked=True, whole=False).spent(always)
    noted = train(request, settings, tracked=False, whole=True)
    bare = noted.spent(always)
    assert tracked.metrics == bare.metrics
    # Parameters and one epoch at least.
    assert tracked.entries >= 2
    assert tracked.threads["run-log"] > 0
    assert (bare.entries, bare.threads) == (0, {})
    for one in (tracked, bare):
        assert 0 < one.telling < one.training
    assert tracked.whole is None
    assert bare.whole is not None
    assert bare.whole > bare.training
    begin, end = noted.training.begin, noted.training.end
    assert noted.spent([Span(0, begin), Span((begin + end) / 2, end)]).training == pytest.approx(bare.training / 2)
