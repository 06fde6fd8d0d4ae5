"""The right to move a model's aliases, which one promotion or rollback at a time has, on any machine.

MLflow moves an alias without asking what it was, so two that move at once could both believe to have
won. Each therefore first writes a claim, a tag of its own on the registered model, and then reads all
of them. The store takes one write after the other: of two claims at least the later one's reader sees
the earlier one. Who sees another claim withdraws, waits and tries again; so never do two go on.
(The doorway of Lamport 1974, "A New Solution of Dijkstra's Concurrent Programming Problem".)

A holder that was killed leaves its claim. It is removed by who has seen it unchanged for longer than a
living holder may work; no clock of one machine is compared with that of another.
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
from transect.registry.client.connection import translated
from transect.registry.client.names import TAG_CLAIM
from transect.registry.client.queries import or_none

_log = logging.getLogger(__name__)

# A holder makes a handful of calls to MLflow, and begins no move after LEASE_S. A move that it began may arrive
# after all tries of one call (see connection: three of 60 s), and only then may another process take over.
LEASE_S = 30.0
STALE_S = 240.0
WAIT_S = 600.0


@dataclass
class Claim:
    """The right, while the `with` block lasts."""

    client: MlflowClient
    name: str
    key: str = field(default_factory=lambda: TAG_CLAIM + uuid.uuid4().hex)
    begun: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Raise RegistryError when the right may be gone; to be asked just before each call that needs it."""
        if self.key not in _claims(self.client, self.name) or time.monotonic() - self.begun > LEASE_S:
            raise RegistryError(
                f"MLflow took longer than {LEASE_S:.0f} s, so that another process may move the aliases of {self.name} "
                "now; look at transect models list and run the same command again."
            )


@contextmanager
def claimed(client: MlflowClient, uri: str, name: str, *, actor: str) -> Iterator[Claim]:
    """Hold the right to move the aliases of model `name` for the length of a `with` block.

    Waits for another holder. Raises NotRegisteredError when the model is gone, PromotionRefusedError
    when others hold on for minutes, RegistryError when MLflow fails.
    """
    with translated(uri, f"claiming the aliases of {name}"):
        claim = _acquire(client, name, actor)
    try:
        yield claim
    finally:
        _withdraw(claim)


def _acquire(client: MlflowClient, name: str, actor: str) -> Claim:
    first_seen: dict[str, float] = {}
    start, told = time.monotonic(), False
    while True:
        others = _living(_claims(client, name), first_seen)
        if not others:
            claim = Claim(client, name)
            try:
                others = _put(claim, actor, first_seen)
            except BaseException:
                # Also one whose answer was lost may stand there.
                _withdraw(claim)
                raise
            if not others:
                return claim
            _withdraw(claim)
        who = "; ".join(others.values())
        if time.monotonic() - start > WAIT_S:
            raise PromotionRefusedError(
                f"The aliases of {name} are being moved by another promotion or rollback ({who}); "
                "run the same command again."
            )
        if not told and time.monotonic() - start > 1:
            _log.warning("Another promotion or rollback of %s is at work (%s); waiting for it.", name, who)
            told = True
        # Who withdrew at the same moment must not come back at the same moment.
        time.sleep(random.uniform(0.05, 0.4))  # noqa: S311 - no secret


def _put(claim: Claim, actor: str, first_seen: dict[str, float]) -> dict[str, str]:
    """Write the claim; gives the living ones beside it, and removes dead ones where there are none."""
    client, name = claim.client, claim.name
    client.set_registered_model_tag(name, claim.key, json.dumps({"by": actor, "host": host_name()}))
    seen = _claims(client, name)
    seen.pop(claim.key, None)
    others = _living(seen, first_seen)
    for key in () if others else seen:
        _log.warning("The claim %s on %s was left by a process that was killed; it is removed.", key, name)
        client.delete_registered_model_tag(name, key)
    return others


def host_name() -> str:
    """The name of this machine; the name that a container has itself is its id, and Compose gives it the host's."""
    return os.environ.get("HOST_NAME") or platform.node()


def _living(claims: dict[str, str], first_seen: dict[str, float]) -> dict[str, str]:
    """The claims that were first seen less than STALE_S ago; notes when each was."""
    now = time.monotonic()
    return {key: who for key, who in claims.items() if now - first_seen.setdefault(key, now) < STALE_S}


def _claims(client: MlflowClient, name: str) -> dict[str, str]:
    """Every claim on the model: its tag and who wrote it."""
    model = or_none(client, name, lambda: client.get_registered_model(name))
    if model is None:
        raise NotRegisteredError(
            f"The registered model {name} is gone from MLflow: it was deleted meanwhile, so no alias was moved; "
            "train and register again (make train)."
        )
    return {key: value for key, value in model.tags.items() if key.startswith(TAG_CLAIM)}


def _withdraw(claim: Claim) -> None:
    try:
        claim.client.delete_registered_model_tag(claim.name, claim.key)
    except MlflowException as error:
        # With the model its tags went; else others wait STALE_S for it.
        _log.debug("The claim %s on %s could not be withdrawn: %s", claim.key, claim.name, error)
