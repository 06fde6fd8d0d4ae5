"""One MLflow run, written from a thread of its own: a slow or dead server never stops a training."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import (
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)

from transect.errors import RegistryError

logger = logging.getLogger(__name__)

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
_FAILURES = (MlflowException, requests.RequestException, OSError)


@dataclass(frozen=True)
class _Call:
    what: str
    send: Callable[[], object]


class RunLog:
    """Writes one run in the order of the calls; what fails is kept, tried again at the end, and told.

    Usage::

        log = RunLog.start(client, experiment_id, "yolo11n", tags)
        log.metrics({"train/loss": 1.2}, step=1)
        unlogged = log.finish("FINISHED")
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client = client
        self.run_id = run_id
        self._queue: queue.Queue[_Call | None] = queue.Queue()
        self._failed: list[_Call] = []
        self._thread = threading.Thread(target=self._work, name="run-log", daemon=True)
        self._thread.start()

    @classmethod
    def start(cls, client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str]) -> "RunLog":
        """Create the run. Raises RegistryError when MLflow refuses: then nothing was started."""
        try:
            run = client.create_run(experiment_id, run_name=name, tags=_cut(tags, MAX_TAG_VAL_LENGTH))
        except _FAILURES as error:
            raise RegistryError(f"MLflow could not start a run: {_reason(error)}.") from error
        return cls(client, run.info.run_id)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics; names keep letters, digits and `_-. /`, which is what MLflow takes."""
        now = int(time.time() * 1000)
        metrics = [Metric(metric_name(name), float(value), now, step) for name, value in values.items()]
        for first in range(0, len(metrics), MAX_METRICS_PER_BATCH):
            part = metrics[first : first + MAX_METRICS_PER_BATCH]
            self._put(f"metrics of step {step}", partial(self.client.log_batch, self.run_id, metrics=part))

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters, as many a call as MLflow takes, each cut at the length that it takes."""
        texts = _cut(values, MAX_PARAM_VAL_LENGTH)
        params = [Param(metric_name(name), text) for name, text in texts.items()]
        for first in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
            part = params[first : first + MAX_PARAMS_TAGS_PER_BATCH]
            self._put("parameters", partial(self.client.log_batch, self.run_id, params=part))

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""
        tags = [RunTag(name, text) for name, text in _cut(values, MAX_TAG_VAL_LENGTH).items()]
        self._put("tags", lambda: self.client.log_batch(self.run_id, tags=tags))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload one file; it must stay in place until `finish` has returned."""
        self._put(f"artifact {path.name}", lambda: self.client.log_artifact(self.run_id, str(path), folder))

    def dataset(self, name: str, digest: str, source: str, context: str, profile: str) -> None:
        """Log a data set as an input of the run, for the `context` train, val or test."""
        entity = Dataset(name=name, digest=digest, source_type="local", source=source, profile=profile)
        given = DatasetInput(dataset=entity, tags=[InputTag("mlflow.data.context", context)])
        self._put(f"dataset {context}", lambda: self.client.log_inputs(self.run_id, datasets=[given]))

    def flush(self) -> None:
        """Wait until all that was logged so far has been sent or has failed."""
        self._queue.join()

    def finish(self, status: RunStatus) -> list[str]:
        """Send what is left, try once more what failed, end the run; returns what could not be logged."""
        self._queue.put(None)
        self._thread.join()
        again, self._failed = self._failed, []
        for call in again:
            self._send(call)
        self._send(_Call(f"the status {status}", lambda: self.client.set_terminated(self.run_id, status=status)))
        return [call.what for call in self._failed]

    def _put(self, what: str, send: Callable[[], object]) -> None:
        self._queue.put(_Call(what, send))

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            try:
                self._send(call)
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _send(self, call: _Call) -> None:
        try:
            call.send()
        except _FAILURES as error:
            if not self._failed:
                logger.warning("MLflow did not take the %s (%s); training goes on.", call.what, _reason(error))
            self._failed.append(call)


def metric_name(name: str) -> str:
    """`name` with every character that MLflow refuses in names of metrics and parameters as `_`."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in name)


def summarise(unlogged: Sequence[str]) -> str:
    """One phrase for what could not be logged."""
    shown = ", ".join(dict.fromkeys(unlogged[:5]))
    return shown if len(unlogged) <= 5 else f"{shown} and {len(unlogged) - 5} more"


def _cut(values: Mapping[str, Any], length: int) -> dict[str, str]:
    return {name: str(value)[:length] for name, value in values.items()}


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
