import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from package_fixtures import write_package
from transect.engine import MODEL_FILE, Detector, ModelRef
from transect.errors import NotRegisteredError, PackageError, RegistryError
from transect.registry import ResolvedVersion
from transect.serving.metrics import Metrics
from transect.serving.models.alias_follower import AliasFollower, retry_delay_s
from transect.serving.models.slot import ModelSlot

LONG = 3600.0


class InMemoryModelSource:
    """A model source in memory: packages by version, an alias, and a store that can be unavailable."""

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
        return ResolvedVersion(
            name="detector",
            version=self.alias,
            run_id=f"run-{self.alias}",
            source="runs:/x/model",
            package_sha256=self.alias * 64,
        )

    def fetch(self, resolved: ResolvedVersion) -> Path:
        return self.packages[resolved.version]

    def last_known(self) -> tuple[ResolvedVersion, Path] | None:
        known = self.remembered
        return None if known is None else (known, self.packages[known.version])

    def remember(self, resolved: ResolvedVersion) -> None:
        self.remembered = resolved


def open_package(package: Path, ref: ModelRef) -> Detector:
    return Detector.open(package, ref=ref, backend="onnxruntime")


class FollowerHarness:
    """A follower that polls only on request, with its source, slot and metrics."""

    def __init__(self, source: InMemoryModelSource) -> None:
        self.source = source
        self.slot = ModelSlot()
        self.metrics = Metrics()
        self.follower = AliasFollower(source, self.slot, self.metrics, open_package, LONG)

    def poll(self) -> None:
        """Poll as the timer does, without retrying rejected versions early."""
        self.follower._poll(forced=False)

    def refresh(self) -> None:
        self.follower._poll(forced=True)

    def version(self) -> str | None:
        return self.slot.current.resolved.version if self.slot.current else None

    def count(self, metric: str, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(metric, {"outcome": outcome})


@pytest.fixture
def broken_package(dot_package: Path, tmp_path: Path) -> Path:
    """A package with correct hashes and an invalid model file."""
    folder = tmp_path / "broken"
    shutil.copytree(dot_package, folder)
    (folder / MODEL_FILE).write_bytes(b"\x08\x08")
    return write_package(folder)


@pytest.fixture
def make_harness(dot_package: Path, broken_package: Path) -> Iterator[Callable[[], FollowerHarness]]:
    source = InMemoryModelSource()
    source.packages = {"1": dot_package, "2": dot_package, "3": broken_package}
    harnesses: list[FollowerHarness] = []

    def make() -> FollowerHarness:
        harnesses.append(FollowerHarness(source))
        return harnesses[-1]

    yield make
    for harness in harnesses:
        harness.slot.swap(None)


@pytest.fixture
def harness(make_harness: Callable[[], FollowerHarness]) -> FollowerHarness:
    return make_harness()


def test_it_serves_what_the_alias_names_and_moves_with_it(harness: FollowerHarness) -> None:
    harness.source.alias = "1"
    harness.poll()
    assert harness.version() == "1"
    before = harness.slot.current
    harness.poll()
    assert harness.slot.current is before
    harness.source.alias = "2"
    harness.poll()
    assert harness.version() == "2"
    assert harness.source.remembered is not None
    assert harness.source.remembered.version == "2"
    assert harness.count("transect_model_swaps_total", "swapped") == 2
    info = {"name": "detector", "version": "2", "run_id": "run-2", "backend": "onnxruntime", "precision": "fp32"}
    assert harness.metrics.registry.get_sample_value("transect_model_info", info) == 1


def test_a_broken_version_changes_nothing_and_is_not_tried_at_every_poll(harness: FollowerHarness) -> None:
    harness.source.alias = "1"
    harness.poll()
    harness.source.alias = "3"
    for _ in range(3):
        harness.poll()
    assert harness.version() == "1"
    [rejected] = harness.follower.state.rejected
    assert (rejected.version, rejected.attempts) == ("3", 1)
    assert MODEL_FILE in rejected.reason
    assert harness.count("transect_model_swaps_total", "refused") == 1
    assert harness.source.remembered is not None
    assert harness.source.remembered.version == "1"
    harness.refresh()
    assert harness.follower.state.rejected[0].attempts == 2


def test_repeated_refreshes_are_limited_to_one_attempt_in_ten_seconds(
    harness: FollowerHarness, dot_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.source.alias = "3"
    for _ in range(6):
        harness.refresh()
    # The first poll, and one forced attempt.
    assert harness.follower.state.rejected[0].attempts == 2
    later = time.monotonic() + 11
    monkeypatch.setattr("transect.serving.models.alias_follower.monotonic", lambda: later)
    harness.source.packages["3"] = dot_package
    harness.refresh()
    assert harness.version() == "3"


def test_a_repaired_version_is_served_and_no_longer_listed_as_rejected(
    harness: FollowerHarness, dot_package: Path
) -> None:
    harness.source.alias = "3"
    harness.poll()
    assert harness.version() is None
    harness.source.packages["3"] = dot_package
    harness.refresh()
    assert harness.version() == "3"
    assert harness.follower.state.rejected == ()


def test_while_the_store_is_unavailable_the_model_stays_in_service(harness: FollowerHarness) -> None:
    harness.source.alias = "1"
    harness.poll()
    harness.source.away = True
    harness.poll()
    assert harness.version() == "1"
    away = harness.follower.state
    assert away.last_error == "MLflow cannot be reached."
    harness.source.away = False
    harness.poll()
    back = harness.follower.state
    assert back.last_error is None
    assert harness.count("transect_alias_polls_total", "error") == 1


def test_a_deleted_alias_leaves_the_model_where_it_is(harness: FollowerHarness) -> None:
    harness.source.alias = "1"
    harness.poll()
    harness.source.alias = None
    harness.poll()
    assert harness.version() == "1"
    assert "promote one" in (harness.follower.state.last_error or "")


def test_it_starts_from_the_cache_when_the_store_is_away(make_harness: Callable[[], FollowerHarness]) -> None:
    first = make_harness()
    first.source.alias = "2"
    first.poll()
    second = make_harness()
    second.source.away = True
    second.poll()
    assert second.version() == "2"
    assert second.slot.current is not None
    assert second.slot.current.from_cache


def test_it_starts_from_the_cache_when_the_alias_names_a_broken_version(
    make_harness: Callable[[], FollowerHarness],
) -> None:
    first = make_harness()
    first.source.alias = "2"
    first.poll()
    second = make_harness()
    second.source.alias = "3"
    second.poll()
    assert second.version() == "2"
    assert [version.version for version in second.follower.state.rejected] == ["3"]


def test_it_does_not_start_from_the_cache_when_there_is_no_alias(make_harness: Callable[[], FollowerHarness]) -> None:
    first = make_harness()
    first.source.alias = "2"
    first.poll()
    second = make_harness()
    second.source.alias = None
    second.poll()
    assert second.version() is None


def test_while_mlflow_hangs_it_starts_with_what_was_served_last(
    make_harness: Callable[[], FollowerHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transect.serving.models.alias_follower._PATIENCE_S", 0.05)
    first = make_harness()
    first.source.alias = "2"
    first.poll()
    second, response = make_harness(), threading.Event()
    resolved = second.source.resolve()

    def hang() -> ResolvedVersion:
        assert response.wait(60)
        return resolved

    monkeypatch.setattr(second.source, "resolve", hang)
    second.follower.start()
    while second.version() is None:
        time.sleep(0.01)
    assert second.slot.current is not None
    assert second.slot.current.from_cache
    assert "has not answered" in (second.follower.state.last_error or "")
    served = second.slot.current
    response.set()
    assert second.follower.refresh(30)
    assert second.follower.state.last_error is None
    assert second.slot.current is served
    second.follower.stop(30)


def test_a_start_takes_the_version_that_was_opened_meanwhile_and_no_other(
    make_harness: Callable[[], FollowerHarness],
) -> None:
    first = make_harness()
    first.source.alias = "2"
    first.poll()
    for alias, version in (("2", "2"), ("1", "1"), (None, None)):
        harness = make_harness()
        harness.source.alias = alias
        harness.follower.start()
        assert harness.follower.refresh(30)
        assert harness.version() == version
        assert harness.slot.current is None or not harness.slot.current.from_cache
        harness.follower.stop(30)


def test_poll_soon_polls_without_retrying_rejected_versions(harness: FollowerHarness) -> None:
    harness.source.alias = "3"
    harness.follower.start()
    assert harness.follower.refresh(30)
    [before] = harness.follower.state.rejected
    harness.source.alias = "1"
    harness.follower.poll_soon()
    while harness.version() != "1":
        time.sleep(0.01)
    assert harness.follower.state.rejected == (before,)
    harness.follower.stop(30)


def test_version_numbers_that_start_anew_are_new_versions(
    harness: FollowerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.source.alias = "1"
    harness.poll()
    anew = ResolvedVersion(
        name="detector", version="1", run_id="another-run", source="runs:/y/model", package_sha256="1" * 64
    )
    monkeypatch.setattr(harness.source, "resolve", lambda: anew)
    harness.poll()
    assert harness.slot.current is not None
    assert harness.slot.current.resolved.run_id == "another-run"


def test_the_thread_survives_any_exception_and_completes_a_refresh(
    harness: FollowerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode() -> ResolvedVersion:
        raise ZeroDivisionError("by surprise")

    with monkeypatch.context() as patched:
        patched.setattr(harness.source, "resolve", explode)
        harness.follower.start()
        assert harness.follower.refresh(30)
        assert "by surprise" in (harness.follower.state.last_error or "")
    harness.source.alias = "1"
    assert harness.follower.refresh(30)
    assert harness.version() == "1"
    harness.follower.stop(30)
    assert not harness.follower._thread.is_alive()


def test_a_store_that_fails_to_deliver_is_counted_apart(
    harness: FollowerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception) -> Callable[[ResolvedVersion], Path]:
        def fetch(_: ResolvedVersion) -> Path:
            raise error

        return fetch

    harness.source.alias = "1"
    monkeypatch.setattr(harness.source, "fetch", fail(RegistryError("The artifact store is away.")))
    harness.poll()
    monkeypatch.setattr(harness.source, "fetch", fail(PackageError("A file is not what it should be.")))
    harness.refresh()
    assert harness.count("transect_model_swaps_total", "failed") == 1
    assert harness.count("transect_model_swaps_total", "refused") == 1
    assert harness.follower.state.rejected[0].reason == "A file is not what it should be."


def test_pauses_double_up_to_a_limit() -> None:
    delays = [retry_delay_s(attempts, 5.0, 60.0) for attempts in range(1, 7)]
    assert delays == [10, 20, 40, 60, 60, 60]
    assert retry_delay_s(10_000, 5.0, 900.0) == 900
    assert retry_delay_s(1, 100.0, 60.0) == 100
