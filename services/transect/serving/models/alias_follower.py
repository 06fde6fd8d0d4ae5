"""The alias follower: polls MLflow, loads a new version beside the old one, and swaps them."""

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Literal, TypeVar

import numpy as np

from transect.engine import DetectOptions, Detector, ModelRef
from transect.errors import NotRegisteredError, PackageError, RegistryError, TransectError
from transect.registry import ResolvedVersion
from transect.serving.metrics import Metrics
from transect.serving.models.slot import ModelSlot, ServedModel
from transect.serving.models.source import ModelSource

T = TypeVar("T")

_log = logging.getLogger(__name__)

# Longest retry delay. A package that fails verification is rarely repaired; an unavailable store comes back.
_LONGEST_WAIT_S = {"refused": 900.0, "failed": 60.0}
_REJECTED_KEPT = 20
# Each attempt at a rejected version downloads and hashes all of it, so that forced attempts are limited too.
_FORCED_EVERY_S = 10.0
# How long the start waits for MLflow before it serves the last known version.
_PATIENCE_S = 1.5


@dataclass(frozen=True, kw_only=True)
class RejectedVersion:
    """A version that could not be served: the reason, the number of attempts, and the time of the next one."""

    version: str
    run_id: str
    reason: str
    attempts: int
    last_attempt: datetime
    retry_after_s: float
    retry_at: float  # monotonic clock


@dataclass(frozen=True)
class FollowerStatus:
    """The follower's state; `last_error` is None after a successful poll."""

    last_poll: datetime | None = None
    last_success: datetime | None = None
    last_error: str | None = None
    rejected: tuple[RejectedVersion, ...] = ()


def retry_delay_s(attempts: int, poll_seconds: float, longest_s: float) -> float:
    """Return the seconds until the next attempt at a version that failed `attempts` times: doubling to `longest_s`."""
    return min(poll_seconds * 2.0 ** min(attempts, 30), max(longest_s, poll_seconds))


