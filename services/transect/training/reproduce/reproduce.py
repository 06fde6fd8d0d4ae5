"""`transect runs reproduce`: repeat a logged training and compare every metric."""

import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transect.errors import InputError, RegistryError
from transect.registry import Registry, connect
from transect.registry.client.connection import mlflow_errors_as
from transect.registry.client.names import TAG_COMMIT, TAG_DATASET_DIGEST
from transect.registry.client.queries import run_or_none
from transect.settings import Settings
from transect.tracking.provenance import UNKNOWN, read_provenance, source_diff
from transect.tracking.run_log import RunLog, summarise
from transect.tracking.spool import Spool
from transect.training.pipeline import TrainOutcome, train_plan
from transect.training.plan import Plan, TrainRequest, make_plan
from transect.training.reproduce.logged_training import LoggedTraining, fetch_logged_training, is_deterministic_metric
from transect.training.reproduce.metric_diff import Histories, MetricDiff, compare_histories
from transect.training.run_metadata import run_tags
from transect.training.run_session import TAG_PARENT_RUN

logger = logging.getLogger(__name__)

TAG_REPRODUCED_BY = "transect.reproduced_by"
TAG_REPRODUCTION = "transect.reproduction"
TAG_DIFFERENCE = "transect.reproduction_difference"
_VERSION = "version."
# Packages that do not affect a training's numbers.
_IGNORED_VERSIONS = frozenset({"version.mlflow"})


@dataclass(frozen=True)
class ReproductionPlan:
    """A reproduction that can start. `differences` has a sentence for each difference from the logged training."""

    logged: LoggedTraining
    request: TrainRequest
    training: Plan
    differences: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command that repeats the training and registers its model."""
        return shlex.join(["transect", "train", "--config", str(self.request.config), "--data", str(self.request.data)])

    def refuse_differences(self) -> None:
        """Raise InputError when there are differences."""
        if self.differences:
            raise InputError(
                f"Run {self.logged.row.name} cannot be repeated as it was: {' '.join(self.differences)} "
                "--anyway trains all the same."
            )


@dataclass(frozen=True)
class Reproduction:
    """The result of a reproduction: the new run, and its differences from the old one."""

    outcome: TrainOutcome
    diff: MetricDiff


def plan_reproduction(reference: str, settings: Settings, *, data: Path | None = None) -> ReproductionPlan:
    """Find the training that `reference` names (see find_run) and its differences from this machine; trains nothing.

    `data` overrides the path of the data.yaml. Raises what fetch_logged_training and make_plan raise, and InputError
    for another training set.
    """
    logged = fetch_logged_training(connect(settings), reference, settings)
    request = logged.request(data)
    plan = make_plan(request, settings)
    wanted = logged.row.params["dataset_digest"]
    if plan.digest != wanted:
        raise InputError(
            f"The training set {plan.dataset.path} is not the one that {logged.row.name} was trained on "
            f"(digest {plan.digest[:12]}, was {wanted[:12]}); bring that back, or name it with --data."
        )
    if plan.registry is None:
        raise RegistryError("MLflow went away while the training was prepared; run the same command again.")
    here = run_tags(plan, read_provenance(Path.cwd()))
    differences = (
        *_source_differences(logged, here, source_diff(Path.cwd(), settings.source_diff)),
        *_version_differences(logged, here),
        *_machine_differences(logged, here),
        *_weights_differences(logged, here),
        *_history_differences(logged, plan.registry),
    )
    return ReproductionPlan(logged, request, plan, differences)


def reproduce(reproduction: ReproductionPlan, settings: Settings) -> Reproduction:
    """Train again, in a new run that registers nothing, and compare every metric with the old run's.

    Tags of the new run hold the result, and the old run's tag transect.reproduced_by names the new run.
    Raises what `train` raises.
    """
    logged = reproduction.logged
    found: list[MetricDiff] = []

    def record_comparison(log: RunLog) -> None:
        diff = compare_histories(logged.histories, journalled_metrics(log.spool))
        log.tags({TAG_REPRODUCTION: diff.sentence, TAG_DIFFERENCE: f"{diff.largest:.6g}"})
        found.append(diff)

    outcome = train_plan(reproduction.training, reproduction.request, settings, before_end=record_comparison)
    _tag_original_run(reproduction, outcome)
    return Reproduction(outcome, found[0])


def journalled_metrics(spool: Spool) -> Histories:
    """The deterministic metrics in a run's journal, delivered or not."""
    found: dict[str, dict[int, float]] = {}
    for entry in spool.entries():
        if entry.kind == "metrics":
            for name, value in entry.data["values"].items():
                if is_deterministic_metric(name):
                    found.setdefault(name, {})[entry.data["step"]] = value
    return found


def _tag_original_run(reproduction: ReproductionPlan, outcome: TrainOutcome) -> None:
    registry, run_id = reproduction.training.registry, reproduction.logged.row.run_id
    try:
        assert registry is not None  # noqa: S101 - without one there is no reproduction
        with mlflow_errors_as(registry.uri, f"tagging run {run_id}"):
            registry.client.set_tag(run_id, TAG_REPRODUCED_BY, outcome.run_id)
    except RegistryError as error:
        logger.warning("Run %s could not be tagged as reproduced by %s: %s", run_id, outcome.run_id, error)


