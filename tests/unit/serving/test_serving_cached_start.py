import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from transect.engine import Detector
from transect.registry import ResolvedVersion
from transect.serving.models.cached_start import HeadStart
from transect.serving.models.slot import ServedModel

KNOWN = ResolvedVersion("detector", "3", "run", "runs:/run/model", "3" * 64)
OTHER = ResolvedVersion("detector", "4", "run", "runs:/run/model", "4" * 64)
LONG = 3600.0


class Stage:
    """A head start on one package, and what it served."""

    def __init__(self, package: Path, known: ResolvedVersion | None, patience_s: float) -> None:
        self.served: list[ServedModel] = []
        self.opened: list[ServedModel] = []
        self.serving = threading.Event()
        self.package = package
        answer = None if known is None else (known, package)
        self.head_start = HeadStart(lambda: answer, self.load, self.serve, patience_s)

    def load(self, resolved: ResolvedVersion, package: Path) -> ServedModel:
        model = ServedModel(Detector.open(package, backend="onnxruntime"), resolved, datetime.now(UTC), from_cache=True)
        self.opened.append(model)
        return model

    def serve(self, model: ServedModel) -> None:
        self.served.append(model)
        self.serving.set()


@pytest.fixture
def make(dot_package: Path) -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def make(known: ResolvedVersion | None = KNOWN, patience_s: float = LONG) -> Stage:
        stages.append(Stage(dot_package, known, patience_s))
        stages[-1].head_start.begin()
        return stages[-1]

    yield make
    for stage in stages:
        for model in stage.opened:
            model.detector.close()


def test_the_version_that_mlflow_names_is_handed_over_once(make: Callable[..., Stage]) -> None:
    stage = make()
    assert stage.head_start.take(OTHER) is None
    model = stage.head_start.take(KNOWN)
    assert model is not None
    assert model.resolved == KNOWN
    assert stage.head_start.take(KNOWN) is None
    stage.head_start.drop()
    assert stage.served == []


def test_when_mlflow_hangs_it_is_served(make: Callable[..., Stage]) -> None:
    stage = make(patience_s=0.01)
    stage.head_start.asked()
    assert stage.serving.wait(60)
    assert [model.resolved for model in stage.served] == [KNOWN]
    assert stage.head_start.take(KNOWN) is None


def test_before_mlflow_was_asked_nothing_is_served(make: Callable[..., Stage]) -> None:
    stage = make(patience_s=0.0)
    assert not stage.serving.wait(0.3)
    stage.head_start.drop()


def test_after_an_answer_nothing_is_served_unasked(make: Callable[..., Stage]) -> None:
    stage = make()
    stage.head_start.asked()
    stage.head_start.answered()
    stage.head_start.drop()
    assert stage.served == []


def test_without_a_known_version_there_is_nothing(make: Callable[..., Stage]) -> None:
    stage = make(known=None)
    assert stage.head_start.take(KNOWN) is None
    stage.head_start.drop()
    assert HeadStart(lambda: None, stage.load, stage.serve, LONG).take(KNOWN) is None
