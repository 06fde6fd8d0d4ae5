"""One MLflow run, told through a spool on disk: a slow, dead or absent server never stops a training."""

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
from transect.registry.client.metric_names import metric_name, told_apart
from transect.settings import Settings
from transect.tracking.delivery import Delivery
from transect.tracking.run_history import History, param_drift
from transect.tracking.spool import Spool

logger = logging.getLogger(__name__)

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

TAG_DRIFT = "param_drift"
# A diff is cleaned where it is made, hunk by hunk.
_TEXTS = frozenset({".csv", ".html", ".json", ".log", ".md", ".txt", ".yaml", ".yml"})
TAG_NOT_FINITE = "transect.not_finite"
_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 30.0
# While somebody waits for the end, an MLflow that comes back must not be noticed half a minute later.
_LONGEST_DELAY_AT_END_S = 3.0


@dataclass(frozen=True)
class Undelivered:
    """What MLflow does not have when a run's log is closed.

    `left` stays in the spool and `reason` says why; `rejected` is what MLflow refused for good.
    """

    left: tuple[str, ...] = ()
    reason: str = ""
    rejected: tuple[str, ...] = ()


class RunLog:
    """Writes one run in the order of the calls.

    Every call is on disk before it returns, and a thread of its own delivers what is there: it tries
    again, more and more rarely, for as long as MLflow is away. What is left at the end stays in the
    spool, for `transect runs sync`. Usage::

        log = RunLog.start(folder, settings, "configs_tiny", tags, facts)
        log.metrics({"train/loss": 1.2}, step=1)
        undelivered = log.finish("FINISHED", wait=120)
    """

    def __init__(self, spool: Spool, settings: Settings, registry: Registry | None = None) -> None:
        self.spool = spool
        self.local_id = History.read(spool).local_id
        self._stack = ExitStack()
        if not self._stack.enter_context(spool.lock()):
            self._stack.close()
            raise InputError(f"{spool.run_folder} is in use: it is training, or transect runs sync delivers it.")
        self.undelivered = Undelivered()
        self._delivery = Delivery(spool, settings, registry)
        self._baseline: dict[str, str] = {}
        self._known: set[tuple[str, int]] = set()
        self._changed = threading.Condition()
        self._appended = 0
        # How far delivery was when a wait for it ended in vain.
        self._stuck: int | None = None
        self._not_finite: dict[str, int] = {}
        self._trouble = ""
        self._closing = False
        self._given_up = False
        self._thread = threading.Thread(target=self._work, name="run-log", daemon=True)

    @classmethod
    def start(
        cls,
        folder: Path,
        settings: Settings,
        experiment: str,
        tags: Mapping[str, str],
        facts: Mapping[str, Any],
        *,
        registry: Registry | None = None,
        parent: History | None = None,
        nested_in: Path | None = None,
    ) -> "RunLog":
        """Begin the log of a new run named as `folder` is; `facts` stay in the spool, for who resumes the run.

        With a `registry` the run is made at once, and RegistryError is raised when MLflow refuses: then
        nothing was started. Without one MLflow is away, and the run is made when it comes back. Under
        `parent`, parameters that differ from the parent's are told as drift. MLflow's pages show the run below the
        one whose folder is `nested_in`.
        """
        spool = Spool.create(folder)
        created = int(time.time() * 1000)
        spool.append(
            "create",
            "run",
            experiment=experiment,
            name=folder.name,
            tags=_cut(tags, MAX_TAG_VAL_LENGTH),
            local_id=uuid.uuid4().hex,
            time=created,
            facts=dict(facts),
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
        """Go on with the run of `spool`, which runs again. Raises InputError when another process has it.

        Metrics of a step that the run has already are not told twice, and parameters that are not as
        they were are told as drift.
        """
        log = cls(spool, settings, registry)
        history = History.read(spool)
        log._baseline, log._known = history.params, history.metrics
        log._append("status", "status RUNNING", status="RUNNING", time=_now())
        log._thread.start()
        return log

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; empty until MLflow has given one."""
        return self.spool.state.run_id

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics; names keep letters and digits of any script and `_-. /`, and stay different ones.

        NaN and infinity are logged as they are, told in the log, and named in the tag transect.not_finite.
        """
        named = {name: float(values[own]) for own, name in told_apart(values).items()}
        new = [name for name in named if (name, step) not in self._known]
        for first in range(0, len(new), MAX_METRICS_PER_BATCH):
            part = {name: named[name] for name in new[first : first + MAX_METRICS_PER_BATCH]}
            self._append("metrics", f"metrics of step {step}", values=part, step=step, time=_now())
        if odd := sorted(name for name in new if not math.isfinite(named[name])):
            self._say_not_finite(odd, step)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters, as many a call as MLflow takes, each cut at the length that it takes.

        MLflow's parameters cannot change: what differs from before, be it in an earlier call or in the run that this
        one goes on from, is told in the tag param_drift.
        """
        texts = {metric_name(name): text for name, text in _cut(values, MAX_PARAM_VAL_LENGTH).items()}
        mine = History.read(self.spool).params
        new = {name: text for name, text in texts.items() if name not in mine}
        for part in _parts(new):
            self._append("params", "parameters", values=part)
        if drift := param_drift({**mine, **self._baseline}, texts):
            self.tags({TAG_DRIFT: drift})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""
        for part in _parts(_cut(values, MAX_TAG_VAL_LENGTH)):
            self._append("tags", "tags", values=part)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Log one file as it is now, a text file without secrets; a file that is not there is told and left out."""
        try:
            kept = self.spool.keep(path, without_secrets if path.suffix.lower() in _TEXTS else None)
        except OSError as error:
            logger.warning("%s could not be logged: %s.", path, error.strerror or error)
            return
        self._append("artifact", f"artifact {path.name}", file=kept, folder=folder)

    def dataset(self, name: str, digest: str, source: str, context: str, profile: str) -> None:
        """Log a data set as an input of the run, for the `context` train, val or test."""
        what = f"dataset {context}"
        self._append("dataset", what, name=name, digest=digest, source=source, context=context, profile=profile)

    def register(self, package: Path, tags: Mapping[str, str], wait: float) -> str | None:
        """Register the package in this folder as `candidate`; its version, or None when MLflow is away for `wait`.

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
                while not self._empty():
                    before = self.spool.state.offset
                    if before != self._stuck:
                        self._changed.wait_for(lambda: self.spool.state.offset != before, timeout=wait)  # noqa: B023
                    if self.spool.state.offset == before:
                        self._stuck = before
                        return False
            finally:
                self._closing = False
        return True

    def finish(self, status: RunStatus, wait: float) -> Undelivered:
        """End the run, wait for MLflow as `drain` does, and let go of the spool; what MLflow does not have."""
        self._append("status", f"status {status}", status=status, time=_now())
        try:
            self.drain(wait)
        finally:
            with self._changed:
                self._given_up = True
                self._changed.notify_all()
            # One call may be on its way and hang; whoever comes next finds the spool in use until it is over.
            self._thread.join(timeout=_LONGEST_DELAY_AT_END_S)
        left = tuple(entry.what for entry in self.spool.pending())
        # Without a failure, a call is on its way and hangs.
        reason = self._trouble or "it did not answer in time"
        self.undelivered = Undelivered(left, reason if left else "", self.spool.state.rejected)
        return self.undelivered

    def _create(self) -> None:
        """Make the run in MLflow now, in this thread."""
        try:
            self._delivery.send_next()
        except UnreachableError as error:
            logger.warning("%s The run is made when MLflow is back.", error)
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

    def _empty(self) -> bool:
        return self.spool.next() is None

    def _work(self) -> None:
        delay = _FIRST_DELAY_S
        with self._stack:
            while not self._given_up:
                seen = self._appended
                try:
                    sent = self._delivery.send_next()
                except (RegistryError, OSError) as error:
                    self._say_trouble(error)
                    self._rest(delay)
                    delay = min(2 * delay, _LONGEST_DELAY_S)
                    continue
                delay = _FIRST_DELAY_S
                self._say_recovery(sent)
                with self._changed:
                    self._changed.notify_all()
                    if not sent:
                        self._changed.wait_for(lambda: self._given_up or self._appended != seen)  # noqa: B023

    def _rest(self, delay: float) -> None:
        """Wait before the next attempt; not when somebody begins to wait for the end."""
        with self._changed:
            closing = self._closing
            longest = min(delay, _LONGEST_DELAY_AT_END_S) if closing else delay
            self._changed.wait_for(lambda: self._given_up or self._closing != closing, timeout=longest)

    def _say_not_finite(self, names: list[str], step: int) -> None:
        """Tell, once for each metric, from which step on it is NaN or infinite."""
        if new := [name for name in names if name not in self._not_finite]:
            self._not_finite |= dict.fromkeys(new, step)
            logger.warning("NaN or infinite at step %d: %s.", step, ", ".join(new))
            told = (f"{name} (first at step {first})" for name, first in self._not_finite.items())
            self.tags({TAG_NOT_FINITE: ", ".join(told)})

    def _say_trouble(self, error: RegistryError | OSError) -> None:
        if not self._trouble:
            logger.warning("%s Training goes on; what it tells is kept in %s.", error, self.spool.folder)
        self._trouble = str(error)

    def _say_recovery(self, sent: bool) -> None:
        if self._trouble and sent:
            logger.info("MLflow takes what the run tells again.")
            self._trouble = ""


def summarise(entries: tuple[str, ...]) -> str:
    """One phrase for entries that were not delivered."""
    shown = ", ".join(dict.fromkeys(entries[:5]))
    return shown if len(entries) <= 5 else f"{shown} and {len(entries) - 5} more"


def _parts(values: Mapping[str, str]) -> list[dict[str, str]]:
    items = list(values.items())
    return [
        dict(items[first : first + MAX_PARAMS_TAGS_PER_BATCH])
        for first in range(0, len(items), MAX_PARAMS_TAGS_PER_BATCH)
    ]


def _cut(values: Mapping[str, Any], length: int) -> dict[str, str]:
    return {name: text[:length] for name, text in values_without_secrets(values).items()}


def _now() -> int:
    return int(time.time() * 1000)
