"""One Ultralytics training on a validated data set, with callbacks for progress and metrics."""

import gc
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import which
from typing import Any

import torch
from ultralytics.cfg import get_cfg

from transect.datasets import Dataset
from transect.errors import InputError
from transect.progress import Advance, progress
from transect.training.trainer.checkpoints import BEST, COMPLETE, Checkpoint, read_trained, write_trained
from transect.training.trainer.cpu_bf16 import enable_bf16_forward
from transect.training.trainer.dataset import stride_of
from transect.training.trainer.handover import write_data_yaml
from transect.training.trainer.ranks import Job, check_ranks, devices_of, train_on_ranks
from transect.training.trainer.resumable import ResumableTrainer
from transect.training.trainer.shared_memory import built_loaders, check_loaders

logger = logging.getLogger(__name__)

# Ultralytics' names of the metrics that we log, and ours.
METRICS = {
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
    "metrics/mAP50(B)": "mAP50",
    "metrics/mAP50-95(B)": "mAP50-95",
}

_DEFAULT_BATCH = 16
# Ultralytics checks the optimizer's name only when it builds it, minutes later.
_OPTIMIZERS = ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop")


@dataclass(frozen=True)
class TrainingCallbacks:
    """The caller's callbacks during training.

    `started` gets the effective configuration once the optimizer is built, and again after the batch was
    halved for lack of memory. `reduced` then gets the new batch and a sentence about it.
    `epoch` gets the number of an epoch, counted from 1, and its metrics.
    """

    started: Callable[[dict[str, Any]], None]
    epoch: Callable[[int, dict[str, float]], None]
    reduced: Callable[[int, str], None]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The result of a training.

    `val` are precision, recall, mAP50 and mAP50-95 of the weights `best` on the validation split, as
    Ultralytics measures them.
    """

    best: Path
    epochs: int
    image_size: int
    stride: int
    batch: int
    val: dict[str, float]


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise InputError for a value of the recipe that Ultralytics would refuse."""
    optimizer = str(arguments.get("optimizer", "auto"))
    if optimizer.lower() not in {name.lower() for name in _OPTIMIZERS}:
        raise InputError(f"optimizer={optimizer!r} is not usable: give one of {', '.join(_OPTIMIZERS)}.")
    if str(arguments.get("cache")).lower() == "disk":
        raise InputError(
            "cache=disk would write a copy of each picture into the training set; give cache=ram, or leave it out."
        )
    if arguments.get("compile") and not _has_compiler():
        raise InputError(
            "compile makes PyTorch call a C compiler, and there is none here; install one, or leave it out."
        )
    check_ranks(arguments)
    try:
        get_cfg(overrides=dict(arguments))
    except (TypeError, ValueError, SyntaxError) as error:
        raise InputError(f"The recipe has a value that Ultralytics refuses: {' '.join(str(error).split())}") from error


def _has_compiler() -> bool:
    """Whether a C compiler is installed, as Triton and PyTorch's inductor look for one."""
    return any(which(name) for name in (os.environ.get("CC"), os.environ.get("CXX"), "cc", "gcc", "clang") if name)


