"""Lineage of a model version: the run that made it, the censuses that used it, and the reviews of those."""

from collections.abc import Mapping

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from transect.registry.client.connection import mlflow_errors_as
from transect.registry.client.names import (
    CENSUS_EXPERIMENT,
    TAG_CENSUS_RUN,
    TAG_COMMIT,
    TAG_DATASET_DIGEST,
    TAG_MODEL_RUN,
    TAG_REVIEWED_CENSUS,
    TAG_SHA256,
)
from transect.registry.client.queries import FORBIDDEN, all_versions, none_if_missing, run_or_none
from transect.registry.runs.search import RunRow
from transect.registry.versions.cache import ResolvedVersion
from transect.registry.versions.listing import describe, rows_of
from transect.registry.versions.registry import Registry

_DIRTY = "transect.git_dirty"
_MOST = 1000


def version_details(registry: Registry, reference: str) -> dict[str, str]:
    """Details of one version as names and printable values: registry, lineage, tags, package."""
    resolved = registry.resolve(reference)
    return {**version_lineage(registry, resolved), **describe(resolved, registry.manifest(resolved))}


def version_lineage(registry: Registry, resolved: ResolvedVersion) -> dict[str, str]:
    """The origin of a version and each census that used it, as names and printable values."""
    with mlflow_errors_as(registry.uri, f"reading the lineage of {resolved}"):
        run = run_or_none(registry.client, resolved.run_id)
        lineage = {"trained by": _describe_run(registry, run, resolved.run_id)}
        if run is not None:
            lineage |= _origin(run.data.tags)
        return lineage | _censuses(registry, f"tags.`{TAG_SHA256}` = '{resolved.package_sha256}'")


def run_lineage(registry: Registry, row: RunRow) -> dict[str, str]:
    """The inputs of a run, the versions it made, and each census that used one of them."""
    name = registry.settings.model_name
    with mlflow_errors_as(registry.uri, f"reading the lineage of run {row.run_id}"):
        lineage = _origin(row.tags)
        lineage |= {f"dataset {context}": digest for context, digest in sorted(row.datasets.items())}
        model = none_if_missing(registry.client, name, lambda: registry.client.get_registered_model(name))
        rows = rows_of(model.aliases, all_versions(registry.client, name)) if model is not None else []
        for version in rows:
            if version.run_id == row.run_id:
                lineage[f"{name} version {version.version}"] = ", ".join(version.aliases) or "no alias"
        if (reviewed := row.tags.get(TAG_REVIEWED_CENSUS)) is not None:
            lineage |= _censuses(registry, f"tags.`{TAG_CENSUS_RUN}` = '{reviewed}'")
        elif (census := row.tags.get(TAG_CENSUS_RUN)) is not None:
            lineage |= _censuses(registry, f"tags.`{TAG_REVIEWED_CENSUS}` = '{census}'")
        if (trained := row.tags.get(TAG_MODEL_RUN)) is not None:
            return lineage | {
                "model trained by": _describe_run(registry, run_or_none(registry.client, trained), trained)
            }
        return lineage | _censuses(registry, f"tags.`{TAG_MODEL_RUN}` = '{row.run_id}'")


def _origin(tags: Mapping[str, str]) -> dict[str, str]:
    found = {}
    if digest := tags.get(TAG_DATASET_DIGEST):
        found["dataset digest"] = digest
    if commit := tags.get(TAG_COMMIT):
        found["commit"] = f"{commit}{' with local changes' if tags.get(_DIRTY) == 'true' else ''}"
    if parent := tags.get("transect.parent_run") or tags.get("mlflow.parentRunId"):
        found["parent run"] = parent
    if review := tags.get("transect.dataset_review_id"):
        found["dataset from review"] = (
            f"{review} of {tags.get('transect.dataset_review_survey', 'a survey')}, census "
            f"{tags.get('transect.dataset_review_census_run', 'not known')}"
        )
    for tag, label in (("transect.reproduces", "reproduces run"), ("transect.reproduced_by", "reproduced by run")):
        if run_id := tags.get(tag):
            found[label] = run_id
    return found


def _describe_run(registry: Registry, run: Run | None, run_id: str) -> str:
    if run is None:
        return f"run {run_id}, which is not in MLflow any more" if run_id else "an unknown run"
    deleted = ", deleted" if run.info.lifecycle_stage == "deleted" else ""
    experiment = registry.client.get_experiment(run.info.experiment_id).name
    return f"run {run.info.run_name} ({run_id}) in {experiment}{deleted}"


def _censuses(registry: Registry, search: str) -> dict[str, str]:
    try:
        experiment = registry.client.get_experiment_by_name(CENSUS_EXPERIMENT)
    except MlflowException as error:
        # Positions of animals may be hidden from an account that trains.
        if error.get_http_status_code() != FORBIDDEN:
            raise
        return {"censuses": "MLflow does not show them to this account"}
    if experiment is None:
        return {}
    runs = registry.client.search_runs([experiment.experiment_id], search, max_results=_MOST)
    return {
        _label(run): f"{run.info.run_name} (run {run.info.run_id})" for run in runs if run.info.status == "FINISHED"
    }


def _label(run: Run) -> str:
    tags = run.data.tags
    if (reviewed := tags.get(TAG_REVIEWED_CENSUS)) is not None:
        return f"review {run.info.run_id} of census {reviewed}"
    return f"census {tags.get(TAG_CENSUS_RUN, run.info.run_id)}"
