"""A trainer that can be killed at any moment and resumed: atomic checkpoints, and the state that they lack.

Ultralytics' checkpoint has the averaged weights in half precision, and neither accumulated gradients
nor the state of the random number generators: a training resumed from it alone gives other results.
Where one process does everything (on a CPU), that state is saved beside it, and the resumed training is
bit-equal to an undisturbed one. With loader processes, as on a GPU, or several ranks the checkpoint alone is used.
"""

import logging
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.cfg import get_cfg
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from transect.datasets import Dataset
from transect.errors import InputError
from transect.files import atomic_path, atomic_write
from transect.training.config.safe_load import load_checkpoint
from transect.training.trainer.checkpoints import BEST, COMPLETE, COMPLETE_BEST, Checkpoint, cut_results, state_files
from transect.training.trainer.cpu_bf16 import restore_forward
from transect.training.trainer.dataset import ValidatedDatasetTrainer
from transect.training.trainer.signals import defer_interrupts
from transect.wording import count_of

logger = logging.getLogger(__name__)

# Arguments that a saved optimizer restores although the recipe has changed them.
_OPTIMIZER_ARGUMENTS = frozenset({"lr0", "momentum", "weight_decay"})
_GROUP_VALUES = ("lr", "initial_lr", "momentum", "betas", "weight_decay")


class _AllTrainedError(Exception):
    """The checkpoint's epochs are all done; only the last evaluation is missing."""


class _WholeFile(type(Path())):  # type: ignore[misc]  # the platform's own kind of path
    """A path whose `write_bytes` is atomic."""

    def write_bytes(self, data: bytes) -> int:
        atomic_write(Path(self), data)
        return len(data)