def _source_differences(logged: LoggedTraining, here: Mapping[str, str], changes: str) -> list[str]:
    was, now = logged.row.tags.get(TAG_COMMIT, UNKNOWN), here[TAG_COMMIT]
    patch, unknown = _parts(logged.patch.read_text(errors="surrogateescape") if logged.patch.is_file() else "")
    if unknown:
        logger.warning("Files that git did not know may have been part of it: %s.", summarise(tuple(unknown)))
    apply = f" git apply {logged.patch}" if patch else ""
    if was != now:
        if UNKNOWN in (was, now):
            return [f"Its commit is {was} and here it is {now}, so the code cannot be compared."]
        also = f" &&{apply}" if apply else ""
        return [f"It ran from commit {was} and this is {now}: git checkout {was}{also}."]
    if patch == _parts(changes)[0]:
        return []
    if not patch:
        return ["It ran from the commit as it is, and here something was changed since: git stash."]
    return [f"It ran with other local changes than there are here: git stash &&{apply}."]


def _parts(changes: str) -> tuple[str, list[str]]:
    """The patch itself, and the untracked files that the lines above it name."""
    above = "# not in git: "
    lines = changes.splitlines(keepends=True)
    if any(line.startswith("# left out: ") for line in lines):
        logger.warning("Parts of the changes that looked like a secret were left out, and cannot be compared.")
    names = [line.removeprefix(above).strip() for line in lines if line.startswith(above)]
    return "".join(line for line in lines if not line.startswith(above)), names


def _version_differences(logged: LoggedTraining, here: Mapping[str, str]) -> list[str]:
    found = []
    known = {name for name in {*logged.row.tags, *here} if name.startswith(_VERSION)} - _IGNORED_VERSIONS
    for name in sorted(known):
        was, now = logged.row.tags.get(name, "not there"), here.get(name, "not there")
        if name == "version.python":
            was, now = _minor(was), _minor(now)
        if was != now:
            found.append(f"{name.removeprefix(_VERSION)} was {was} and is {now}.")
    if found and logged.packages.is_file():
        found.append(f"All its packages: pip install -r {logged.packages}.")
    return found


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _machine_differences(logged: LoggedTraining, here: Mapping[str, str]) -> list[str]:
    """The order of sums depends on a CPU's instructions and number of threads, or on the GPU."""
    was = logged.row.tags
    if (was.get("transect.device") == "cpu") != (here["transect.device"] == "cpu"):
        setting = "cpu" if was.get("transect.device") == "cpu" else "cuda"
        return [f"It trained on {_device(was)} and here would on {_device(here)}: TRANSECT_DEVICE={setting}."]
    if here["transect.device"] != "cpu":
        return _change("GPU", was.get("transect.gpu", UNKNOWN), here["transect.gpu"])
    from ultralytics.utils import NUM_THREADS

    threads = logged.row.params.get("cpu_threads", str(NUM_THREADS))
    return [
        *_change("CPU", was.get("transect.cpu", UNKNOWN), here["transect.cpu"]),
        *_change("number of CPU threads", threads, str(NUM_THREADS)),
    ]


def _change(what: str, was: str, now: str) -> list[str]:
    return [f"Its {what} was {was} and is {now}."] if was != now else []


def _device(tags: Mapping[str, str]) -> str:
    return "the CPU" if tags.get("transect.device") == "cpu" else f"the GPU {tags.get('transect.gpu', UNKNOWN)}"


def _weights_differences(logged: LoggedTraining, here: Mapping[str, str]) -> list[str]:
    kind, digest = "transect.weights_used", "transect.weights_sha256"
    was, now = logged.row.tags, here
    if was.get(kind) != now[kind]:
        return [f"It started from the weights {was.get(kind)} and here would start from {now[kind]}."]
    if digest in was and was[digest] != now.get(digest):
        return [f"The weights that it started from are others now ({now[kind]}: {logged.row.params['pretrained']})."]
    return []


def _history_differences(logged: LoggedTraining, registry: Registry) -> list[str]:
    """Changes during the logged training (drift, forks) that one training from the start does not repeat."""
    found = []
    if logged.drift is None:
        found.append("Its parameters changed on the way, and MLflow holds only a part of what they were (param_drift).")
    elif logged.drift:
        changes = ", ".join(f"{name} from {one['old']} to {one['new']}" for name, one in logged.drift.items())
        found.append(f"Its parameters changed on the way ({changes}), and would be the last ones from the start.")
    parent, digest = logged.row.tags.get(TAG_PARENT_RUN), logged.row.params["dataset_digest"]
    while parent:
        tags = _tags_of(registry, parent)
        if tags is None:
            return [*found, f"Its first epochs are those of run {parent}, which is not in MLflow any more."]
        if tags.get(TAG_DATASET_DIGEST) != digest:
            return [*found, f"Its first epochs are those of run {parent}, which had another training set."]
        parent = tags.get(TAG_PARENT_RUN)
    return found


def _tags_of(registry: Registry, run_id: str) -> Mapping[str, str] | None:
    """The tags of a run, deleted or not; None where there is no such run."""
    with mlflow_errors_as(registry.uri, f"looking up run {run_id}"):
        run = run_or_none(registry.client, run_id)
    return None if run is None else dict(run.data.tags)
