"""Log finished work as one MLflow run."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from transect.redaction import values_without_secrets
from transect.registry.client.metric_names import distinct_metric_names

# Limits of one call to MLflow's batch endpoint.
_MAX_PARAMS = 100
_MAX_METRICS = 900
_MAX_PARAM_CHARS = 6000


def log_finished_run(
    client: MlflowClient,
    experiment_id: str,
    *,
    name: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    artifacts: Iterable[Path],
) -> str:
    """Log a run named `name` and return its id; its status is FAILED if a part could not be logged.

    `artifacts` are files, or folders that keep their names.
    """
    run_id = str(client.create_run(experiment_id, run_name=name, tags=values_without_secrets(tags)).info.run_id)
    status = "FAILED"
    try:
        _log_numbers(client, run_id, params, metrics)
        for artifact in artifacts:
            if artifact.is_dir():
                client.log_artifacts(run_id, str(artifact), artifact.name)
            else:
                client.log_artifact(run_id, str(artifact))
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)
    return run_id


def finished_run(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> str | None:
    """The id of the oldest finished run of the experiment with these tags, or None."""
    runs = _runs_tagged(client, experiment_id, tags, "FINISHED")
    return runs[-1] if runs else None


def end_killed_runs(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> None:
    """Mark RUNNING runs with these tags as KILLED; the caller guarantees that none is really running."""
    for run_id in _runs_tagged(client, experiment_id, tags, "RUNNING"):
        client.set_terminated(run_id, "KILLED")


def _runs_tagged(client: MlflowClient, experiment_id: str, tags: Mapping[str, str], status: str) -> list[str]:
    """Ids of runs, newest first."""
    wanted = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
    found = client.search_runs(
        [experiment_id],
        " and ".join([f"attributes.status = '{status}'", *wanted]),
        order_by=["attributes.start_time DESC"],
    )
    return [str(run.info.run_id) for run in found]


def _log_numbers(client: MlflowClient, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    now = int(time.time() * 1000)
    cleaned = values_without_secrets(params)
    all_params = [Param(name, cleaned[key][:_MAX_PARAM_CHARS]) for key, name in distinct_metric_names(params).items()]
    all_metrics = [Metric(name, float(metrics[key]), now, 0) for key, name in distinct_metric_names(metrics).items()]
    for start in range(0, len(all_params), _MAX_PARAMS):
        client.log_batch(run_id, params=all_params[start : start + _MAX_PARAMS])
    for start in range(0, len(all_metrics), _MAX_METRICS):
        client.log_batch(run_id, metrics=all_metrics[start : start + _MAX_METRICS])
