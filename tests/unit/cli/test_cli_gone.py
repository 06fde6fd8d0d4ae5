"""Models, versions and runs that are named and not there, or not any more: one sentence each."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tiny_datasets import write_image
from toy_model import build_toy_package
from transect.registry import Registry

Command = Callable[..., tuple[int, str, str]]


def _one_sentence(answer: tuple[int, str, str], said: str) -> None:
    code, _, err = answer
    assert (code, err.count("\n")) == (4, 1), err
    assert err.startswith("transect: ")
    assert said in err


@pytest.fixture(autouse=True)
def home(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands use the store of `registry`."""
    monkeypatch.setenv("TRANSECT_HOME", str(registry.settings.home))


def test_a_missing_file_is_one_sentence(transect: Command, registry: Registry, tmp_path: Path) -> None:
    image = str(write_image(tmp_path / "frame.png", 64, 64))
    client = registry.client
    run_id = client.create_run(registry.experiment("configs_a"), run_name="trained").info.run_id
    registry.register(build_toy_package(tmp_path / "package"), run_id, tags={})

    _one_sentence(transect("models", "show", "production"), "No version of detector has the alias production; promote")
    _one_sentence(transect("models", "show", "prodution"), "has the alias prodution; it has candidate")
    _one_sentence(transect("models", "show", "9"), "Model detector has no version 9; it has 1")
    _one_sentence(transect("models", "rollback"), "No version of detector has the alias production")
    _one_sentence(transect("detect", image), "No version of detector has the alias production")
    _one_sentence(transect("runs", "compare", run_id, "@nobody"), "has the alias nobody")

    client.delete_registered_model("detector")
    for words in (("models", "show"), ("models", "promote"), ("models", "rollback"), ("detect", image)):
        _one_sentence(transect(*words), "has no model named detector; train one: make train")
    _one_sentence(transect("runs", "reproduce", "@candidate"), "has no model named detector")
    code, out, _ = transect("models", "list")
    assert (code, "No version of detector is registered" in out) == (0, True)
    code, out, _ = transect("runs", "show", run_id)
    assert (code, "trained" in out) == (0, True)

    client.delete_run(run_id)
    _one_sentence(transect("runs", "show", run_id[:8]), f"mlflow runs restore --run-id {run_id}")
    _one_sentence(transect("runs", "reproduce", "trained"), "was deleted in MLflow")


@pytest.mark.parametrize("folder", ["modell", "Modelle über/neu"])
def test_a_missing_folder_is_distinguished_from_a_version(transect: Command, tmp_path: Path, folder: str) -> None:
    said = transect("detect", str(write_image(tmp_path / "frame.png", 64, 64)), "--model", folder)
    _one_sentence(said, f"There is no folder {folder} here, so it was read as a model version.")