class AliasFollower:
    """A thread that keeps the alias's version in `slot`.

    If a version cannot be served, the old one stays in service. The failed version is tried again with growing delays.
    `refresh` tries it at once, but at most every ten seconds.

    At the start the last known version is loaded while MLflow is queried, so that a start takes the longer of the two
    times. It is served if MLflow names it, is unavailable, or has not answered within `patience_s`.
    """

    def __init__(
        self,
        source: ModelSource,
        slot: ModelSlot,
        metrics: Metrics,
        open_package: Callable[[Path, ModelRef], Detector],
        poll_seconds: float,
        *,
        patience_s: float = _PATIENCE_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._source = source
        self._slot = slot
        self._metrics = metrics
        self._open_package = open_package
        self._poll_seconds = poll_seconds
        self._patience_s = patience_s
        self._clock = clock
        self._state = FollowerStatus()
        self._last_success_at = clock()
        self._forced_at = -math.inf
        self._rejected: dict[tuple[str, str, str], RejectedVersion] = {}
        # The last known version from `start` until it is served, or until the first poll has ended.
        self._preload: Future[ServedModel | None] | None = None
        self._condition = threading.Condition()
        self._refreshes_requested = 0
        self._refreshes_done = 0
        self._poll_requested = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="alias-follower", daemon=True)

    @property
    def state(self) -> FollowerStatus:
        """The latest state, as one consistent value."""
        return self._state

    def seconds_since_success(self) -> float:
        """Return the seconds since the alias was last resolved; since the start, until it first is."""
        return self._clock() - self._last_success_at

    def start(self) -> None:
        """Start following the alias."""
        self._preload = _in_daemon_thread(self._load_last_known, "cached-model-preload")
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop following; wait up to `timeout_s` for a poll in progress."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def refresh(self, timeout_s: float) -> bool:
        """Poll now and retry a rejected version (see the class). Return whether that finished within `timeout_s`."""
        with self._condition:
            self._refreshes_requested += 1
            number = self._refreshes_requested
            self._condition.notify_all()
            return self._condition.wait_for(lambda: self._refreshes_done >= number or self._stopping, timeout_s)

    def poll_soon(self) -> None:
        """Trigger a regular poll and return at once; rejected versions are not retried early."""
        with self._condition:
            self._poll_requested = True
            self._condition.notify_all()

    def _run(self) -> None:
        try:
            self._source.prepare()
        except Exception:  # noqa: BLE001 - the first poll reports the cause
            _log.exception("Loading the client of MLflow failed")
        while True:
            with self._condition:
                requested, forced = self._refreshes_requested, self._refreshes_requested > self._refreshes_done
                self._poll_requested = False
            try:
                self._poll(forced=forced)
            except Exception as error:  # noqa: BLE001 - the thread must survive any failure of one poll
                _log.exception("Following the alias failed")
                self._poll_failed(f"Following the alias failed: {error!r}.")
            self._close_preload()
            with self._condition:
                self._refreshes_done = requested
                self._condition.notify_all()
                self._condition.wait_for(self._should_poll, self._poll_seconds)
                if self._stopping:
                    return

    def _should_poll(self) -> bool:
        return self._stopping or self._poll_requested or self._refreshes_requested > self._refreshes_done

    def _poll(self, *, forced: bool) -> None:
        """Resolve the alias once, and load its version if another one is served."""
        try:
            target = self._resolve()
        except RegistryError as error:
            self._poll_failed(str(error))
            # If the alias does not exist in MLflow, the cached version must not be started.
            if not isinstance(error, NotRegisteredError):
                self._start_from_cache(forced=forced)
            return
        self._poll_succeeded()
        if not self._is_serving(target):
            self._try_version(target, lambda: self._source.fetch(target), forced=forced, from_cache=False)
            self._start_from_cache(forced=forced)

    def _resolve(self) -> ResolvedVersion:
        """Resolve the alias; at the start, serve the last known version until MLflow answers."""
        preload = self._preload
        if preload is None:
            return self._source.resolve()
        answer = _in_daemon_thread(self._source.resolve, "first-resolve")
        if not wait((answer,), self._patience_s).done:
            both: tuple[Future[Any], ...] = (answer, preload)
            wait(both, return_when=FIRST_COMPLETED)
            if not answer.done():
                self._serve_preload(preload.result())
        return answer.result()

    def _serve_preload(self, model: ServedModel | None) -> None:
        if model is not None:
            self._preload = None
            self._poll_failed(
                f"MLflow has not answered for {self._patience_s:g} s; the last known version is served until it does."
            )
            self._serve(model)

    def _take_preload(self, target: ResolvedVersion) -> ServedModel | None:
        """Wait for the preloaded model, and hand it to the caller if its version is `target`."""
        model = self._preload.result() if self._preload is not None else None
        if model is None or version_key(model.resolved) != version_key(target):
            return None
        self._preload = None
        return model

    def _close_preload(self) -> None:
        model = self._preload.result() if self._preload is not None else None
        self._preload = None
        if model is not None:
            model.detector.close()

    def _start_from_cache(self, *, forced: bool) -> None:
        """If no model is served, load the last known version."""
        known = self._source.last_known() if self._slot.current is None else None
        if known is not None:
            resolved, package = known
            self._try_version(resolved, lambda: package, forced=forced, from_cache=True)

    def _try_version(
        self, target: ResolvedVersion, fetch: Callable[[], Path], *, forced: bool, from_cache: bool
    ) -> None:
        rejected = self._rejected.get(version_key(target))
        start = self._clock()
        if rejected and start < rejected.retry_at and not (forced and start >= self._forced_at + _FORCED_EVERY_S):
            return
        if rejected and forced:
            self._forced_at = start
        try:
            model = self._take_preload(target) or self._load(target, fetch(), from_cache=from_cache)
        except PackageError as error:
            self._reject(target, str(error), "refused")
        except TransectError as error:
            self._reject(target, str(error), "failed")
        except Exception as error:  # noqa: BLE001 - a damaged model may raise anything; the old one stays in service
            _log.exception("Loading a model failed", extra={"version": target.version})
            self._reject(target, f"Loading it failed: {error!r}.", "refused")
        else:
            # A preloaded model is marked as from the cache, but MLflow may have confirmed it since.
            self._serve(replace(model, from_cache=from_cache))
            self._metrics.swap_seconds.observe(self._clock() - start)

    def _is_serving(self, target: ResolvedVersion) -> bool:
        current = self._slot.current
        return current is not None and version_key(current.resolved) == version_key(target)

    def _load_last_known(self) -> ServedModel | None:
        try:
            known = self._source.last_known()
            return None if known is None else self._load(*known, from_cache=True)
        except Exception as error:  # noqa: BLE001 - the first poll loads it again and reports the cause
            _log.info("The last known version could not be preloaded", extra={"reason": str(error)})
            return None

    def _load(self, target: ResolvedVersion, package: Path, *, from_cache: bool) -> ServedModel:
        detector = self._open_package(package, target.ref)
        try:
            _warm_up(detector)
        except BaseException:
            detector.close()
            raise
        return ServedModel(detector, target, datetime.now(UTC), from_cache)

    def _serve(self, model: ServedModel) -> None:
        previous = self._slot.current
        self._slot.swap(model)
        model.export_to(self._metrics)
        self._metrics.swaps.labels("swapped").inc()
        self._rejected.pop(version_key(model.resolved), None)
        self._publish()
        self._source.remember(model.resolved)
        _log.info(
            "Serving a new version",
            extra={
                "model": model.resolved.name,
                "version": model.resolved.version,
                "run_id": model.resolved.run_id,
                "before": previous.resolved.version if previous else None,
                "from_cache": model.from_cache,
            },
        )

    def _reject(self, target: ResolvedVersion, reason: str, outcome: Literal["refused", "failed"]) -> None:
        previous = self._rejected.pop(version_key(target), None)
        attempts = previous.attempts + 1 if previous else 1
        delay = retry_delay_s(attempts, self._poll_seconds, _LONGEST_WAIT_S[outcome])
        self._rejected[version_key(target)] = RejectedVersion(
            version=target.version,
            run_id=target.run_id,
            reason=reason,
            attempts=attempts,
            last_attempt=datetime.now(UTC),
            retry_after_s=delay,
            retry_at=self._clock() + delay,
        )
        while len(self._rejected) > _REJECTED_KEPT:
            del self._rejected[next(iter(self._rejected))]
        self._metrics.swaps.labels(outcome).inc()
        self._publish()
        _log.error(
            "A version cannot be served; the previous one stays in service",
            extra={"version": target.version, "reason": reason, "attempts": attempts, "retry_after_s": delay},
        )

    def _poll_failed(self, reason: str) -> None:
        self._metrics.polls.labels("error").inc()
        if self._state.last_error != reason:
            _log.warning("The alias cannot be resolved", extra={"reason": reason})
        self._state = FollowerStatus(datetime.now(UTC), self._state.last_success, reason, self._state.rejected)

    def _poll_succeeded(self) -> None:
        self._last_success_at = self._clock()
        self._metrics.polls.labels("ok").inc()
        if self._state.last_error is not None:
            _log.info("The alias can be resolved again")
        now = datetime.now(UTC)
        self._state = FollowerStatus(now, now, None, self._state.rejected)

    def _publish(self) -> None:
        self._state = replace(self._state, rejected=tuple(self._rejected.values()))


def version_key(resolved: ResolvedVersion) -> tuple[str, str, str]:
    """Return the unique key of a version: after a model is deleted and registered again, numbers restart at 1."""
    return resolved.version, resolved.run_id, resolved.package_sha256


def _in_daemon_thread(work: Callable[[], T], name: str) -> "Future[T]":
    """Start `work` in a thread that, unlike an executor's, lets the process end while MLflow hangs."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - passed to the caller through the future
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def _warm_up(detector: Detector) -> None:
    """Run enough tiles that every infer request has worked once before the first client waits."""
    size = detector.manifest.image_size
    row = np.full((size, 2 * detector.parallel * size, 3), 114, np.uint8)
    detector.detect(row, options=DetectOptions(tile="auto", overlap=0))
