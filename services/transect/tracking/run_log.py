"""One MLflow run, logged through a spool on disk: a slow, dead or absent server never stops a training."""

import logging
import math
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlflow.utils.validation import (
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)

from transect.errors import InputError, RegistryError, UnreachableError
from transect.redaction import values_without_secrets, without_secrets
from transect.registry import Registry
from transect.registry.client.metric_names import distinct_metric_names, metric_name
from transect.settings import Settings
from transect.tracking.delivery import Delivery
from transect.tracking.run_history import RunHistory, param_drift
from transect.tracking.spool import Spool

logger = logging.getLogger(__name__)

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

TAG_DRIFT = "param_drift"
# A diff is cleaned where it is made, hunk by hunk.
_TEXTS = frozenset({".csv", ".html", ".json", ".log", ".md", ".txt", ".yaml", ".yml"})
TAG_NOT_FINITE = "transect.not_finite"
_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 30.0
# While a caller waits in `drain`, retry often: MLflow may be back within seconds.
_LONGEST_DELAY_AT_END_S = 3.0


@dataclass(frozen=True)
class Undelivered:
    """The entries that MLflow lacks when a run's log is closed.

    `left` stay in the spool for `reason`; MLflow refused `rejected` for good.
    """

    left: tuple[str, ...] = ()
    reason: str = ""
    rejected: tuple[str, ...] = ()


