"""Resuming a training that was killed, stopped or failed: which run, which checkpoint, which changes are allowed."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.errors import InputError
from transect.files import atomic_path
from transect.settings import Settings
from transect.tracking.run_history import RunHistory
from transect.tracking.spool import Spool
from transect.tracking.sync import run_folders
from transect.training.plan import Plan, Stage
from transect.training.trainer.checkpoints import (
    BEST,
    COMPLETE,
    COMPLETE_BEST,
    LAST,
    TRAINED,
    Checkpoint,
    state_files,
)
from transect.wording import count_of

# A saved optimizer does not fit another one, nor saved weights another network.
_FIXED = ("optimizer",)
# With optimizer=auto Ultralytics chooses these itself.
_CHOSEN_BY_AUTO = ("lr0", "momentum", "warmup_bias_lr")
# A resumed training loads its checkpoint, and may run on another device.
_IGNORED = ("model", "pretrained", "device")


@dataclass(frozen=True)
class UnfinishedRun:
    """A run to resume: its folder, its spool and its replayed journal."""

    folder: Path
    spool: Spool
    history: RunHistory

    @property
    def trained(self) -> bool:
        """Whether its training is complete, and only the later stages are missing."""
        return (self.folder / TRAINED).is_file()


def resume_fingerprint(plan: Plan) -> dict[str, Any]:
    """The settings that a run's journal keeps, to check a later resume against."""
    return {
        "architecture": plan.architecture.name,
        "data": str(plan.dataset.path),
        "dataset_digest": plan.digest,
        "names": list(plan.dataset.names),
        "arguments": json.loads(json.dumps(dict(plan.arguments), default=str)),
    }


def find_unfinished(plan: Plan, settings: Settings, until: Stage = "registered") -> UnfinishedRun:
    """The newest unfinished run of this recipe and model with the same last stage and a checkpoint.

    Raises InputError when there is none.
    """
    wanted = (plan.recipe.experiment, plan.architecture.name)
    waiting: list[str] = []
    for folder in reversed(run_folders(settings)):
        spool = Spool(folder)
        history = RunHistory.read(spool)
        if (
            history.experiment,
            history.resume_fingerprint.get("architecture"),
        ) != wanted or history.status == "FINISHED":
            continue
        if history.resume_fingerprint.get("until", "registered") != until:
            continue
        if spool.state.version or any(entry.kind == "register" for entry in spool.pending()):
            waiting.append(folder.name)
        elif any((folder / name).is_file() for name in (TRAINED, COMPLETE, LAST)):
            return UnfinishedRun(folder, spool, history)
    hint = f"; {waiting[0]} only waits for MLflow: transect runs sync" if waiting else ""
    raise InputError(
        f"There is nothing to resume: no unfinished run of {wanted[0]} with {wanted[1]} under "
        f"{settings.home / 'train'} has a checkpoint{hint}. Start one without --resume."
    )


def check_unchanged(run: UnfinishedRun, plan: Plan, *, new_run: bool) -> None:
    """Raise InputError for a change that `run`, or a fork of it with `new_run`, does not allow."""
    before = run.history.resume_fingerprint
    if before["dataset_digest"] != plan.digest and not new_run:
        raise InputError(
            f"The training set {plan.dataset.path} is not the one that {run.folder.name} was trained on "
            f"(digest {plan.digest[:12]}, was {before['dataset_digest'][:12]}); bring that back, or resume in a new "
            "run: --resume --new-run"
        )
    if before["names"] != list(plan.dataset.names):
        raise InputError(
            f"The classes of {plan.dataset.path} are not those of {run.folder.name} "
            f"({', '.join(before['names'])}); start a new training without --resume."
        )
    changed = changed_arguments(run, plan)
    if fixed := [name for name in _FIXED if name in changed]:
        name = fixed[0]
        raise InputError(
            f"{name} was {before['arguments'].get(name)} in {run.folder.name} and cannot change on the way; "
            "start a new training without --resume."
        )
    trained = max((step for name, step in run.history.metrics if name == "train/loss"), default=0)
    epochs = plan.arguments.get("epochs")
    # The checkpoint may be one epoch behind; the trainer, which reads it, is exact.
    if isinstance(epochs, int) and epochs < trained and not run.trained:
        raise InputError(
            f"{count_of(trained, 'epoch is', 'epochs are')} trained and epochs={epochs}; give more epochs to resume."
        )
    if new_run and run.trained:
        raise InputError(f"{run.folder.name} is trained to its end; finish it with --resume alone.")


def changed_arguments(run: UnfinishedRun, plan: Plan) -> dict[str, Any]:
    """Ultralytics' arguments that changed since `run` was started."""
    before, now = run.history.resume_fingerprint["arguments"], resume_fingerprint(plan)["arguments"]
    skipped = set(_IGNORED)
    if now.get("optimizer", "auto") == "auto":
        skipped |= set(_CHOSEN_BY_AUTO)
    return {
        name: plan.arguments[name]
        for name in now
        if name not in skipped and (name not in before or before[name] != now[name])
    }


def checkpoint_of(run: UnfinishedRun, plan: Plan) -> Checkpoint:
    """The checkpoint to resume `run` from."""
    complete = run.folder / COMPLETE
    path = complete if complete.is_file() else run.folder / LAST
    return Checkpoint(path, complete.is_file(), changed_arguments(run, plan))


def fork(run: UnfinishedRun, checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Copy the checkpoint and state of `run` into the new run's `folder`; returns the copied checkpoint."""
    for path in (checkpoint.path, run.folder / BEST, run.folder / COMPLETE_BEST, *state_files(run.folder)):
        if path.is_file():
            with atomic_path(folder / path.relative_to(run.folder)) as temporary:
                shutil.copyfile(path, temporary)
    return Checkpoint(folder / checkpoint.path.relative_to(run.folder), checkpoint.complete, checkpoint.changes)
