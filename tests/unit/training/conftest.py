"""Ultralytics, prepared as the program prepares it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from transect.training.trainer.environment import prepare_ultralytics


@pytest.fixture(scope="session", autouse=True)
def ultralytics_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its settings and caches, away from the developer's own."""
    home = tmp_path_factory.mktemp("home")
    prepare_ultralytics(home)
    return home


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Let PyTorch compute in this thread alone: several only wait for one another where other tests run beside them."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained yolo11n, as Ultralytics saves it."""
    from ultralytics.models.yolo import YOLO

    path = tmp_path_factory.mktemp("weights") / "mine.pt"
    YOLO("yolo11n.yaml").save(path)
    return path
