"""The demo's own decisions; what it calls is tested where it lives."""

from pathlib import Path

import pytest

from toy_model import build_toy_package, write_toy_dataset
from transect import demo
from transect.datasets import dataset_digest, load_dataset
from transect.registry import connect

ROOT = Path(__file__).parents[2]


def test_a_second_demo_whose_model_is_no_better_keeps_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # it reads the recipes from where the project lies
    settings = demo._settings(tmp_path / "out")
    registry = connect(settings)
    data = write_toy_dataset(tmp_path / "data")
    tags = {"transect.data": str(data), "transect.dataset_digest": dataset_digest(load_dataset(data))}
    package = build_toy_package(tmp_path / "package")
    said = []
    for _ in range(2):
        run = registry.client.create_run(registry.experiment("demo"))
        registry.register(package, run.info.run_id, tags=tags)
        said.append(demo._promote(settings))
    assert "detector version 1 is in production" in said[0]
    assert "detector version 2 was not promoted: " in said[1]
    assert said[1].endswith("The production model stays.")
    assert registry.resolve("models:/detector@production").version == "1"


def test_no_setting_of_the_users_own_server_reaches_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://survey-server:5000")
    monkeypatch.setenv("TRANSECT_MODEL_NAME", "elephants")
    monkeypatch.setenv("TRANSECT_THREADS", "1")
    settings = demo._settings(tmp_path)
    assert (settings.model_name, settings.threads, settings.home) == ("detector", 1, tmp_path)
    assert settings.tracking_uri == ""
