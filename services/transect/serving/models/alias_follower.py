"""Follows the alias: asks where it points, brings a new version up beside the old one, switches."""

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Literal

import numpy as np

from transect.engine import DetectOptions, Detector, ModelRef
from transect.errors import NotRegisteredError, PackageError, RegistryError, TransectError
from transect.registry import ResolvedVersion
from transect.serving.metrics import Metrics
from transect.serving.models.cached_start import HeadStart, identity
from transect.serving.models.slot import ModelSlot, ServedModel
from transect.serving.models.source import ModelSource

_log = logging.getLogger(__name__)

# A package that does not hold seldom heals; a store that is away comes back.
_LONGEST_WAIT_S = {"refused": 900.0, "failed": 60.0}
_REFUSALS_KEPT = 20
# Each try of a refused version is a download and a hash of every byte, whoever asks for it.
_FORCED_EVERY_S = 10.0
# How long a start waits for MLflow's answer before it serves what was served last.
_PATIENCE_S = 1.5


@dataclass(frozen=True)
class Refusal:
    """A version that could not be served: why, how often it was tried, and when it is tried again."""

    version: str
    run_id: str
    reason: str
    attempts: int
    last_attempt: datetime
    retry_after_s: float
    retry_at: float  # monotonic clock


@dataclass(frozen=True)
class Following:
    """How the following goes: `last_error` is None once a poll has succeeded again."""

    last_poll: datetime | None = None
    last_success: datetime | None = None
    last_error: str | None = None
    refused: tuple[Refusal, ...] = ()


def retry_delay_s(attempts: int, poll_seconds: float, longest_s: float) -> float:
    """Seconds until a version that failed `attempts` times is tried again: doubling up to `longest_s`."""
    return min(poll_seconds * 2.0 ** min(attempts, 30), max(longest_s, poll_seconds))


