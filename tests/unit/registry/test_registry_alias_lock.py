import json
import platform
import re
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from transect.errors import NotRegisteredError, PromotionRefusedError, RegistryError
from transect.registry import Registry
from transect.registry.promotion import alias_lock
from transect.registry.promotion.alias_lock import hold_alias_lock


@pytest.fixture
def model(registry: Registry) -> str:
    registry.client.create_registered_model("detector")
    return "detector"


def _tags(registry: Registry) -> dict[str, str]:
    tags: dict[str, str] = registry.client.get_registered_model("detector").tags
    return tags


class Clock:
    """The time that the lock waits by: it passes only while somebody sleeps. `meanwhile` is called after each sleep."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.meanwhile: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(alias_lock, "time", made)
    return made


def test_a_lock_is_a_tag_that_is_removed_again(registry: Registry, model: str) -> None:
    with hold_alias_lock(registry.client, registry.uri, model, actor="ada") as held:
        held.check()
        assert list(_tags(registry)) == [held.key]
        assert json.loads(_tags(registry)[held.key]) == {"by": "ada", "host": platform.node()}
    assert _tags(registry) == {}


def test_a_container_is_known_by_the_host_that_it_runs_on(
    registry: Registry, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_NAME", "savanna")
    with hold_alias_lock(registry.client, registry.uri, model, actor="ada") as held:
        assert json.loads(_tags(registry)[held.key])["host"] == "savanna"


def test_a_lock_is_released_when_its_holder_fails(registry: Registry, model: str) -> None:
    with pytest.raises(ZeroDivisionError), hold_alias_lock(registry.client, registry.uri, model, actor="ada"):
        raise ZeroDivisionError
    assert _tags(registry) == {}


def test_one_holder_at_a_time(registry: Registry, model: str) -> None:
    inside: list[tuple[float, float]] = []

    def hold() -> None:
        with hold_alias_lock(registry.client, registry.uri, model, actor="ada"):
            start = time.monotonic()
            time.sleep(0.05)
            inside.append((start, time.monotonic()))

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inside) == 4
    assert all(before[1] < after[0] for before, after in pairwise(sorted(inside)))
    assert _tags(registry) == {}


def test_a_lock_left_by_a_killed_process_is_taken_over(
    registry: Registry,
    model: str,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(alias_lock, "STALE_S", 1.5)
    registry.client.set_registered_model_tag(model, "transect.claim.dead", '{"by": "bob"}')
    with hold_alias_lock(registry.client, registry.uri, model, actor="ada") as held:
        assert list(_tags(registry)) == [held.key]
    waited, removed = [record.getMessage() for record in caplog.records]
    assert waited == ('Another promotion or rollback of detector is in progress ({"by": "bob"}); waiting for it.')
    assert removed == ("The lock transect.claim.dead on detector was left by a process that was killed; it is removed.")
    assert clock.now >= 1001.5


@pytest.mark.usefixtures("clock")
def test_living_holders_make_others_give_up_in_the_end(
    registry: Registry, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alias_lock, "WAIT_S", 1.0)
    for name in ("alive", "too"):
        registry.client.set_registered_model_tag(model, f"transect.claim.{name}", name)
    said = (
        "The aliases of detector are being moved by another promotion or rollback (alive; too); "
        "run the same command again."
    )
    with (
        pytest.raises(PromotionRefusedError, match=f"^{re.escape(said)}$"),
        hold_alias_lock(registry.client, registry.uri, model, actor="ada"),
    ):
        pass
    assert sorted(_tags(registry)) == ["transect.claim.alive", "transect.claim.too"]


def test_a_wait_of_more_than_a_second_is_said_once(
    registry: Registry, model: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    registry.client.set_registered_model_tag(model, "transect.claim.alive", "bob")
    said: list[float] = []

    def meanwhile() -> None:
        if caplog.records and not said:
            said.append(clock.now)
        if clock.now > 1003:
            registry.client.delete_registered_model_tag(model, "transect.claim.alive")
            clock.meanwhile = lambda: None

    clock.meanwhile = meanwhile
    with hold_alias_lock(registry.client, registry.uri, model, actor="ada"):
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "Another promotion or rollback of detector is in progress (bob); waiting for it."
    ]
    assert 1001 < said[0] < 1002


def test_each_holder_has_its_own_time(
    registry: Registry, model: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Locks that follow upon one another for longer than one holder may work are none that a killed process left."""
    client, begun = registry.client, clock.now
    client.set_registered_model_tag(model, "transect.claim.0", "bob")

    def next_holder() -> None:
        # A minute and a half each.
        clock.now += 89
        held = [key for key in _tags(registry) if key.startswith("transect.claim.")]
        client.delete_registered_model_tag(model, held[0])
        if clock.now < begun + 4 * 89:
            client.set_registered_model_tag(model, f"transect.claim.{clock.now:.0f}", "bob")
        else:
            clock.meanwhile = lambda: None

    clock.meanwhile = next_holder
    with hold_alias_lock(client, registry.uri, model, actor="ada") as held:
        assert list(_tags(registry)) == [held.key]
        assert clock.now >= begun + 4 * 89 > begun + alias_lock.STALE_S
    assert "it is removed" not in caplog.text


