"""How much of /dev/shm the data loaders of a training take, and whether it is there.

A loader's worker processes hand their batches over in shared memory, from where a thread of the training copies them
into page-locked memory. What does not fit there is lost, and the training waits for it for ever: PyTorch says so in the
terminal and goes on (seen with 2.15). So a training that could come to that is refused.
"""

import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.datasets import Dataset
from transect.errors import InputError

PLACE = Path("/dev/shm")  # noqa: S108 - it is what is measured; nothing is written there

_PAGE = 4096
# Classes, boxes and the picture that each belongs to. They hold 24 bytes an object: nothing beside pixels.
_LABEL_TENSORS = 3
_CHANNELS = 3
# As ultralytics.data.build.build_dataloader has them; those of a validation hold fewer.
_PREFETCH_TRAIN, _PREFETCH_VAL = 4, 2
# Of almost every detection network; the trainer, which has the network, looks again.
_STRIDE = 32
# Ultralytics pads the rectangles of a validation by this part of a stride before it rounds up.
_VAL_PAD = 0.5


@dataclass(frozen=True)
class Loader:
    """The worker processes of one data loader, batches that each may have ready, and a batch's pictures in pixels."""

    workers: int
    prefetch: int
    batch: int
    height: int
    width: int

    @property
    def batch_bytes(self) -> int:
        """What one batch takes: a byte a channel of a pixel, and labels; each tensor is a file of whole pages."""
        pixels = self.batch * _CHANNELS * self.height * self.width
        return (math.ceil(pixels / _PAGE) + _LABEL_TENSORS) * _PAGE

    @property
    def most(self) -> int:
        """What the workers may have ready while nobody fetches it, in bytes."""
        return self.workers * self.prefetch * self.batch_bytes


def plan_loaders(dataset: Dataset, arguments: Mapping[str, Any], gpus: int, cores: int) -> tuple[Loader, ...]:
    """The loaders that Ultralytics makes for these arguments of its own on a machine with `gpus` and `cores`.

    Empty where only the trainer knows: a batch that is fitted to the memory, or a part of the training set.
    """
    from ultralytics.cfg import get_cfg

    args: Any = get_cfg(overrides=dict(arguments))
    batch, side = args.batch, args.imgsz
    if not isinstance(side, int) or not isinstance(batch, int) or batch < 1 or args.fraction != 1:
        return ()
    side = math.ceil(side / _STRIDE) * _STRIDE
    train, val = dataset.splits["train"], dataset.splits["val"]
    height, width = val_rectangle(val.sizes, side, _STRIDE)
    most = cores // max(gpus, 1)
    return (
        _loader(len(train.images), batch, min(most, args.workers), _PREFETCH_TRAIN, (side, side)),
        _loader(len(val.images), 2 * batch, min(most, 2 * args.workers), _PREFETCH_VAL, (height, width)),
    )


def _loader(images: int, batch: int, workers: int, prefetch: int, shape: tuple[int, int]) -> Loader:
    batch = min(batch, images)
    batches = math.ceil(images / batch)
    return Loader(0 if batches <= 1 else min(workers, batches), prefetch, batch, *shape)


def val_rectangle(sizes: Iterable[tuple[int, int]], side: int, stride: int) -> tuple[int, int]:
    """Height and width that the batches of a validation have at most, in pixels; `sizes` are width and height."""
    ratios = [height / width for width, height in sizes]
    parts = min(1.0, max(ratios)), min(1.0, 1 / min(ratios))
    height, width = (math.ceil(part * side / stride + _VAL_PAD) * stride for part in parts)
    return height, width


def built_loaders(*loaders: Any) -> tuple[Loader, ...]:
    """The loaders of a trainer as Ultralytics has built them."""
    return tuple(_as_built(loader) for loader in loaders)


def _as_built(loader: Any) -> Loader:
    dataset = loader.dataset
    height, width = (int(value) for value in dataset.batch_shapes.max(0)) if dataset.rect else (dataset.imgsz,) * 2
    return Loader(loader.num_workers, loader.prefetch_factor or 0, loader.batch_size, height, width)


def check_plan(dataset: Dataset, arguments: Mapping[str, Any]) -> None:
    """Raise InputError when /dev/shm may not hold what a training with these arguments of Ultralytics hands over.

    Says nothing where only the trainer knows.
    """
    import torch

    # Without a GPU Ultralytics loads in the process that trains.
    if arguments["device"] != "cpu":
        check_loaders(plan_loaders(dataset, arguments, torch.cuda.device_count(), os.cpu_count() or 1))


def check_loaders(loaders: Sequence[Loader]) -> None:
    """Raise InputError when these loaders may have more ready than /dev/shm has room for.

    A system without /dev/shm has no such bound.
    """
    needed = sum(loader.most for loader in loaders)
    if needed and PLACE.is_dir() and needed > (free := shutil.disk_usage(PLACE).free):
        raise InputError(
            f"The data loaders may need {needed / 1e9:.2f} GB of shared memory and {PLACE} has {free / 1e9:.2f} GB "
            "free; give a container a larger shm_size (compose.gpu.yaml gives 32g), or train with fewer workers or a "
            "smaller batch or imgsz, such as: workers=2"
        )
