"""What every test stands on: an environment without the developer's own settings."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Fixtures that make small real model packages.
pytest_plugins = ["packages"]

_CONTAINERS = Path(__file__).parent / "containers"
_OURS = ("TRANSECT_", "MLFLOW_", "AWS_", "POSTGRES_", "MINIO_")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--photos",
        metavar="FOLDER",
        help="compare the engine with Ultralytics on the photos of this folder too (test_engine_parity.py)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, and all of the containers, which share a stack."""
    for item in items:
        folder = _CONTAINERS if item.path.is_relative_to(_CONTAINERS) else item.path
        item.add_marker(pytest.mark.xdist_group(str(folder)))


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    """Take out every variable that configures the program: a test sets what it needs.

    After the test too: the program names its MLflow in the environment, where the fixtures of the next
    module, which are made before any fixture of a single test, would find it.
    """
    _clean()
    yield
    _clean()


def _clean() -> None:
    for name in list(os.environ):
        if name.startswith(_OURS):
            del os.environ[name]