def test_a_holder_that_was_too_slow_may_write_no_more(
    registry: Registry, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold_alias_lock(registry.client, registry.uri, model, actor="ada") as held:
        monkeypatch.setattr(alias_lock, "LEASE_S", 0.0)
        with pytest.raises(RegistryError, match="another process may move the aliases of detector"):
            held.check()
        monkeypatch.undo()
        held.check()
        registry.client.delete_registered_model_tag(model, held.key)
        said = (
            "MLflow took longer than 30 s, so that another process may move the aliases of detector "
            "now; check transect models list and run the same command again."
        )
        with pytest.raises(RegistryError, match=f"^{re.escape(said)}$"):
            held.check()


def test_a_lock_that_is_gone_at_once_is_missed_by_its_holder(
    registry: Registry, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.client, "set_registered_model_tag", lambda *_: None)
    with (
        hold_alias_lock(registry.client, registry.uri, model, actor="ada") as held,
        pytest.raises(RegistryError, match="another process may move the aliases"),
    ):
        held.check()


def test_a_lock_whose_response_was_lost_is_released(
    registry: Registry, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = registry.client.set_registered_model_tag

    def write_and_fail(name: str, key: str, value: str) -> None:
        write(name, key, value)
        raise MlflowException("the answer was lost")

    monkeypatch.setattr(registry.client, "set_registered_model_tag", write_and_fail)
    with (
        pytest.raises(RegistryError, match="the answer was lost"),
        hold_alias_lock(registry.client, registry.uri, model, actor="ada"),
    ):
        pass
    assert _tags(registry) == {}


def test_no_lock_is_taken_over_while_a_move_may_be_under_way() -> None:
    # Every try of one call, as `connection` has it for MLflow's client, and the waits between them.
    longest_call = 3 * 60 + 1 + 2
    assert alias_lock.LEASE_S + longest_call < alias_lock.STALE_S
    assert alias_lock.WAIT_S > alias_lock.STALE_S


def test_a_lock_that_cannot_be_released_is_told_to_who_looks_for_it(
    registry: Registry, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level("DEBUG", logger=alias_lock.__name__),
        hold_alias_lock(registry.client, registry.uri, model, actor="ada") as held,
    ):
        registry.client.delete_registered_model(model)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"The lock {held.key} on detector could not be released: Registered Model")


_DELETED = (
    "The registered model detector was deleted from MLflow meanwhile, so no alias was moved; "
    "train and register again (make train)."
)


def test_a_deleted_model_is_one_sentence(registry: Registry) -> None:
    with (
        pytest.raises(NotRegisteredError, match=f"^{re.escape(_DELETED)}$"),
        hold_alias_lock(registry.client, registry.uri, "detector", actor="ada"),
    ):
        pass


def test_a_server_with_accounts_denies_a_deleted_model(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(_name: str) -> None:
        raise MlflowException("Permission denied", error_code=PERMISSION_DENIED)

    monkeypatch.setattr(registry.client, "get_registered_model", deny)
    lock = hold_alias_lock(registry.client, registry.uri, "detector", actor="ada")
    with pytest.raises(NotRegisteredError, match=f"^{re.escape(_DELETED)}$"), lock:
        pass
    # One that exists is denied in earnest.
    registry.client.create_registered_model("detector")
    lock = hold_alias_lock(registry.client, registry.uri, "detector", actor="ada")
    with pytest.raises(RegistryError, match="Permission denied"), lock:
        pass


def test_a_lock_tag_is_not_listed_as_a_model_tag(registry: Registry, model: str) -> None:
    registry.client.set_registered_model_tag(model, "owner", "ada")
    with hold_alias_lock(registry.client, registry.uri, model, actor="ada") as held:
        held.check()
    assert _tags(registry) == {"owner": "ada"}
