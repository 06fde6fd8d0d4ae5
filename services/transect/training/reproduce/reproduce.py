"""Training a run once more, to see whether it comes out the same."""

import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transect.errors import InputError, RegistryError
from transect.registry import Registry, connect
from transect.registry.client.connection import translated
from transect.registry.client.names import TAG_COMMIT, TAG_DATASET_DIGEST
from transect.registry.client.queries import run_or_none
from transect.settings import Settings
from transect.tracking.provenance import UNKNOWN, read_provenance, source_diff
from transect.tracking.run_log import RunLog, summarise
from transect.tracking.spool import Spool
from transect.training.pipeline import TrainOutcome, train_plan
from transect.training.plan import Plan, TrainRequest, make_plan
from transect.training.reproduce.logged_training import Original, comes_out_the_same, fetch_original
from transect.training.reproduce.metric_diff import Histories, Sameness, compare_histories
from transect.training.run_metadata import run_tags
from transect.training.run_session import TAG_PARENT_RUN

logger = logging.getLogger(__name__)

TAG_REPRODUCED_BY = "transect.reproduced_by"
TAG_REPRODUCTION = "transect.reproduction"
TAG_DIFFERENCE = "transect.reproduction_difference"
_VERSION = "version."
# What does not compute a training's numbers.
_NO_MATTER = frozenset({"version.mlflow"})


@dataclass(frozen=True)
class Rehearsal:
    """A reproduction that can start. `differences` say in a sentence each what is not as it was."""

    original: Original
    request: TrainRequest
    plan: Plan
    differences: tuple[str, ...]

    @property
    def command(self) -> str:
        """What trains the same, and registers it too."""
        return shlex.join(["transect", "train", "--config", str(self.request.config), "--data", str(self.request.data)])

    def refuse_differences(self) -> None:
        """Raise InputError when something is not as it was."""
        if self.differences:
            raise InputError(
                f"Run {self.original.row.name} cannot be repeated as it was: {' '.join(self.differences)} "
                "--anyway trains all the same."
            )


@dataclass(frozen=True)
class Reproduction:
    """What came of it: the new run, and how it compares with the old one."""

    outcome: TrainOutcome
    sameness: Sameness


def rehearse(reference: str, settings: Settings, *, data: Path | None = None) -> Rehearsal:
    """Look up the training that `reference` names (see find_run) and whether it can be repeated here; trains nothing.

    `data` is where the training set is now, if not where it was. Raises what fetch_original and make_plan
    raise, and InputError for another training set.
    """
    original = fetch_original(connect(settings), reference, settings)
    request = original.request(data)
    plan = make_plan(request, settings)
    wanted = original.row.params["dataset_digest"]
    if plan.digest != wanted:
        raise InputError(
            f"The training set {plan.dataset.path} is not the one that {original.row.name} was trained on "
            f"(digest {plan.digest[:12]}, was {wanted[:12]}); bring that back, or name it with --data."
        )
    if plan.registry is None:
        raise RegistryError("MLflow went away while the training was prepared; run the same command again.")
    here = run_tags(plan, read_provenance(Path.cwd()))
    differences = (
        *_source_differences(original, here, source_diff(Path.cwd(), settings.source_diff)),
        *_version_differences(original, here),
        *_machine_differences(original, here),
        *_weights_differences(original, here),
        *_course_differences(original, plan.registry),
    )
    return Rehearsal(original, request, plan, differences)


def reproduce(rehearsal: Rehearsal, settings: Settings) -> Reproduction:
    """Train once more, in a run of its own that registers nothing, and compare every metric with the old run's.

    The verdict is in tags of the new run, and the old run's tag transect.reproduced_by names it.
    Raises what `train` raises.
    """
    original = rehearsal.original
    found: list[Sameness] = []

    def judge(log: RunLog) -> None:
        sameness = compare_histories(original.histories, told_metrics(log.spool))
        log.tags({TAG_REPRODUCTION: sameness.sentence, TAG_DIFFERENCE: f"{sameness.largest:.6g}"})
        found.append(sameness)

    outcome = train_plan(rehearsal.plan, rehearsal.request, settings, judge=judge)
    _tell_the_original(rehearsal, outcome)
    return Reproduction(outcome, found[0])


def told_metrics(spool: Spool) -> Histories:
    """What a run has told, whether MLflow has it already or not."""
    found: dict[str, dict[int, float]] = {}
    for entry in spool.entries():
        if entry.kind == "metrics":
            for name, value in entry.data["values"].items():
                if comes_out_the_same(name):
                    found.setdefault(name, {})[entry.data["step"]] = value
    return found


def _tell_the_original(rehearsal: Rehearsal, outcome: TrainOutcome) -> None:
    registry, run_id = rehearsal.plan.registry, rehearsal.original.row.run_id
    try:
        assert registry is not None  # noqa: S101 - without one there is no rehearsal
        with translated(registry.uri, f"tagging run {run_id}"):
            registry.client.set_tag(run_id, TAG_REPRODUCED_BY, outcome.run_id)
    except RegistryError as error:
        logger.warning("Run %s does not say that %s reproduces it: %s", run_id, outcome.run_id, error)


