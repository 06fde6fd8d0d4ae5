"""Log finished work as one MLflow run."""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from transect.redaction import values_without_secrets
from transect.registry.client.metric_names import distinct_metric_names
from transect.registry.client.queries import stored_files

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
    run = client.create_run(experiment_id, run_name=name, tags=values_without_secrets(tags))
    return complete_run(client, run, params=params, metrics=metrics, artifacts=artifacts)


def complete_run(
    client: MlflowClient,
    run: Run,
    *,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    artifacts: Iterable[Path],
) -> str:
    """Log what `run` lacks of finished work, finish it and return its id; as `log_finished_run`.

    A file that the run has with the same size is not sent again: the store takes a file whole.
    """
    run_id, status = str(run.info.run_id), "FAILED"
    try:
        _log_numbers(client, run, params, metrics)
        stored = {(info.path, info.file_size) for info in stored_files(client, run_id)}
        for path, folder in _files_of(artifacts):
            if (f"{folder}/{path.name}" if folder else path.name, path.stat().st_size) not in stored:
                client.log_artifact(run_id, str(path), folder)
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)
    return run_id


def find_same_run(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> Run | None:
    """The oldest finished run of the experiment with these tags; else the newest that is not finished, or None."""
    runs = _runs_tagged(client, experiment_id, tags)
    finished = [run for run in runs if run.info.status == "FINISHED"]
    return finished[-1] if finished else next(iter(runs), None)


def end_killed_runs(
    client: MlflowClient, experiment_id: str, tags: Mapping[str, str], *, but: Run | None = None
) -> None:
    """Mark RUNNING runs with these tags as KILLED, all `but` one; the caller guarantees that none really runs."""
    spared = None if but is None else but.info.run_id
    for run in _runs_tagged(client, experiment_id, tags):
        if run.info.status == "RUNNING" and run.info.run_id != spared:
            client.set_terminated(run.info.run_id, "KILLED")


def _runs_tagged(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """The runs with these tags, newest first."""
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    return list(client.search_runs([experiment_id], wanted, order_by=["attributes.start_time DESC"]))


def _files_of(artifacts: Iterable[Path]) -> Iterator[tuple[Path, str | None]]:
    """Each file with its folder in the artifact store; None is the root."""
    for artifact in artifacts:
        if not artifact.is_dir():
            yield artifact, None
            continue
        for path in sorted(artifact.rglob("*")):
            if path.is_file():
                yield path, path.parent.relative_to(artifact.parent).as_posix()


def _log_numbers(client: MlflowClient, run: Run, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Log the parameters and metrics that the run lacks: MLflow refuses a parameter that changes."""
    now, run_id = int(time.time() * 1000), run.info.run_id
    cleaned = values_without_secrets(params)
    new_params = [
        Param(name, cleaned[key][:_MAX_PARAM_CHARS])
        for key, name in distinct_metric_names(params).items()
        if name not in run.data.params
    ]
    new_metrics = [
        Metric(name, float(metrics[key]), now, 0)
        for key, name in distinct_metric_names(metrics).items()
        if name not in run.data.metrics
    ]
    for start in range(0, len(new_params), _MAX_PARAMS):
        client.log_batch(run_id, params=new_params[start : start + _MAX_PARAMS])
    for start in range(0, len(new_metrics), _MAX_METRICS):
        client.log_batch(run_id, metrics=new_metrics[start : start + _MAX_METRICS])
