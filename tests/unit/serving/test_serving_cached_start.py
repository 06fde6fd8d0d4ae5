"""The start from the last known version while MLflow is queried."""

import time
from collections.abc import Callable

import pytest

from follower_harness import FollowerHarness
from serving_app import dots, wait_for
from transect.engine import Detector
from transect.errors import PackageError


@pytest.fixture
def make(make_harness: Callable[..., FollowerHarness]) -> Callable[..., FollowerHarness]:
    """Make followers whose last known version is 2."""
    first = make_harness()
    first.source.alias = "2"
    first.poll()
    return make_harness


def is_closed(detector: Detector) -> bool:
    try:
        detector.detect(dots())
    except PackageError:
        return True
    return False


def finish(harness: FollowerHarness) -> None:
    """Wait for the first poll, and stop the follower."""
    assert harness.follower.refresh(30)
    harness.follower.stop(30)
    assert not harness.follower._thread.is_alive()


def test_while_mlflow_hangs_it_starts_with_what_was_served_last(make: Callable[..., FollowerHarness]) -> None:
    harness = make(patience_s=0.05)
    harness.source.answers.clear()
    harness.follower.start()
    wait_for(harness.version)
    served = harness.slot.current
    assert served is not None
    assert served.from_cache
    assert "has not answered for 0.05 s" in (harness.follower.state.last_error or "")
    harness.source.answers.set()
    finish(harness)
    assert harness.follower.state.last_error is None
    assert harness.slot.current is served
    assert len(harness.opened) == 1


def test_after_it_has_hung_a_newer_version_is_served_as_soon_as_mlflow_answers(
    make: Callable[..., FollowerHarness],
) -> None:
    harness = make(patience_s=0.05)
    harness.source.answers.clear()
    harness.source.alias = "1"
    harness.follower.start()
    wait_for(harness.version)
    assert harness.version() == "2"
    harness.source.answers.set()
    wait_for(lambda: harness.version() == "1")
    assert harness.slot.current is not None
    assert not harness.slot.current.from_cache
    finish(harness)


@pytest.mark.parametrize(("alias", "opened"), [("2", 1), ("1", 2), (None, 1)])
def test_a_start_takes_the_version_that_was_opened_meanwhile_and_no_other(
    make: Callable[..., FollowerHarness], alias: str | None, opened: int
) -> None:
    harness = make()
    harness.source.alias = alias
    harness.follower.start()
    finish(harness)
    assert harness.version() == alias
    current = harness.slot.current
    assert current is None or not current.from_cache
    assert len(harness.opened) == opened
    unused = [detector for detector in harness.opened if current is None or detector is not current.detector]
    assert all(is_closed(detector) for detector in unused)


def test_when_mlflow_is_away_it_opens_the_last_known_version_once(make: Callable[..., FollowerHarness]) -> None:
    harness = make()
    harness.source.away = True
    harness.follower.start()
    finish(harness)
    assert harness.slot.current is not None
    assert harness.slot.current.from_cache
    assert harness.follower.state.last_error == "MLflow cannot be reached."
    assert len(harness.opened) == 1


def test_before_mlflow_is_queried_nothing_is_served(make: Callable[..., FollowerHarness]) -> None:
    harness = make(patience_s=0.0)
    harness.source.imports.clear()
    harness.follower.start()
    wait_for(lambda: harness.opened)
    time.sleep(0.2)
    assert harness.version() is None
    harness.source.imports.set()
    finish(harness)
    assert harness.version() == "2"


def test_an_answer_that_arrives_while_the_model_is_opened_decides(make: Callable[..., FollowerHarness]) -> None:
    harness = make(patience_s=0.0)
    harness.source.alias = None
    harness.opens.clear()
    harness.follower.start()
    wait_for(lambda: harness.follower.state.last_error)
    assert "promote one" in (harness.follower.state.last_error or "")
    harness.opens.set()
    finish(harness)
    assert harness.version() is None
    assert [is_closed(detector) for detector in harness.opened] == [True]


def test_without_a_known_version_it_waits_for_mlflow(make_harness: Callable[..., FollowerHarness]) -> None:
    harness = make_harness(patience_s=0.01)
    harness.source.answers.clear()
    harness.source.alias = "1"
    harness.follower.start()
    time.sleep(0.1)
    assert harness.version() is None
    harness.source.answers.set()
    finish(harness)
    assert harness.version() == "1"


def test_it_stops_in_time_while_mlflow_hangs(make: Callable[..., FollowerHarness]) -> None:
    harness = make(patience_s=0.01)
    harness.source.answers.clear()
    harness.follower.start()
    wait_for(harness.version)
    start = time.monotonic()
    harness.follower.stop(0.1)
    assert time.monotonic() < start + 5
    harness.source.answers.set()
    harness.follower._thread.join(30)