class ResumableTrainer(ValidatedDatasetTrainer):
    """Trains from the start, or resumes from `checkpoint`, which lies in the run's own folder.

    `before_save` is called after an epoch and before its checkpoint is written.
    """

    def __init__(self, dataset: Dataset, overrides: dict[str, Any], checkpoint: Checkpoint | None) -> None:
        self.before_save: Callable[[Any], None] = lambda _: None
        self._checkpoint = checkpoint
        self._state: dict[str, Any] | None = None
        self._accumulate = 1
        self._skipped = 0
        self._batch = -1
        self._last_step = -1
        super().__init__(dataset, overrides)
        self.last, self.best = _WholeFile(self.last), _WholeFile(self.best)
        self.add_callback("on_train_epoch_start", ResumableTrainer._begin_epoch)
        self.add_callback("on_train_batch_start", ResumableTrainer._begin_batch)

    @property
    def _writes(self) -> bool:
        """Whether this process writes the run's files: the only one, or rank 0 of several."""
        return RANK in {-1, 0}

    @property
    def accumulate(self) -> int:
        """Batches to an optimizer step; the first step after a resume counts from the last one before it."""
        return self._accumulate + self._skipped

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self._accumulate = batches

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Load the checkpoint's arguments, and apply the recipe's changes."""
        self.resume = self._checkpoint is not None
        if self._checkpoint is None:
            return
        path = str(self._checkpoint.path)
        saved = load_checkpoint(self._checkpoint.path).args
        own = {name: overrides[name] for name in ("data", "project", "name", "exist_ok", "save", "val", "device")}
        self.args = get_cfg({**saved, **self._checkpoint.changes, **own, "save_dir": None})
        self.args.model = self.args.resume = path

    def resume_training(self, ckpt: Mapping[str, Any] | None) -> None:
        """Restore the checkpoint and the state beside it."""
        if self._checkpoint is None or ckpt is None:
            return
        done = int(ckpt["epoch"]) + 1
        if self._checkpoint.complete:
            self.epoch = done - 1
            raise _AllTrainedError
        if done >= self.epochs:
            raise InputError(
                f"{count_of(done, 'epoch is', 'epochs are')} trained and epochs={self.epochs}; give more epochs to "
                "resume."
            )
        fresh = [
            {name: group[name] for name in _GROUP_VALUES if name in group} for group in self.optimizer.param_groups
        ]
        base: Any = super()
        base.resume_training(ckpt)
        if ckpt["train_metrics"]["fitness"] == ckpt["best_fitness"] and self._writes:
            # A kill between the two writes left the best checkpoint one behind.
            _copy(self._checkpoint.path, self.save_dir / BEST)
        self._state = _read_state(self.wdir / f"state-{done}.pt") if RANK == -1 else None
        if self._state is not None:
            unwrap_model(self.model).load_state_dict(self._state["model"])
            self.ema.ema.load_state_dict(self._state["ema"])
            self.optimizer.load_state_dict(self._state["optimizer"])
        if _OPTIMIZER_ARGUMENTS & set(self._checkpoint.changes):
            for group, values in zip(self.optimizer.param_groups, fresh, strict=True):
                group.update(values)
        if self._writes:
            cut_results(self.csv, done)

    def _load_checkpoint_state(self, ckpt: Mapping[str, Any]) -> None:
        """Restore Ultralytics' state; it also does so during a training, after a NaN loss."""
        base: Any = super()
        base._load_checkpoint_state(ckpt)
        restore_forward(self.ema.ema)

    def _do_train(self) -> None:
        base: Any = super()
        try:
            base._do_train()
        except _AllTrainedError:
            if (self.save_dir / COMPLETE_BEST).is_file():
                _copy(self.save_dir / COMPLETE_BEST, self.save_dir / BEST)
            base.final_eval()
            if self.args.plots:
                base.plot_metrics()

    def final_eval(self) -> None:
        """Evaluate the best weights, after `keep_complete`."""
        self.keep_complete()
        base: Any = super()
        base.final_eval()

    def keep_complete(self) -> None:
        """Keep both checkpoints before Ultralytics strips them: a kill from here on repeats no epoch."""
        if (self.save_dir / BEST).is_file():
            _copy(self.save_dir / BEST, self.save_dir / COMPLETE_BEST)
        _copy(self.last, self.save_dir / COMPLETE)

    def save_model(self) -> bool:
        """Journal the epoch's metrics, then write the state, then the checkpoint that commits both."""
        self.before_save(self)
        base: Any = super()
        with defer_interrupts():
            if self.train_loader.num_workers == 0 and RANK == -1:
                self._write_state()
            saved: bool = base.save_model()
        for path in state_files(self.save_dir):
            if path.name != f"state-{self.epoch + 1}.pt":
                path.unlink()
        return saved

    def _build_train_pipeline(self) -> None:
        """Build loaders and optimizer; again when memory ran out, which drops the accumulated gradients."""
        self._skipped = 0
        base: Any = super()
        base._build_train_pipeline()

    def optimizer_step(self) -> None:
        """Step, and record the batch."""
        base: Any = super()
        base.optimizer_step()
        self._skipped = 0
        self._last_step = self._batch + len(self.train_loader) * self.epoch

    def _write_state(self) -> None:
        model = unwrap_model(self.model)
        state = {
            "model": model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "gradients": {name: value.grad for name, value in model.named_parameters() if value.grad is not None},
            "last_step": self._last_step,
            "random": _random_state(self.train_loader),
            "buffer": list(self.train_loader.dataset.buffer),
        }
        with atomic_path(self.wdir / f"state-{self.epoch + 1}.pt") as temporary:
            torch.save(state, temporary)

    def _begin_epoch(self) -> None:
        self._batch = -1
        if self.train_loader.num_workers:
            return
        # The loader prefetches its random indices; a new iterator starts from the generator's current state.
        self.train_loader.reset()
        if self._state is None:
            return
        state, self._state = self._state, None
        for name, value in unwrap_model(self.model).named_parameters():
            if name in state["gradients"]:
                value.grad = state["gradients"][name].to(value.device)
        self._last_step = state["last_step"]
        self._skipped = self._last_step + 1
        dataset = self.train_loader.dataset
        for index in state["buffer"]:
            dataset.load_image(index)
        _restore_random(state["random"], self.train_loader)

    def _begin_batch(self) -> None:
        self._batch += 1


def _copy(source: Path, target: Path) -> None:
    atomic_write(target, source.read_bytes())


def _read_state(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged file fails in any way, and the checkpoint is enough
        logger.warning("%s cannot be read (%s); resuming from the checkpoint alone.", path, error)
        return None
    return state


def _random_state(loader: Any) -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - Ultralytics draws from this one
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "loader": loader.generator.get_state(),
    }


def _restore_random(state: Mapping[str, Any], loader: Any) -> None:
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    loader.generator.set_state(state["loader"])
