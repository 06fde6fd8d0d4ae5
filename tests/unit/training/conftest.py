"""Ultralytics, prepared as the program prepares it."""

from pathlib import Path

import pytest

from transect.training.trainer.environment import prepare_ultralytics


@pytest.fixture(scope="session", autouse=True)
def ultralytics_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its settings and caches, away from the developer's own."""
    home = tmp_path_factory.mktemp("home")
    prepare_ultralytics(home)
    return home


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained yolo11n, as Ultralytics saves it."""
    from ultralytics.models.yolo import YOLO

    path = tmp_path_factory.mktemp("weights") / "mine.pt"
    YOLO("yolo11n.yaml").save(path)
    return path
