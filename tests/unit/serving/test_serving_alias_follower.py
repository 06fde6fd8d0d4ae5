import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from packages import write_package
from transect.engine import MODEL_FILE, Detector, ModelRef
from transect.errors import NotRegisteredError, PackageError, RegistryError
from transect.registry import ResolvedVersion
from transect.serving.metrics import Metrics
from transect.serving.models.alias_follower import AliasFollower, retry_delay_s
from transect.serving.models.slot import ModelSlot

LONG = 3600.0


class Shelf:
    """A source of models in memory: packages by version, an alias, and a store that can be away."""

    def __init__(self) -> None:
        self.packages: dict[str, Path] = {}
        self.alias: str | None = None
        self.away = False
        self.remembered: ResolvedVersion | None = None

    def prepare(self) -> None:
        pass

    def resolve(self) -> ResolvedVersion:
        if self.away:
            raise RegistryError("MLflow cannot be reached.")
        if self.alias is None:
            raise NotRegisteredError("No version has the alias; promote one.")
        return ResolvedVersion("detector", self.alias, f"run-{self.alias}", "runs:/x/model", self.alias * 64)

    def fetch(self, resolved: ResolvedVersion) -> Path:
        return self.packages[resolved.version]

    def last_known(self) -> tuple[ResolvedVersion, Path] | None:
        known = self.remembered
        return None if known is None else (known, self.packages[known.version])

    def remember(self, resolved: ResolvedVersion) -> None:
        self.remembered = resolved


def open_package(package: Path, ref: ModelRef) -> Detector:
    return Detector.open(package, ref=ref, backend="onnxruntime")


