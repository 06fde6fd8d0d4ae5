"""Leases: who of several machines does a piece of work, by conditional writes to a store.

A lease is a file that its holder renews. One that is not renewed for a while belongs to whoever watched it that long:
the clocks of two machines are never compared.
"""

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from transect.errors import InputError, StoreError
from transect.stores.store import Store

logger = logging.getLogger(__name__)

_RENEWED_S, _STALE_S, _WATCHED_S = 10.0, 45.0, 1.0


class LeaseHeldError(InputError):
    """Another process does this work."""


@contextmanager
def lease(store: Store, name: str, what: str) -> Iterator[None]:
    """Hold the lease `name` of a store for the length of a `with` block; `what` is the work, in messages.

    Waits until a lease that nobody renews is stale. Raises LeaseHeldError where somebody renews it, and what a Store
    raises.
    """
    holder = _Holder(store, name, what)
    holder.take()
    try:
        yield
    finally:
        holder.give_back()


class _Holder:
    def __init__(self, store: Store, name: str, what: str) -> None:
        self._store, self._name, self._what = store, name, what
        self._me = {"id": secrets.token_hex(8), "host": socket.gethostname(), "process": os.getpid()}
        self._renewals = 0
        self._tag = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name=f"lease {name}")

    def take(self) -> None:
        """Take the lease, from a dead holder if need be."""
        if not self._store.create(self._name, self._content()):
            self._take_over()
        self._tag = self._store.stat(self._name).tag
        self._thread.start()

    def give_back(self) -> None:
        """Remove the lease, unless it has become another's."""
        self._done.set()
        self._thread.join()
        with suppress(OSError, StoreError, ValueError):
            content, _ = self._store.read(self._name)
            if json.loads(content).get("id") == self._me["id"]:
                self._store.remove(self._name)

    def _take_over(self) -> None:
        since, seen = time.monotonic(), ""
        while True:
            try:
                content, found = self._store.read(self._name)
            except FileNotFoundError:
                if self._store.create(self._name, self._content()):
                    return
                continue
            if seen and found.tag != seen:
                raise LeaseHeldError(
                    f"{self._what} is done by {_named(content)} now; wait until that has ended. What it finds is kept "
                    f"in {self._store.address}."
                )
            if not seen:
                seen = found.tag
                logger.warning(
                    "%s was begun by %s; waiting %.0f s to see whether it still runs.",
                    *(self._what, _named(content), _STALE_S),
                )
            dead = _is_dead(content, str(self._me["host"]))
            if (dead or time.monotonic() - since > _STALE_S) and self._store.replace(
                self._name, self._content(), found.tag
            ):
                return
            time.sleep(_WATCHED_S)

    def _renew(self) -> None:
        while not self._done.wait(_RENEWED_S):
            try:
                if not self._store.replace(self._name, self._content(), self._tag):
                    logger.warning("%s is done by another process too; both find the same.", self._what)
                    return
                self._tag = self._store.stat(self._name).tag
            except (OSError, StoreError) as error:
                logger.warning("The lease of %s cannot be renewed: %s", self._what, error)

    def _content(self) -> bytes:
        self._renewals += 1
        return json.dumps(self._me | {"renewed": self._renewals}).encode()


def _named(content: bytes) -> str:
    try:
        known = json.loads(content)
        return f"process {known['process']} on {known['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def _is_dead(content: bytes, host: str) -> bool:
    """Whether the holder ran on this machine and runs no more."""
    try:
        known = json.loads(content)
        if known["host"] != host:
            return False
        os.kill(int(known["process"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return False
