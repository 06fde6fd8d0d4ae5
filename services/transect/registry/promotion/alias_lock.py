"""A distributed lock on a model's aliases, held by one promotion or rollback at a time.

MLflow has no compare-and-swap for aliases, so two concurrent moves could both believe that they won.
Each process therefore first writes a lock tag of its own on the registered model, and then reads all
lock tags. The store serializes writes: of two processes, at least the later one sees the tag of the
earlier one. A process that sees another tag removes its own, waits and retries, so two never proceed.
(The doorway of Lamport 1974, "A New Solution of Dijkstra's Concurrent Programming Problem".)

A killed process leaves its tag. Another process removes the tag after it has seen it unchanged for longer
than a live holder may work; clocks of different machines are never compared.
"""

import json
import logging
import os
import platform
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from transect.errors import NotRegisteredError, PromotionRefusedError, RegistryError
from transect.registry.client.connection import mlflow_errors_as
from transect.registry.client.names import TAG_ALIAS_LOCK
from transect.registry.client.queries import none_if_missing

_log = logging.getLogger(__name__)

# A holder makes a handful of calls to MLflow, and starts no move after LEASE_S. A move that it started may arrive
# after all retries of one call (see connection: three of 60 s); only then may another process take over.
LEASE_S = 30.0
STALE_S = 240.0
WAIT_S = 600.0


@dataclass
class AliasLock:
    """The lock, held for the duration of the `with` block."""

    client: MlflowClient
    name: str
    key: str = field(default_factory=lambda: TAG_ALIAS_LOCK + uuid.uuid4().hex)
    begun: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Raise RegistryError if the lock may be lost; call it just before each request that needs the lock."""
        if self.key not in _lock_holders(self.client, self.name) or time.monotonic() - self.begun > LEASE_S:
            raise RegistryError(
                f"MLflow took longer than {LEASE_S:.0f} s, so that another process may move the aliases of {self.name} "
                "now; check transect models list and run the same command again."
            )


@contextmanager
def hold_alias_lock(client: MlflowClient, uri: str, name: str, *, actor: str) -> Iterator[AliasLock]:
    """Hold the lock on the aliases of model `name` for the duration of a `with` block.

    Waits for another holder. Raises NotRegisteredError if the model was deleted, PromotionRefusedError
    if others hold the lock for minutes, RegistryError if MLflow fails.
    """
    with mlflow_errors_as(uri, f"locking the aliases of {name}"):
        lock = _acquire(client, name, actor)
    try:
        yield lock
    finally:
        _release(lock)


def _acquire(client: MlflowClient, name: str, actor: str) -> AliasLock:
    first_seen: dict[str, float] = {}
    start, logged = time.monotonic(), False
    while True:
        others = _live(_lock_holders(client, name), first_seen)
        if not others:
            lock = AliasLock(client, name)
            try:
                others = _write_tag(lock, actor, first_seen)
            except BaseException:
                # The tag may exist even if the response was lost.
                _release(lock)
                raise
            if not others:
                return lock
            _release(lock)
        holders = "; ".join(others.values())
        if time.monotonic() - start > WAIT_S:
            raise PromotionRefusedError(
                f"The aliases of {name} are being moved by another promotion or rollback ({holders}); "
                "run the same command again."
            )
        if not logged and time.monotonic() - start > 1:
            _log.warning("Another promotion or rollback of %s is in progress (%s); waiting for it.", name, holders)
            logged = True
        # Jitter, so that two processes that backed off together do not retry together.
        time.sleep(random.uniform(0.05, 0.4))  # noqa: S311 - no secret


def _write_tag(lock: AliasLock, actor: str, first_seen: dict[str, float]) -> dict[str, str]:
    """Write the lock tag; returns the other live tags. If there are none, removes stale tags."""
    client, name = lock.client, lock.name
    client.set_registered_model_tag(name, lock.key, json.dumps({"by": actor, "host": host_name()}))
    seen = _lock_holders(client, name)
    seen.pop(lock.key, None)
    others = _live(seen, first_seen)
    for key in () if others else seen:
        _log.warning("The lock %s on %s was left by a process that was killed; it is removed.", key, name)
        client.delete_registered_model_tag(name, key)
    return others


def host_name() -> str:
    """The name of this machine; a container's own is its id, so Compose passes the host's in HOST_NAME."""
    return os.environ.get("HOST_NAME") or platform.node()


def _live(tags: dict[str, str], first_seen: dict[str, float]) -> dict[str, str]:
    """The lock tags first seen less than STALE_S ago; records when each was first seen."""
    now = time.monotonic()
    return {key: holder for key, holder in tags.items() if now - first_seen.setdefault(key, now) < STALE_S}


def _lock_holders(client: MlflowClient, name: str) -> dict[str, str]:
    """All lock tags of the model with their holders."""
    model = none_if_missing(client, name, lambda: client.get_registered_model(name))
    if model is None:
        raise NotRegisteredError(
            f"The registered model {name} was deleted from MLflow meanwhile, so no alias was moved; "
            "train and register again (make train)."
        )
    return {key: value for key, value in model.tags.items() if key.startswith(TAG_ALIAS_LOCK)}


def _release(lock: AliasLock) -> None:
    try:
        lock.client.delete_registered_model_tag(lock.name, lock.key)
    except MlflowException as error:
        # The model and its tags may be deleted; otherwise the next process waits STALE_S.
        _log.debug("The lock %s on %s could not be released: %s", lock.key, lock.name, error)
