import time
from collections.abc import Callable
from pathlib import Path

import pytest

from follower_harness import FollowerHarness
from transect.engine import MODEL_FILE
from transect.errors import PackageError, RegistryError
from transect.registry import ResolvedVersion
from transect.serving.models.alias_follower import retry_delay_s


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
    harness: FollowerHarness, dot_package: Path
) -> None:
    harness.source.alias = "3"
    for _ in range(6):
        harness.refresh()
    # The first poll, and one forced attempt.
    assert harness.follower.state.rejected[0].attempts == 2
    harness.later_s = 11
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


def test_it_starts_from_the_cache_when_the_store_is_away(make_harness: Callable[..., FollowerHarness]) -> None:
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
    make_harness: Callable[..., FollowerHarness],
) -> None:
    first = make_harness()
    first.source.alias = "2"
    first.poll()
    second = make_harness()
    second.source.alias = "3"
    second.poll()
    assert second.version() == "2"
    assert [version.version for version in second.follower.state.rejected] == ["3"]


def test_it_does_not_start_from_the_cache_when_there_is_no_alias(make_harness: Callable[..., FollowerHarness]) -> None:
    first = make_harness()
    first.source.alias = "2"
    first.poll()
    second = make_harness()
    second.source.alias = None
    second.poll()
    assert second.version() is None


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
