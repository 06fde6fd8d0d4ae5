import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from transect.engine import Detector
from transect.registry import ResolvedVersion
from transect.serving.models.cached_start import CachedModelPreload
from transect.serving.models.slot import ServedModel

KNOWN = ResolvedVersion(name="detector", version="3", run_id="run", source="runs:/run/model", package_sha256="3" * 64)
OTHER = ResolvedVersion(name="detector", version="4", run_id="run", source="runs:/run/model", package_sha256="4" * 64)
LONG = 3600.0


class PreloadHarness:
    """A preload of one package, with the models that it opened and served."""

    def __init__(self, package: Path, known: ResolvedVersion | None, patience_s: float) -> None:
        self.served: list[ServedModel] = []
        self.opened: list[ServedModel] = []
        self.serving = threading.Event()
        self.package = package
        last_known = None if known is None else (known, package)
        self.preload = CachedModelPreload(lambda: last_known, self.load, self.serve, patience_s)

    def load(self, resolved: ResolvedVersion, package: Path) -> ServedModel:
        model = ServedModel(Detector.open(package, backend="onnxruntime"), resolved, datetime.now(UTC), from_cache=True)
        self.opened.append(model)
        return model

    def serve(self, model: ServedModel) -> None:
        self.served.append(model)
        self.serving.set()


@pytest.fixture
def make(dot_package: Path) -> Iterator[Callable[..., PreloadHarness]]:
    harnesses: list[PreloadHarness] = []

    def make(known: ResolvedVersion | None = KNOWN, patience_s: float = LONG) -> PreloadHarness:
        harnesses.append(PreloadHarness(dot_package, known, patience_s))
        harnesses[-1].preload.start()
        return harnesses[-1]

    yield make
    for harness in harnesses:
        for model in harness.opened:
            model.detector.close()


def test_the_version_that_mlflow_names_is_handed_over_once(make: Callable[..., PreloadHarness]) -> None:
    harness = make()
    assert harness.preload.pop(OTHER) is None
    model = harness.preload.pop(KNOWN)
    assert model is not None
    assert model.resolved == KNOWN
    assert harness.preload.pop(KNOWN) is None
    harness.preload.discard()
    assert harness.served == []


def test_when_mlflow_hangs_it_is_served(make: Callable[..., PreloadHarness]) -> None:
    harness = make(patience_s=0.01)
    harness.preload.query_started()
    assert harness.serving.wait(60)
    assert [model.resolved for model in harness.served] == [KNOWN]
    assert harness.preload.pop(KNOWN) is None


def test_before_the_query_starts_nothing_is_served(make: Callable[..., PreloadHarness]) -> None:
    harness = make(patience_s=0.0)
    assert not harness.serving.wait(0.3)
    harness.preload.discard()


def test_after_mlflow_has_responded_the_preload_serves_nothing(make: Callable[..., PreloadHarness]) -> None:
    harness = make()
    harness.preload.query_started()
    harness.preload.query_finished()
    harness.preload.discard()
    assert harness.served == []


def test_without_a_known_version_there_is_nothing(make: Callable[..., PreloadHarness]) -> None:
    harness = make(known=None)
    assert harness.preload.pop(KNOWN) is None
    harness.preload.discard()
    assert CachedModelPreload(lambda: None, harness.load, harness.serve, LONG).pop(KNOWN) is None
