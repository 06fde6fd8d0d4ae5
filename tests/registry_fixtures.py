"""An embedded store that is made once and copied, because MLflow takes seconds to make one.

MLflow is imported where it is used: every process of pytest loads this file, that which only hands out tests too.
"""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from transect.settings import load_settings

if TYPE_CHECKING:
    from transect.registry import Registry


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The database of an empty store, for copy_store()."""
    from mlflow.store.db import utils

    from transect.registry import connect

    home = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        # Read from MLflow's hundred migration scripts whenever a store is opened; they stay the same.
        patch.setattr(utils, "_get_latest_schema_revision", cache(utils._get_latest_schema_revision))
        connect(load_settings({"TRANSECT_HOME": str(home)}, env_file=None))
        yield home / "mlflow.db"


def copy_store(store: Path, home: Path) -> Path:
    """Copy a database into the folder `home`, which is made if need be; returns the copy."""
    home.mkdir(exist_ok=True)
    for part in store.parent.glob("mlflow.db*"):
        shutil.copy(part, home / part.name)
    return home / store.name


@pytest.fixture
def registry(empty_store: Path, tmp_path: Path) -> "Registry":
    from transect.registry import connect

    home = copy_store(empty_store, tmp_path / "home").parent
    return connect(load_settings({"TRANSECT_HOME": str(home), "TRANSECT_THREADS": "1"}, env_file=None))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    from toy_model import write_toy_dataset

    return write_toy_dataset(tmp_path / "data")


@pytest.fixture
def register(registry: "Registry", data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """register(shift, tags=None, **fields of build_toy_package): the number of a new version."""
    from toy_model import build_toy_package
    from transect.datasets import dataset_digest, load_dataset

    # Models of a millisecond need not be timed for long.
    monkeypatch.setattr("transect.registry.promotion.comparison._ROUND_S", 0.01)

    def run(shift: float, *, tags: dict[str, str] | None = None, **fields: Any) -> str:
        run_id = registry.client.create_run(registry.experiment("test")).info.run_id
        package = build_toy_package(tmp_path / run_id, shift=shift, **fields)
        known = {"transect.data": str(data), "transect.dataset_digest": dataset_digest(load_dataset(data))}
        return registry.register(package, run_id, tags={**known, **(tags or {})}).version

    return run