def run_training(
    dataset: Dataset,
    arguments: Mapping[str, Any],
    folder: Path,
    callbacks: TrainingCallbacks,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train into `folder`; `arguments` are Ultralytics' (model, pretrained, epochs, imgsz, ...).

    The dataset is used as `load_dataset` read it: Ultralytics neither opens its data.yaml, nor
    scans it again, nor writes caches into it, nor repairs its pictures in place. Training resumes from
    `checkpoint`, which lies in `folder`; a complete training is not repeated. On several devices a process
    trains on each, and the best weights are evaluated here, on the first. Raises InputError when
    the checkpoint cannot be used, RankError when one of the processes fails.
    """
    if (saved := read_trained(folder)) is not None:
        return Trained(**{**saved, "best": folder / saved["best"]})
    overrides = {
        **arguments,
        "task": "detect",
        "data": str(write_data_yaml(dataset, folder)),
        "project": str(folder.parent),
        "name": folder.name,
        "exist_ok": True,
        "save": True,
        "val": True,
    }
    devices = devices_of(str(arguments["device"]))
    if len(devices) > 1:
        # What Ultralytics is to take for all ranks: the GPUs of all, or the CPU.
        overrides["device"] = "cpu" if devices[0] == "cpu" else str(arguments["device"])
        if checkpoint is None or not checkpoint.complete:
            job = Job(
                dataset=dataset,
                arguments=dict(arguments),
                overrides=dict(overrides),
                folder=folder,
                checkpoint=checkpoint,
                # prepare_ultralytics has put Ultralytics' own files there.
                home=Path(os.environ["YOLO_CONFIG_DIR"]).parent,
            )
            _train_on_ranks(job, devices, callbacks)
        overrides["device"] = devices[0]
        # On one device its share of the batch fits.
        changes = {"batch": int(arguments.get("batch", _DEFAULT_BATCH)) // len(devices)}
        checkpoint = Checkpoint(folder / COMPLETE, complete=True, changes=changes)
    with ExitStack() as stack:
        trainer: Any = ResumableTrainer(dataset, overrides, checkpoint)
        attach_callbacks(trainer, callbacks, stack, arguments)
        trainer.train()
    trained = Trained(
        best=folder / BEST,
        epochs=trainer.epoch + 1,
        image_size=int(trainer.args.imgsz),
        stride=stride_of(trainer.model),
        batch=int(trainer.batch_size) * len(devices),
        val={ours: float(trainer.metrics[theirs]) for theirs, ours in METRICS.items()},
    )
    write_trained(folder, {**asdict(trained), "best": str(BEST)})
    del trainer
    gc.collect()
    # Release PyTorch's cached GPU memory for the evaluation that follows.
    torch.cuda.empty_cache()
    return trained


def attach_callbacks(
    trainer: Any, callbacks: TrainingCallbacks, stack: ExitStack, arguments: Mapping[str, Any]
) -> None:
    """Let an Ultralytics trainer report to `callbacks`, with a progress bar that `stack` ends."""
    _UltralyticsCallbacks(callbacks, stack, arguments).attach(trainer)


def _train_on_ranks(job: Job, devices: Sequence[str], callbacks: TrainingCallbacks) -> None:
    def report(name: str, data: Mapping[str, Any]) -> None:
        if name == "started":
            callbacks.started(data["arguments"])
        else:
            callbacks.epoch(data["number"], data["values"])

    train_on_ranks(job, devices, report)


@dataclass
class _UltralyticsCallbacks:
    """Adapts Ultralytics' callbacks to one progress bar and one set of metrics an epoch."""

    callbacks: TrainingCallbacks
    stack: ExitStack
    arguments: Mapping[str, Any]
    advance: Advance | None = None
    losses: dict[str, float] = field(default_factory=dict)
    last: str = ""
    bf16: bool = False
    # The batch that was requested, and the one in use.
    wanted_batch: int = 0
    batch_size: int = 0
    # Batches of the progress bar: done, and in total.
    done: int = 0
    total: int = 0

    def attach(self, trainer: Any) -> None:
        trainer.add_callback("on_pretrain_routine_end", self.started)
        trainer.add_callback("on_train_epoch_start", self.epoch_started)
        trainer.add_callback("on_train_batch_end", self.batch)
        trainer.add_callback("on_train_epoch_end", self.trained)
        # Before the checkpoint: so the metrics of every epoch that a checkpoint holds are journalled.
        trainer.before_save = self.validated

    def started(self, trainer: Any) -> None:
        # No worker runs yet, and Ultralytics has fitted the batch to the GPU by now.
        check_loaders(built_loaders(trainer.train_loader, trainer.test_loader) * max(trainer.world_size, 1))
        self.bf16 = enable_bf16_forward(trainer)
        self.wanted_batch = self.batch_size = trainer.batch_size
        self.total = len(trainer.train_loader) * (trainer.epochs - trainer.start_epoch)
        self.advance = self.stack.enter_context(progress("Training", self.total, "batches"))
        self.report_configuration(trainer)

    def report_configuration(self, trainer: Any) -> None:
        self.callbacks.started(
            {
                **vars(trainer.args),
                **_effective_arguments(trainer, self.bf16),
                # A resumed training has its checkpoint here; the parameters keep the original values.
                **{name: self.arguments[name] for name in ("model", "pretrained")},
                "resume": False,
            }
        )

    def epoch_started(self, trainer: Any) -> None:
        """Detect that Ultralytics restarts an epoch, and with which batch.

        When memory runs out in the first epoch it halves the batch, rebuilds the loaders and writes so to its own log
        alone; after a NaN loss it goes back to its checkpoint.
        """
        self.set_total(self.done + len(trainer.train_loader) * (trainer.epochs - trainer.epoch))
        if trainer.batch_size == self.batch_size:
            return
        self.batch_size = trainer.batch_size
        sentence = f"batch {self.wanted_batch} did not fit into the GPU's memory, trained with {self.batch_size}"
        logger.warning("%s.", sentence[0].upper() + sentence[1:])
        self.callbacks.reduced(self.batch_size, sentence)
        self.report_configuration(trainer)

    def set_total(self, batches: int) -> None:
        if self.advance is not None and batches != self.total:
            self.advance(0, total=batches)
            self.total = batches

    def batch(self, trainer: Any) -> None:
        self.done += 1
        if self.advance is not None and trainer.tloss:
            losses = " ".join(f"{name.removesuffix('_loss')} {float(loss):.3f}" for name, loss in trainer.tloss.items())
            self.advance(note=f"epoch {trainer.epoch + 1}/{trainer.epochs} {losses}{self.last}")

    def trained(self, trainer: Any) -> None:
        losses = {f"train/{name}": float(loss) for name, loss in trainer.tloss.items()}
        self.losses = {**losses, "train/loss": sum(losses.values()), **trainer.lr}

    def validated(self, trainer: Any) -> None:
        values = {**self.losses, **_validation(trainer.metrics)}
        self.losses = {}
        self.last = f" mAP50 {values['metrics/mAP50']:.3f}"
        if not sys.stderr.isatty():
            logger.info(
                "Epoch %d/%d: train loss %.3f, val loss %.3f, precision %.3f, recall %.3f, mAP50 %.3f, mAP50-95 %.3f",
                trainer.epoch + 1,
                trainer.epochs,
                values["train/loss"],
                values["val/loss"],
                *(values[f"metrics/{name}"] for name in METRICS.values()),
            )
        self.callbacks.epoch(trainer.epoch + 1, values)


def _effective_arguments(trainer: Any, bf16: bool) -> dict[str, Any]:
    """Effective values of the built loaders and optimizer that Ultralytics does not write back to its arguments.

    It does write back `batch`, `imgsz`, and, where optimizer=auto chose them, `optimizer`, `lr0` and
    `warmup_bias_lr`.
    """
    groups = trainer.optimizer.param_groups
    half = "bf16" if bf16 or trainer.args.amp == "bf16" else "fp16"
    return {
        "optimizer_used": type(trainer.optimizer).__name__,
        "initial_lr": ", ".join(f"{group['initial_lr']:g}" for group in groups),
        "momentum": _momentum(trainer),
        # Ultralytics scales it for a batch other than nbs; biases and normalisation have none.
        "weight_decay_used": max(group["weight_decay"] for group in groups),
        "workers": trainer.train_loader.num_workers,
        "batches_per_epoch": len(trainer.train_loader),
        "forward_precision": half if bf16 or trainer.amp else "fp32",
        "cpu_threads": torch.get_num_threads(),
    }


def _momentum(trainer: Any) -> float:
    group = trainer.optimizer.param_groups[0]
    if "betas" in group:
        return float(group["betas"][0])
    # optimizer=auto is built with another momentum, but warm-up still ends at the argument's.
    return float(trainer.args.momentum if trainer.args.warmup_epochs > 0 else group["momentum"])


def _validation(metrics: Mapping[str, Any]) -> dict[str, float]:
    losses = {name: float(value) for name, value in metrics.items() if name.startswith("val/")}
    return {
        **losses,
        "val/loss": sum(losses.values()),
        **{f"metrics/{ours}": float(metrics[theirs]) for theirs, ours in METRICS.items()},
    }
