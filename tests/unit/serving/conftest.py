import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from follower_harness import FollowerHarness, InMemoryModelSource
from package_fixtures import write_package
from transect.engine import MODEL_FILE


@pytest.fixture
def broken_package(dot_package: Path, tmp_path: Path) -> Path:
    """A package with correct hashes and an invalid model file."""
    folder = tmp_path / "broken"
    shutil.copytree(dot_package, folder)
    (folder / MODEL_FILE).write_bytes(b"\x08\x08")
    return write_package(folder)


@pytest.fixture
def make_harness(dot_package: Path, broken_package: Path) -> Iterator[Callable[..., FollowerHarness]]:
    source = InMemoryModelSource()
    source.packages = {"1": dot_package, "2": dot_package, "3": broken_package}
    harnesses: list[FollowerHarness] = []

    def make(**options: float) -> FollowerHarness:
        harnesses.append(FollowerHarness(source, **options))
        return harnesses[-1]

    yield make
    for harness in harnesses:
        harness.slot.swap(None)


@pytest.fixture
def harness(make_harness: Callable[..., FollowerHarness]) -> FollowerHarness:
    return make_harness()
