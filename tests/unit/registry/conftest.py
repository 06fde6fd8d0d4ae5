"""An embedded store that is made once and copied, because MLflow takes seconds to make one."""

import shutil
from pathlib import Path

import pytest

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
