"""Search past runs, and compare several."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from transect.errors import InputError, NotRegisteredError
from transect.registry.client.connection import mlflow_errors_as
from transect.registry.client.queries import PAGE, all_experiments, paginate
from transect.registry.versions.registry import Registry

# A shorter prefix of an id would match many runs.
_LEAST_PREFIX = 4
_ID = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run of MLflow; times are in UTC, `metrics` are the last value of each.

    `datasets` maps a context (train, val, test) to the digest of its data set.
    """

    run_id: str
    name: str
    experiment: str
    status: str
    started: datetime
    ended: datetime | None
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    params: Mapping[str, str] = field(default_factory=dict, hash=False)
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    datasets: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def minutes(self) -> float | None:
        """Duration in minutes; None while it runs."""
        return None if self.ended is None else (self.ended - self.started).total_seconds() / 60

    def as_json(self) -> str:
        """The run as one JSON object; a metric that is not finite is null, since JSON has no such number."""
        times = {"started": self.started.isoformat(), "ended": self.ended and self.ended.isoformat()}
        metrics = {name: value if abs(value) < float("inf") else None for name, value in self.metrics.items()}
        return json.dumps({**asdict(self), **times, "metrics": metrics}, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Comparison:
    """Runs compared: for each name one value per run, None if the run has none.

    `params` and `tags` contain only names whose values differ, `metrics` all names.
    """

    runs: tuple[RunRow, ...]
    params: Mapping[str, tuple[str | None, ...]]
    tags: Mapping[str, tuple[str | None, ...]]
    metrics: Mapping[str, tuple[float | None, ...]]


def list_runs(
    registry: Registry, *, experiment: str = "", search: str = "", order: str = "", limit: int = 20
) -> list[RunRow]:
    """The newest `limit` runs (0: all), or the first ones in the order of `order`.

    `experiment` is a name; empty means all. `search` and `order` are MLflow's
    (https://mlflow.org/docs/latest/ml/search/search-runs/), such as metrics.`val/loss` < 0.5 and
    metrics.`val/loss` ASC. Raises InputError if MLflow cannot parse one, NotRegisteredError for
    an experiment that does not exist.
    """
    names = _experiments(registry)
    wanted = list(names)
    if experiment:
        wanted = [known for known, name in names.items() if name == experiment]
        if not wanted:
            known = ", ".join(sorted(names.values())) or "none"
            raise NotRegisteredError(f"MLflow has no experiment {experiment!r}; it has {known}.")
    if not wanted:
        return []
    # A page never exceeds the limit.
    size = min(limit, PAGE) if limit else PAGE
    found = paginate(lambda token: _search(registry, wanted, search, order=order, size=size, token=token))
    return [_row(run, names) for run in islice(found, limit or None)]


def find_run(registry: Registry, reference: str) -> RunRow:
    """Find the run of `reference`: an id, a prefix of one, a name, or @ALIAS of the model it made.

    `models:/NAME/VERSION` works too. Raises NotRegisteredError if there is none or it was deleted,
    InputError if several match.
    """
    names = _experiments(registry)
    if reference.startswith(("@", "models:/")):
        reference = registry.resolve(reference).run_id
    found = _named(registry, list(names), reference, ViewType.ACTIVE_ONLY)
    if not found:
        if deleted := _named(registry, list(names), reference, ViewType.DELETED_ONLY):
            info = deleted[0].info
            raise NotRegisteredError(
                f"The run {info.run_name} ({info.run_id}) was deleted in MLflow; "
                f"bring it back with: mlflow runs restore --run-id {info.run_id}"
            )
        raise NotRegisteredError(
            f"MLflow has no run {reference!r}: give an id, the first {_LEAST_PREFIX} or more digits of one, or a name; "
            "transect runs list shows them."
        )
    if len(found) > 1:
        ids = ", ".join(run.info.run_id for run in found[:5])
        raise InputError(f"{len(found)} runs fit {reference!r}: {ids}; give one of these ids.")
    return _row(found[0], names)


def compare_runs(runs: Sequence[RunRow]) -> Comparison:
    """Compare runs. Raises InputError for fewer than two."""
    if len(runs) < 2:
        raise InputError("A comparison needs at least two runs.")
    return Comparison(
        runs=tuple(runs),
        params=_different([run.params for run in runs]),
        tags=_different([_own_tags(run.tags) for run in runs]),
        metrics=_columns([run.metrics for run in runs]),
    )


def _own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    # Tags that differ between any two runs carry no information.
    return {name: value for name, value in tags.items() if not name.startswith("mlflow.") or "git" in name}


def _columns(sides: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    names = sorted({name for side in sides for name in side})
    return {name: tuple(side.get(name) for side in sides) for name in names}


def _different(sides: Sequence[Mapping[str, str]]) -> dict[str, tuple[str | None, ...]]:
    return {name: values for name, values in _columns(sides).items() if len(set(values)) > 1}


def _experiments(registry: Registry) -> dict[str, str]:
    """Names of all experiments by id."""
    with mlflow_errors_as(registry.uri, "listing the experiments"):
        return {str(one.experiment_id): str(one.name) for one in all_experiments(registry.client)}


def _named(registry: Registry, experiments: Sequence[str], reference: str, view: int) -> list[Run]:
    """The runs with this id, prefix of an id, or else name."""
    searches = [f"attributes.run_name = '{reference}'"] if reference and "'" not in reference else []
    if len(reference) >= _LEAST_PREFIX and _ID.fullmatch(reference):
        searches.insert(0, f"attributes.run_id LIKE '{reference}%'")
    for search in searches if experiments else []:
        if found := list(_search(registry, experiments, search, size=10, view=view)):
            return found
    return []


def _search(
    registry: Registry,
    experiments: Sequence[str],
    search: str,
    *,
    size: int,
    order: str = "",
    token: str | None = None,
    view: int = ViewType.ACTIVE_ONLY,
) -> Any:
    with mlflow_errors_as(registry.uri, "searching for runs"):
        try:
            return registry.client.search_runs(
                list(experiments),
                search,
                view,
                max_results=size,
                order_by=[order] if order else None,
                page_token=token,
            )
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            reason = " ".join(str(error).removeprefix("INVALID_PARAMETER_VALUE: ").split()).rstrip(".")
            raise InputError(
                f"MLflow cannot read the search {search!r}{f' ordered by {order!r}' if order else ''}: {reason}. "
                "Write such as: metrics.`val/loss` < 0.5 and params.imgsz = '640'"
            ) from error


def _row(run: Run, experiments: Mapping[str, str]) -> RunRow:
    inputs = run.inputs.dataset_inputs if run.inputs is not None else []
    return RunRow(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        experiment=experiments.get(run.info.experiment_id, run.info.experiment_id),
        status=run.info.status,
        started=_time(run.info.start_time or 0),
        ended=_time(run.info.end_time) if run.info.end_time else None,
        metrics=dict(run.data.metrics),
        params=dict(run.data.params),
        tags=dict(run.data.tags),
        datasets={_context(one.tags): one.dataset.digest for one in inputs},
    )


def _context(tags: Sequence[Any]) -> str:
    return next((tag.value for tag in tags if tag.key == "mlflow.data.context"), "data")


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
