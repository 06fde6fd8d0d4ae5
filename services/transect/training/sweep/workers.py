"""Who trains a trial: the identity of a worker, and how others learn that it is dead.

A worker that takes a trial writes its `Owner` into the trial, with a heartbeat that it renews. Another worker takes
the trial over only when its owner is certainly gone:

- on one machine, the owner's lock file is free: the system releases it even after kill -9, and holds it while the
  process lives, however slow it is;
- for the coordinator, its predecessor is gone, since there is one coordinator at a time (the lock on the sweep's run);
- elsewhere, the heartbeat did not change while this worker watched it for as long as `stale_s`. Clocks of machines are
  never compared, and time in which the store could not be asked does not count: a store that is away stops the
  heartbeats of living workers too.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from transect.errors import InputError
from transect.files import locked_if_free
from transect.registry.promotion.alias_lock import host_name
from transect.training.sweep.storage import STORE_ERRORS

logger = logging.getLogger(__name__)

# Heartbeats and looks in the time after which a trial is stale: five may get lost.
BEATS_TO_STALE = 6
_LOCKS = "workers"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The worker that trains a trial, as the trial's attribute has it.

    `worker` is random, `machine` names the running kernel, `lock` is the worker's lock file, `beat` counts the
    heartbeats, and `at` is the time of the last one by the owner's clock, for people.
    """

    worker: str
    host: str
    pid: int
    machine: str
    lock: str
    coordinator: bool
    beat: int = 0
    at: str = ""

    @classmethod
    def read(cls, value: Any) -> "Owner | None":
        """The owner in an attribute; None where there is none, as when its worker gave the trial back."""
        return cls(**value) if isinstance(value, Mapping) else None

    def beaten(self) -> "Owner":
        """The owner after one more heartbeat."""
        return replace(self, beat=self.beat + 1, at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")

    def as_value(self) -> dict[str, Any]:
        """The value of the attribute."""
        return asdict(self)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Worker:
    """This process, as it takes trials. `stale_s` is how long an unchanged heartbeat is watched."""

    def __init__(self, owner: Owner, stale_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.owner = owner
        self.watch = Watch(stale_s, clock)

    def is_mine(self, owner: Owner | None) -> bool:
        """Whether `owner` is this worker."""
        return owner is not None and owner.worker == self.owner.worker

    def is_gone(self, number: int, owner: Owner | None) -> bool:
        """Whether the owner of trial `number` trains it no more; to be asked again and again while nothing else is due.

        A trial without an owner was given back, or its worker was killed before it wrote its name.
        """
        if owner is None:
            return True
        if self.is_mine(owner):
            return False
        if self.owner.coordinator and owner.coordinator:
            return True
        if owner.machine == self.owner.machine and (lock := Path(owner.lock)).is_file():
            with locked_if_free(lock) as free:
                return free
        return self.watch.is_stale(number, f"{owner.worker} {owner.beat}")


class Watch:
    """Watches the heartbeats of other workers by this worker's own clock."""

    def __init__(self, stale_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.stale_s = stale_s
        self._clock = clock
        self._seen: dict[int, tuple[str, float, float]] = {}

    @property
    def interval_s(self) -> float:
        """The seconds between two heartbeats, and between two looks at those of others."""
        return self.stale_s / BEATS_TO_STALE

    def is_stale(self, number: int, mark: str) -> bool:
        """Whether the `mark` of a trial stayed the same for `stale_s`, in which it was looked at all the time."""
        now = self._clock()
        before, first, last = self._seen.get(number, ("", now, now))
        if before != mark or now - last > 2 * self.interval_s:
            first = now
        self._seen[number] = (mark, first, now)
        return now - first >= self.stale_s


@contextmanager
def at_work(folder: Path, stale_s: float, *, coordinator: bool) -> Iterator[Worker]:
    """Be a worker of the sweep in `folder`, under a lock file of its own. Raises InputError when it cannot be made."""
    name = uuid.uuid4().hex
    lock = (folder / _LOCKS / f"{name}.lock").absolute()
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise InputError(f"{lock} cannot be made: {error.strerror}; set TRANSECT_HOME.") from error
    owner = Owner(
        worker=name,
        host=host_name(),
        pid=os.getpid(),
        machine=machine(),
        lock=str(lock),
        coordinator=coordinator,
    )
    with locked_if_free(lock):
        try:
            yield Worker(owner, stale_s)
        finally:
            lock.unlink(missing_ok=True)


def machine() -> str:
    """A name of the running kernel, which holds the locks of its processes; the host's name where it has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return host_name()


class Heartbeat:
    """Renews the heartbeat of a trial from a thread while the `with` block runs.

    `renew` writes the next heartbeat, and returns False when the trial has another owner by now. `lost` is whether it
    did so; a store that does not answer is asked again with the next heartbeat.
    """

    def __init__(self, renew: Callable[[], bool], interval_s: float) -> None:
        self._renew = renew
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    @property
    def lost(self) -> bool:
        """Whether another worker took the trial over."""
        return self._lost.is_set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # A store that hangs must not hold up the training; what it still writes is refused if it came too late.
        self._thread.join(self._interval_s)

    def _beat(self) -> None:
        while not self._ended.wait(self._interval_s):
            try:
                mine = self._renew()
            except STORE_ERRORS as error:
                logger.debug("The heartbeat was not written: %s", error)
                continue
            if not mine:
                self._lost.set()
                return


def owners_text(owners: Mapping[int, Owner | None]) -> str:
    """Trials and who trains them, as a phrase: trial 3 (process 17 on lion), trial 4 (nobody)."""
    return ", ".join(f"trial {number} ({owner or 'nobody'})" for number, owner in sorted(owners.items()))