class RunLog:
    """Writes one run in the order of the calls.

    Every call is on disk before it returns. A background thread delivers the entries and retries with
    exponential backoff while MLflow is away. Entries left at the end stay in the spool, for
    `transect runs sync`. Usage::

        log = RunLog.start(folder, settings, "configs_tiny", tags, resume_fingerprint)
        log.metrics({"train/loss": 1.2}, step=1)
        undelivered = log.finish("FINISHED", wait=120)
    """

    def __init__(self, spool: Spool, settings: Settings, registry: Registry | None = None) -> None:
        self.spool = spool
        self.local_id = RunHistory.read(spool).local_id
        self._stack = ExitStack()
        if not self._stack.enter_context(spool.lock()):
            self._stack.close()
            raise InputError(f"{spool.run_folder} is in use: it is training, or transect runs sync delivers it.")
        self.undelivered = Undelivered()
        self._delivery = Delivery(spool, settings, registry)
        self._baseline: dict[str, str] = {}
        self._logged_before: set[tuple[str, int]] = set()
        self._changed = threading.Condition()
        self._appended = 0
        # The delivered offset at which `drain` last timed out.
        self._offset_at_timeout: int | None = None
        self._not_finite: dict[str, int] = {}
        self._last_failure = ""
        self._closing = False
        self._stopped = False
        self._thread = threading.Thread(target=self._deliver, name="run-log", daemon=True)

    @classmethod
    def start(
        cls,
        folder: Path,
        settings: Settings,
        experiment: str,
        tags: Mapping[str, str],
        resume_fingerprint: Mapping[str, Any],
        *,
        registry: Registry | None = None,
        parent: RunHistory | None = None,
        nested_in: Path | None = None,
        local_id: str = "",
    ) -> "RunLog":
        """Begin the log of a new run named as `folder` is; the journal keeps `resume_fingerprint`.

        With the `local_id` of a run that another log began, it is that run which this one continues.

        With a `registry` the run is created at once; RegistryError is raised, and nothing started, when
        MLflow refuses. Without one MLflow is away, and the run is created when it is back. Parameters that
        differ from those of `parent` are logged as drift. MLflow's pages nest the run under the one whose
        folder is `nested_in`.
        """
        spool = Spool.create(folder)
        created = int(time.time() * 1000)
        spool.append(
            "create",
            "run",
            experiment=experiment,
            name=folder.name,
            tags=_truncate(tags, MAX_TAG_VAL_LENGTH),
            local_id=local_id or uuid.uuid4().hex,
            time=created,
            facts=dict(resume_fingerprint),
            nested_in="" if nested_in is None else str(nested_in.absolute()),
        )
        log = cls(spool, settings, registry)
        if parent is not None:
            log._baseline = parent.params
        if registry is not None:
            log._create()
        log._thread.start()
        return log

    @classmethod
    def resume(cls, spool: Spool, settings: Settings, *, registry: Registry | None = None) -> "RunLog":
        """Resume the run of `spool`. Raises InputError when another process has locked it.

        Metrics of a step that the run already has are not logged twice; changed parameters are logged
        as drift.
        """
        log = cls(spool, settings, registry)
        history = RunHistory.read(spool)
        log._baseline, log._logged_before = history.params, history.metrics
        log._append("status", "status RUNNING", status="RUNNING", time=_now())
        log._thread.start()
        return log

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; empty until MLflow has created it."""
        return self.spool.state.run_id

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics; names keep letters and digits of any script and `_-. /`, and stay distinct.

        NaN and infinity are logged as they are, warned of, and named in the tag transect.not_finite.
        """
        named = {name: float(values[own]) for own, name in distinct_metric_names(values).items()}
        new = [name for name in named if (name, step) not in self._logged_before]
        for first in range(0, len(new), MAX_METRICS_PER_BATCH):
            part = {name: named[name] for name in new[first : first + MAX_METRICS_PER_BATCH]}
            self._append("metrics", f"metrics of step {step}", values=part, step=step, time=_now())
        if odd := sorted(name for name in new if not math.isfinite(named[name])):
            self._report_not_finite(odd, step)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters, in batches of MLflow's size, each truncated to MLflow's length.

        MLflow's parameters cannot change: a value that differs from an earlier call or from the parent run
        is logged in the tag param_drift.
        """
        texts = {metric_name(name): text for name, text in _truncate(values, MAX_PARAM_VAL_LENGTH).items()}
        mine = RunHistory.read(self.spool).params
        new = {name: text for name, text in texts.items() if name not in mine}
        for part in _batches(new):
            self._append("params", "parameters", values=part)
        if drift := param_drift({**mine, **self._baseline}, texts):
            self.tags({TAG_DRIFT: drift})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""
        for part in _batches(_truncate(values, MAX_TAG_VAL_LENGTH)):
            self._append("tags", "tags", values=part)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Log one file as it is now, a text file without secrets; a missing file is warned of and left out."""
        try:
            kept = self.spool.store_file(path, without_secrets if path.suffix.lower() in _TEXTS else None)
        except OSError as error:
            logger.warning("%s could not be logged: %s.", path, error.strerror or error)
            return
        self._append("artifact", f"artifact {path.name}", file=kept, folder=folder)

    def dataset(self, name: str, digest: str, source: str, context: str, profile: str) -> None:
        """Log a data set as an input of the run, for the `context` train, val or test."""
        what = f"dataset {context}"
        self._append("dataset", what, name=name, digest=digest, source=source, context=context, profile=profile)

    def register(self, package: Path, tags: Mapping[str, str], wait: float) -> str | None:
        """Register the package in this folder as `candidate`; returns the version, None when MLflow is away for `wait`.

        Raises RegistryError when MLflow refuses it for good.
        """
        before = len(self.spool.state.rejected)
        self._append("register", "model", package=str(package.absolute()), tags=dict(tags))
        if not self.drain(wait):
            return None
        if self.spool.state.version:
            return self.spool.state.version
        raise RegistryError(f"MLflow did not register the model: {'; '.join(self.spool.state.rejected[before:])}.")

    def drain(self, wait: float) -> bool:
        """Wait until all is delivered; False when MLflow took nothing for `wait` seconds, now or in an earlier call."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            try:
                while not self._all_delivered():
                    before = self.spool.state.offset
                    if before != self._offset_at_timeout:
                        self._changed.wait_for(lambda: self.spool.state.offset != before, timeout=wait)  # noqa: B023
                    if self.spool.state.offset == before:
                        self._offset_at_timeout = before
                        return False
            finally:
                self._closing = False
        return True

    def finish(self, status: RunStatus, wait: float) -> Undelivered:
        """End the run, wait for MLflow as `drain` does, and unlock the spool; returns the entries that MLflow lacks."""
        self._append("status", f"status {status}", status=status, time=_now())
        try:
            self.drain(wait)
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            # One call may be in flight and hang; the spool stays locked until it returns.
            self._thread.join(timeout=_LONGEST_DELAY_AT_END_S)
        left = tuple(entry.what for entry in self.spool.pending())
        # Without a failure, a call is in flight and hangs.
        reason = self._last_failure or "it did not answer in time"
        self.undelivered = Undelivered(left, reason if left else "", self.spool.state.rejected)
        return self.undelivered

    def _create(self) -> None:
        """Create the run in MLflow now, in this thread."""
        try:
            self._delivery.send_next()
        except UnreachableError as error:
            logger.warning("%s The run is created when MLflow is back.", error)
        except BaseException:
            self._stack.close()
            raise
        if self.spool.state.rejected:
            self._stack.close()
            raise RegistryError(f"MLflow could not start a run: {self.spool.state.rejected[0]}.")

    def _append(self, kind: str, what: str, **data: Any) -> None:
        self.spool.append(kind, what, **data)
        with self._changed:
            self._appended += 1
            self._changed.notify_all()

    def _all_delivered(self) -> bool:
        return self.spool.next() is None

    def _deliver(self) -> None:
        delay = _FIRST_DELAY_S
        with self._stack:
            while not self._stopped:
                seen = self._appended
                try:
                    sent = self._delivery.send_next()
                except (RegistryError, OSError) as error:
                    self._report_failure(error)
                    self._wait_to_retry(delay)
                    delay = min(2 * delay, _LONGEST_DELAY_S)
                    continue
                delay = _FIRST_DELAY_S
                self._report_recovery(sent)
                with self._changed:
                    self._changed.notify_all()
                    if not sent:
                        self._changed.wait_for(lambda: self._stopped or self._appended != seen)  # noqa: B023

    def _wait_to_retry(self, delay: float) -> None:
        """Wait before the next attempt; `drain` cuts the wait short."""
        with self._changed:
            closing = self._closing
            longest = min(delay, _LONGEST_DELAY_AT_END_S) if closing else delay
            self._changed.wait_for(lambda: self._stopped or self._closing != closing, timeout=longest)

    def _report_not_finite(self, names: list[str], step: int) -> None:
        """Warn, once for each metric, from which step on it is NaN or infinite."""
        if new := [name for name in names if name not in self._not_finite]:
            self._not_finite |= dict.fromkeys(new, step)
            logger.warning("NaN or infinite at step %d: %s.", step, ", ".join(new))
            named = (f"{name} (first at step {first})" for name, first in self._not_finite.items())
            self.tags({TAG_NOT_FINITE: ", ".join(named)})

    def _report_failure(self, error: RegistryError | OSError) -> None:
        if not self._last_failure:
            logger.warning("%s Training continues; its log is kept in %s.", error, self.spool.folder)
        self._last_failure = str(error)

    def _report_recovery(self, sent: bool) -> None:
        if self._last_failure and sent:
            logger.info("MLflow is back; the run's log is delivered again.")
            self._last_failure = ""


def summarise(entries: tuple[str, ...]) -> str:
    """One phrase for entries that were not delivered."""
    shown = ", ".join(dict.fromkeys(entries[:5]))
    return shown if len(entries) <= 5 else f"{shown} and {len(entries) - 5} more"


def _batches(values: Mapping[str, str]) -> list[dict[str, str]]:
    items = list(values.items())
    return [
        dict(items[first : first + MAX_PARAMS_TAGS_PER_BATCH])
        for first in range(0, len(items), MAX_PARAMS_TAGS_PER_BATCH)
    ]


def _truncate(values: Mapping[str, Any], length: int) -> dict[str, str]:
    return {name: text[:length] for name, text in values_without_secrets(values).items()}


def _now() -> int:
    return int(time.time() * 1000)