def _source_differences(original: Original, here: Mapping[str, str], changes: str) -> list[str]:
    was, now = original.row.tags.get(TAG_COMMIT, UNKNOWN), here[TAG_COMMIT]
    patch, unknown = _parts(original.patch.read_text(errors="surrogateescape") if original.patch.is_file() else "")
    if unknown:
        logger.warning("Files that git did not know may have been part of it: %s.", summarise(tuple(unknown)))
    apply = f" git apply {original.patch}" if patch else ""
    if was != now:
        if UNKNOWN in (was, now):
            return [f"Its commit is {was} and here it is {now}, so that nobody can say whether the code is the same."]
        also = f" &&{apply}" if apply else ""
        return [f"It ran from commit {was} and this is {now}: git checkout {was}{also}."]
    if patch == _parts(changes)[0]:
        return []
    if not patch:
        return ["It ran from the commit as it is, and here something was changed since: git stash."]
    return [f"It ran with other local changes than there are here: git stash &&{apply}."]


def _parts(changes: str) -> tuple[str, list[str]]:
    """The patch itself, and what the lines above it name."""
    above = "# not in git: "
    lines = changes.splitlines(keepends=True)
    if any(line.startswith("# left out: ") for line in lines):
        logger.warning(
            "What looked like a secret was left out of the changes, so nobody can say whether it is the same."
        )
    names = [line.removeprefix(above).strip() for line in lines if line.startswith(above)]
    return "".join(line for line in lines if not line.startswith(above)), names


def _version_differences(original: Original, here: Mapping[str, str]) -> list[str]:
    found = []
    known = {name for name in {*original.row.tags, *here} if name.startswith(_VERSION)} - _NO_MATTER
    for name in sorted(known):
        was, now = original.row.tags.get(name, "not there"), here.get(name, "not there")
        if name == "version.python":
            was, now = _minor(was), _minor(now)
        if was != now:
            found.append(f"{name.removeprefix(_VERSION)} was {was} and is {now}.")
    if found and original.packages.is_file():
        found.append(f"All its packages: pip install -r {original.packages}.")
    return found


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _machine_differences(original: Original, here: Mapping[str, str]) -> list[str]:
    """On a CPU the order of sums depends on its instructions and on the number of threads, on a GPU on the GPU."""
    was = original.row.tags
    if (was.get("transect.device") == "cpu") != (here["transect.device"] == "cpu"):
        setting = "cpu" if was.get("transect.device") == "cpu" else "cuda"
        return [f"It trained on {_device(was)} and here would on {_device(here)}: TRANSECT_DEVICE={setting}."]
    if here["transect.device"] != "cpu":
        return _changed("GPU", was.get("transect.gpu", UNKNOWN), here["transect.gpu"])
    from ultralytics.utils import NUM_THREADS

    threads = original.row.params.get("cpu_threads", str(NUM_THREADS))
    return [
        *_changed("CPU", was.get("transect.cpu", UNKNOWN), here["transect.cpu"]),
        *_changed("number of CPU threads", threads, str(NUM_THREADS)),
    ]


def _changed(what: str, was: str, now: str) -> list[str]:
    return [f"Its {what} was {was} and is {now}."] if was != now else []


def _device(tags: Mapping[str, str]) -> str:
    return "the CPU" if tags.get("transect.device") == "cpu" else f"the GPU {tags.get('transect.gpu', UNKNOWN)}"


def _weights_differences(original: Original, here: Mapping[str, str]) -> list[str]:
    kind, digest = "transect.weights_used", "transect.weights_sha256"
    was, now = original.row.tags, here
    if was.get(kind) != now[kind]:
        return [f"It started from the weights {was.get(kind)} and here would start from {now[kind]}."]
    if digest in was and was[digest] != now.get(digest):
        return [f"The weights that it started from are others now ({now[kind]}: {original.row.params['pretrained']})."]
    return []


def _course_differences(original: Original, registry: Registry) -> list[str]:
    """What happened on the way, so that one training from the start is not the same."""
    found = []
    if original.drift is None:
        found.append("Its parameters changed on the way, and MLflow holds only a part of what they were (param_drift).")
    elif original.drift:
        changes = ", ".join(f"{name} from {one['old']} to {one['new']}" for name, one in original.drift.items())
        found.append(f"Its parameters changed on the way ({changes}), and would be the last ones from the start.")
    parent, digest = original.row.tags.get(TAG_PARENT_RUN), original.row.params["dataset_digest"]
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
    with translated(registry.uri, f"looking up run {run_id}"):
        run = run_or_none(registry.client, run_id)
    return None if run is None else dict(run.data.tags)