class AliasFollower:
    """A thread that keeps `slot` on the version that the alias names.

    A version that cannot be served changes nothing: the old one serves on, and the failed one is
    tried again with growing pauses, or when `refresh` asks for it, ten seconds after another `refresh` did at the
    earliest.
    """

    def __init__(
        self,
        source: ModelSource,
        slot: ModelSlot,
        metrics: Metrics,
        open_package: Callable[[Path, ModelRef], Detector],
        poll_seconds: float,
    ) -> None:
        self._source = source
        self._slot = slot
        self._metrics = metrics
        self._open_package = open_package
        self._poll_seconds = poll_seconds
        self._state = Following()
        self._heard = monotonic()
        self._forced_at = -math.inf
        self._refusals: dict[tuple[str, str, str], Refusal] = {}
        self._head_start = HeadStart(source.last_known, self._load_known, self._serve_known, _PATIENCE_S)
        self._turn = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._nudged = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="alias-follower", daemon=True)

    @property
    def state(self) -> Following:
        """The newest state, as one consistent value."""
        return self._state

    def seconds_since_success(self) -> float:
        """Seconds since MLflow last said where the alias points; since the start, before it first did."""
        return monotonic() - self._heard

    def start(self) -> None:
        """Begin to follow."""
        self._head_start.begin()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop following; waits up to `timeout_s` for a question that is under way."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def refresh(self, timeout_s: float) -> bool:
        """Ask now, also for a version that was refused (see the class); True when that is done within `timeout_s`."""
        with self._turn:
            self._asked += 1
            mine = self._asked
            self._turn.notify_all()
            return self._turn.wait_for(lambda: self._answered >= mine or self._stopping, timeout_s)

    def nudge(self) -> None:
        """Ask soon, as the clock would have: returns at once, and leaves refused versions alone."""
        with self._turn:
            self._nudged = True
            self._turn.notify_all()

    def _run(self) -> None:
        try:
            self._source.prepare()
        except Exception:  # noqa: BLE001 - the first question says what is wrong
            _log.exception("Loading the client of MLflow failed")
        self._head_start.asked()
        while True:
            with self._turn:
                asked, forced = self._asked, self._asked > self._answered
                self._nudged = False
            try:
                self._check(forced=forced)
            except Exception as error:  # noqa: BLE001 - whatever one check meets, the next one must still come
                _log.exception("Following the alias failed")
                self._poll_failed(f"Following the alias failed: {error!r}.")
            self._head_start.drop()
            with self._turn:
                self._answered = asked
                self._turn.notify_all()
                self._turn.wait_for(self._is_wanted, self._poll_seconds)
                if self._stopping:
                    return

    def _is_wanted(self) -> bool:
        return self._stopping or self._nudged or self._asked > self._answered

    def _check(self, *, forced: bool) -> None:
        """One poll: where does the alias point, and is that what is served?"""
        try:
            target = self._source.resolve()
        except RegistryError as error:
            self._head_start.answered()
            self._poll_failed(str(error))
            # Where MLflow says that there is no such alias, an old version must not start.
            if not isinstance(error, NotRegisteredError):
                self._start_from_cache(forced=forced)
            return
        self._head_start.answered()
        self._poll_succeeded()
        if not self._serves(target):
            self._try(target, lambda: self._source.fetch(target), forced=forced, from_cache=False)
            self._start_from_cache(forced=forced)

    def _start_from_cache(self, *, forced: bool) -> None:
        """While nothing is served: start with the last version that was."""
        known = self._source.last_known() if self._slot.current is None else None
        if known is not None:
            resolved, package = known
            self._try(resolved, lambda: package, forced=forced, from_cache=True)

    def _try(self, target: ResolvedVersion, bring: Callable[[], Path], *, forced: bool, from_cache: bool) -> None:
        refusal = self._refusals.get(identity(target))
        start = monotonic()
        if refusal and start < refusal.retry_at and not (forced and start >= self._forced_at + _FORCED_EVERY_S):
            return
        if refusal and forced:
            self._forced_at = start
        try:
            model = self._head_start.take(target) or self._load(target, bring(), from_cache=from_cache)
        except PackageError as error:
            self._refuse(target, str(error), "refused")
        except TransectError as error:
            self._refuse(target, str(error), "failed")
        except Exception as error:  # noqa: BLE001 - a damaged model may raise anything; the old one serves on
            _log.exception("Loading a model failed", extra={"version": target.version})
            self._refuse(target, f"Loading it failed: {error!r}.", "refused")
        else:
            # What was opened ahead is marked as from the cache; MLflow may have named it since.
            self._serve(replace(model, from_cache=from_cache))
            self._metrics.swap_seconds.observe(monotonic() - start)

    def _serves(self, target: ResolvedVersion) -> bool:
        current = self._slot.current
        return current is not None and identity(current.resolved) == identity(target)

    def _load_known(self, resolved: ResolvedVersion, package: Path) -> ServedModel:
        return self._load(resolved, package, from_cache=True)

    def _serve_known(self, model: ServedModel) -> None:
        """MLflow does not answer: start with what was served last, while the question is still open."""
        reason = f"MLflow has not answered for {_PATIENCE_S:g} s; the last known version is served until it does."
        self._poll_failed(reason)
        self._serve(model)

    def _load(self, target: ResolvedVersion, package: Path, *, from_cache: bool) -> ServedModel:
        detector = self._open_package(package, target.ref)
        try:
            _warm(detector)
        except BaseException:
            detector.close()
            raise
        return ServedModel(detector, target, datetime.now(UTC), from_cache)

    def _serve(self, model: ServedModel) -> None:
        before = self._slot.current
        self._slot.swap(model)
        model.show_in(self._metrics)
        self._metrics.swaps.labels("swapped").inc()
        self._refusals.pop(identity(model.resolved), None)
        self._publish()
        self._source.remember(model.resolved)
        _log.info(
            "Serving a new version",
            extra={
                "model": model.resolved.name,
                "version": model.resolved.version,
                "run_id": model.resolved.run_id,
                "before": before.resolved.version if before else None,
                "from_cache": model.from_cache,
            },
        )

    def _refuse(self, target: ResolvedVersion, reason: str, outcome: Literal["refused", "failed"]) -> None:
        known = self._refusals.pop(identity(target), None)
        attempts = known.attempts + 1 if known else 1
        delay = retry_delay_s(attempts, self._poll_seconds, _LONGEST_WAIT_S[outcome])
        self._refusals[identity(target)] = Refusal(
            target.version, target.run_id, reason, attempts, datetime.now(UTC), delay, monotonic() + delay
        )
        while len(self._refusals) > _REFUSALS_KEPT:
            del self._refusals[next(iter(self._refusals))]
        self._metrics.swaps.labels(outcome).inc()
        self._publish()
        _log.error(
            "A version is not served; the one before stays",
            extra={"version": target.version, "reason": reason, "attempts": attempts, "retry_after_s": delay},
        )

    def _poll_failed(self, reason: str) -> None:
        self._metrics.polls.labels("error").inc()
        if self._state.last_error != reason:
            _log.warning("Cannot see where the alias points", extra={"reason": reason})
        self._state = Following(datetime.now(UTC), self._state.last_success, reason, self._state.refused)

    def _poll_succeeded(self) -> None:
        self._heard = monotonic()
        self._metrics.polls.labels("ok").inc()
        if self._state.last_error is not None:
            _log.info("The alias can be seen again")
        now = datetime.now(UTC)
        self._state = Following(now, now, None, self._state.refused)

    def _publish(self) -> None:
        state = self._state
        refused = tuple(self._refusals.values())
        self._state = Following(state.last_poll, state.last_success, state.last_error, refused)


def _warm(detector: Detector) -> None:
    """Run enough tiles that every infer request has done work before the first client waits."""
    size = detector.manifest.image_size
    row = np.full((size, 2 * detector.parallel * size, 3), 114, np.uint8)
    detector.detect(row, options=DetectOptions(tile="auto", overlap=0))