class Stage:
    """A follower that polls only when it is told to, with all it works on."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.slot = ModelSlot()
        self.metrics = Metrics()
        self.follower = AliasFollower(shelf, self.slot, self.metrics, open_package, LONG)

    def poll(self) -> None:
        """One poll, as the clock would make it: versions that were refused are left alone."""
        self.follower._check(forced=False)

    def refresh(self) -> None:
        self.follower._check(forced=True)

    def version(self) -> str | None:
        return self.slot.current.resolved.version if self.slot.current else None

    def count(self, metric: str, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(metric, {"outcome": outcome})


@pytest.fixture
def broken_package(dot_package: Path, tmp_path: Path) -> Path:
    """A package whose hashes hold and whose model is no model."""
    folder = tmp_path / "broken"
    shutil.copytree(dot_package, folder)
    (folder / MODEL_FILE).write_bytes(b"\x08\x08")
    return write_package(folder)


@pytest.fixture
def make_stage(dot_package: Path, broken_package: Path) -> Iterator[Callable[[], Stage]]:
    shelf = Shelf()
    shelf.packages = {"1": dot_package, "2": dot_package, "3": broken_package}
    stages: list[Stage] = []

    def make() -> Stage:
        stages.append(Stage(shelf))
        return stages[-1]

    yield make
    for stage in stages:
        stage.slot.swap(None)


@pytest.fixture
def stage(make_stage: Callable[[], Stage]) -> Stage:
    return make_stage()


def test_it_serves_what_the_alias_names_and_moves_with_it(stage: Stage) -> None:
    stage.shelf.alias = "1"
    stage.poll()
    assert stage.version() == "1"
    before = stage.slot.current
    stage.poll()
    assert stage.slot.current is before
    stage.shelf.alias = "2"
    stage.poll()
    assert stage.version() == "2"
    assert stage.shelf.remembered is not None
    assert stage.shelf.remembered.version == "2"
    assert stage.count("transect_model_swaps_total", "swapped") == 2
    info = {"name": "detector", "version": "2", "run_id": "run-2", "backend": "onnxruntime", "precision": "fp32"}
    assert stage.metrics.registry.get_sample_value("transect_model_info", info) == 1


def test_a_broken_version_changes_nothing_and_is_not_tried_at_every_poll(stage: Stage) -> None:
    stage.shelf.alias = "1"
    stage.poll()
    stage.shelf.alias = "3"
    for _ in range(3):
        stage.poll()
    assert stage.version() == "1"
    [refusal] = stage.follower.state.refused
    assert (refusal.version, refusal.attempts) == ("3", 1)
    assert MODEL_FILE in refusal.reason
    assert stage.count("transect_model_swaps_total", "refused") == 1
    assert stage.shelf.remembered is not None
    assert stage.shelf.remembered.version == "1"
    stage.refresh()
    assert stage.follower.state.refused[0].attempts == 2


def test_whoever_asks_again_and_again_is_not_obeyed_each_time(
    stage: Stage, dot_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shelf.alias = "3"
    for _ in range(6):
        stage.refresh()
    # The first look, and one because somebody asked.
    assert stage.follower.state.refused[0].attempts == 2
    later = time.monotonic() + 11
    monkeypatch.setattr("transect.serving.models.alias_follower.monotonic", lambda: later)
    stage.shelf.packages["3"] = dot_package
    stage.refresh()
    assert stage.version() == "3"


def test_a_version_that_was_mended_is_served_and_forgiven(stage: Stage, dot_package: Path) -> None:
    stage.shelf.alias = "3"
    stage.poll()
    assert stage.version() is None
    stage.shelf.packages["3"] = dot_package
    stage.refresh()
    assert stage.version() == "3"
    assert stage.follower.state.refused == ()


def test_while_the_store_is_away_it_serves_on_and_says_so(stage: Stage) -> None:
    stage.shelf.alias = "1"
    stage.poll()
    stage.shelf.away = True
    stage.poll()
    assert stage.version() == "1"
    away = stage.follower.state
    assert away.last_error == "MLflow cannot be reached."
    stage.shelf.away = False
    stage.poll()
    back = stage.follower.state
    assert back.last_error is None
    assert stage.count("transect_alias_polls_total", "error") == 1


def test_a_deleted_alias_leaves_the_model_where_it_is(stage: Stage) -> None:
    stage.shelf.alias = "1"
    stage.poll()
    stage.shelf.alias = None
    stage.poll()
    assert stage.version() == "1"
    assert "promote one" in (stage.follower.state.last_error or "")


def test_it_starts_from_the_cache_when_the_store_is_away(make_stage: Callable[[], Stage]) -> None:
    first = make_stage()
    first.shelf.alias = "2"
    first.poll()
    second = make_stage()
    second.shelf.away = True
    second.poll()
    assert second.version() == "2"
    assert second.slot.current is not None
    assert second.slot.current.from_cache


def test_it_starts_from_the_cache_when_the_alias_names_a_broken_version(make_stage: Callable[[], Stage]) -> None:
    first = make_stage()
    first.shelf.alias = "2"
    first.poll()
    second = make_stage()
    second.shelf.alias = "3"
    second.poll()
    assert second.version() == "2"
    assert [refusal.version for refusal in second.follower.state.refused] == ["3"]


def test_it_does_not_start_from_the_cache_when_there_is_no_alias(make_stage: Callable[[], Stage]) -> None:
    first = make_stage()
    first.shelf.alias = "2"
    first.poll()
    second = make_stage()
    second.shelf.alias = None
    second.poll()
    assert second.version() is None


def test_while_mlflow_hangs_it_starts_with_what_was_served_last(
    make_stage: Callable[[], Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transect.serving.models.alias_follower._PATIENCE_S", 0.05)
    first = make_stage()
    first.shelf.alias = "2"
    first.poll()
    second, silence = make_stage(), threading.Event()
    answer = second.shelf.resolve()

    def hang() -> ResolvedVersion:
        assert silence.wait(60)
        return answer

    monkeypatch.setattr(second.shelf, "resolve", hang)
    second.follower.start()
    while second.version() is None:
        time.sleep(0.01)
    assert second.slot.current is not None
    assert second.slot.current.from_cache
    assert "has not answered" in (second.follower.state.last_error or "")
    served = second.slot.current
    silence.set()
    assert second.follower.refresh(30)
    assert second.follower.state.last_error is None
    assert second.slot.current is served
    second.follower.stop(30)


def test_a_start_takes_the_version_that_was_opened_meanwhile_and_no_other(make_stage: Callable[[], Stage]) -> None:
    first = make_stage()
    first.shelf.alias = "2"
    first.poll()
    for alias, version in (("2", "2"), ("1", "1"), (None, None)):
        stage = make_stage()
        stage.shelf.alias = alias
        stage.follower.start()
        assert stage.follower.refresh(30)
        assert stage.version() == version
        assert stage.slot.current is None or not stage.slot.current.from_cache
        stage.follower.stop(30)


def test_a_nudge_makes_it_look_and_leaves_refused_versions_alone(stage: Stage) -> None:
    stage.shelf.alias = "3"
    stage.follower.start()
    assert stage.follower.refresh(30)
    [before] = stage.follower.state.refused
    stage.shelf.alias = "1"
    stage.follower.nudge()
    while stage.version() != "1":
        time.sleep(0.01)
    assert stage.follower.state.refused == (before,)
    stage.follower.stop(30)


def test_version_numbers_that_start_anew_are_new_versions(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.shelf.alias = "1"
    stage.poll()
    anew = ResolvedVersion("detector", "1", "another-run", "runs:/y/model", "1" * 64)
    monkeypatch.setattr(stage.shelf, "resolve", lambda: anew)
    stage.poll()
    assert stage.slot.current is not None
    assert stage.slot.current.resolved.run_id == "another-run"


def test_the_thread_lives_through_anything_and_answers_a_refresh(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode() -> ResolvedVersion:
        raise ZeroDivisionError("by surprise")

    with monkeypatch.context() as patched:
        patched.setattr(stage.shelf, "resolve", explode)
        stage.follower.start()
        assert stage.follower.refresh(30)
        assert "by surprise" in (stage.follower.state.last_error or "")
    stage.shelf.alias = "1"
    assert stage.follower.refresh(30)
    assert stage.version() == "1"
    stage.follower.stop(30)
    assert not stage.follower._thread.is_alive()


def test_a_store_that_fails_to_deliver_is_counted_apart(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> Callable[[ResolvedVersion], Path]:
        def fetch(_: ResolvedVersion) -> Path:
            raise error

        return fetch

    stage.shelf.alias = "1"
    monkeypatch.setattr(stage.shelf, "fetch", fail(RegistryError("The artifact store is away.")))
    stage.poll()
    monkeypatch.setattr(stage.shelf, "fetch", fail(PackageError("A file is not what it should be.")))
    stage.refresh()
    assert stage.count("transect_model_swaps_total", "failed") == 1
    assert stage.count("transect_model_swaps_total", "refused") == 1
    assert stage.follower.state.refused[0].reason == "A file is not what it should be."


def test_pauses_double_up_to_a_limit() -> None:
    delays = [retry_delay_s(attempts, 5.0, 60.0) for attempts in range(1, 7)]
    assert delays == [10, 20, 40, 60, 60, 60]
    assert retry_delay_s(10_000, 5.0, 900.0) == 900
    assert retry_delay_s(1, 100.0, 60.0) == 100
