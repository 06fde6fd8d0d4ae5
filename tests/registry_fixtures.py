"""An embedded store that is made once and copied, because MLflow takes seconds to make one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toy_model import build_toy_package, write_toy_dataset
from transect.datasets import dataset_digest, load_dataset
from transect.registry import Registry, connect
from transect.settings import load_settings


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("store")
    connect(load_settings({"TRANSECT_HOME": str(home)}, env_file=None))
    return home / "mlflow.db"


@pytest.fixture
def registry(empty_store: Path, tmp_path: Path) -> Registry:
    home = tmp_path / "home"
    home.mkdir()
    for part in empty_store.parent.glob("mlflow.db*"):
        shutil.copy(part, home / part.name)
    return connect(load_settings({"TRANSECT_HOME": str(home), "TRANSECT_THREADS": "1"}, env_file=None))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_toy_dataset(tmp_path / "data")


@pytest.fixture
def register(registry: Registry, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """register(shift, tags=None, **fields of build_toy_package): the number of a new version."""
    # Models of a millisecond need not be timed for long.
    monkeypatch.setattr("transect.registry.promotion.comparison._ROUND_S", 0.01)

    def run(shift: float, *, tags: dict[str, str] | None = None, **fields: Any) -> str:
        run_id = registry.client.create_run(registry.experiment("test")).info.run_id
        package = build_toy_package(tmp_path / run_id, shift=shift, **fields)
        known = {"transect.data": str(data), "transect.dataset_digest": dataset_digest(load_dataset(data))}
        return registry.register(package, run_id, tags={**known, **(tags or {})}).version

    return run
