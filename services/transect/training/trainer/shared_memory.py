"""The shared memory (/dev/shm) that the data loaders of a training need, checked before it starts.

A loader's worker processes pass their batches through shared memory, from where a thread of the training copies them
into page-locked memory. A batch that does not fit is lost, and the training waits for it for ever: PyTorch only prints
the error (seen with 2.15). So a training that could run out of it is refused.
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

SHM = Path("/dev/shm")  # noqa: S108 - only its free space is read; nothing is written there

_PAGE = 4096
# Classes, boxes and image indices: 24 bytes an object, negligible beside pixels.
_LABEL_TENSORS = 3
_CHANNELS = 3
# As in ultralytics.data.build.build_dataloader.
_PREFETCH_TRAIN, _PREFETCH_VAL = 4, 2
# Of almost every detection network; the trainer checks again with the actual stride.
_STRIDE = 32
# Ultralytics pads validation rectangles by this fraction of a stride before it rounds up.
_VAL_PAD = 0.5


@dataclass(frozen=True)
class Loader:
    """One data loader: worker processes, batches that each prefetches, images a batch, and their size in pixels."""

    workers: int
    prefetch: int
    batch: int
    height: int
    width: int

    @property
    def batch_bytes(self) -> int:
        """The bytes of one batch: one byte a channel of a pixel, and labels; each tensor is a file of whole pages."""
        pixels = self.batch * _CHANNELS * self.height * self.width
        return (math.ceil(pixels / _PAGE) + _LABEL_TENSORS) * _PAGE

    @property
    def max_bytes(self) -> int:
        """The bytes of all batches that the workers may have prefetched."""
        return self.workers * self.prefetch * self.batch_bytes


def plan_loaders(dataset: Dataset, arguments: Mapping[str, Any], gpus: int, cores: int) -> tuple[Loader, ...]:
    """The loaders that Ultralytics will build for these arguments on a machine with `gpus` and `cores`.

    Empty where only the trainer can tell: a batch fitted to the GPU's memory, or a fraction of the training set. With
    several GPUs to train on each has loaders of its own, for its share of the batch and of the images.
    """
    from ultralytics.cfg import get_cfg

    args: Any = get_cfg(overrides=dict(arguments))
    batch, side = args.batch, args.imgsz
    if not isinstance(side, int) or not isinstance(batch, int) or batch < 1 or args.fraction != 1:
        return ()
    side = math.ceil(side / _STRIDE) * _STRIDE
    ranks = len(str(arguments.get("device", "")).split(","))
    train, val = (math.ceil(len(dataset.splits[name].images) / ranks) for name in ("train", "val"))
    batch //= ranks
    height, width = val_rectangle(dataset.splits["val"].sizes, side, _STRIDE)
    most = cores // max(gpus, 1)
    return (
        _loader(train, batch, min(most, args.workers), _PREFETCH_TRAIN, (side, side)),
        _loader(val, 2 * batch, min(most, 2 * args.workers), _PREFETCH_VAL, (height, width)),
    ) * ranks


def _loader(images: int, batch: int, workers: int, prefetch: int, shape: tuple[int, int]) -> Loader:
    batch = min(batch, images)
    batches = math.ceil(images / batch)
    return Loader(0 if batches <= 1 else min(workers, batches), prefetch, batch, *shape)


def val_rectangle(sizes: Iterable[tuple[int, int]], side: int, stride: int) -> tuple[int, int]:
    """The maximum height and width of validation batches in pixels; `sizes` are (width, height)."""
    ratios = [height / width for width, height in sizes]
    parts = min(1.0, max(ratios)), min(1.0, 1 / min(ratios))
    height, width = (math.ceil(part * side / stride + _VAL_PAD) * stride for part in parts)
    return height, width


def built_loaders(*loaders: Any) -> tuple[Loader, ...]:
    """The loaders that Ultralytics has built for a trainer."""
    return tuple(_as_built(loader) for loader in loaders)


def _as_built(loader: Any) -> Loader:
    dataset = loader.dataset
    height, width = (int(value) for value in dataset.batch_shapes.max(0)) if dataset.rect else (dataset.imgsz,) * 2
    return Loader(loader.num_workers, loader.prefetch_factor or 0, loader.batch_size, height, width)


def check_shared_memory(dataset: Dataset, arguments: Mapping[str, Any]) -> None:
    """Raise InputError when /dev/shm may be too small for a training with these arguments of Ultralytics.

    Passes where only the trainer can tell (see plan_loaders).
    """
    import torch

    # Without a GPU Ultralytics loads images in the training process.
    if arguments["device"] != "cpu":
        check_loaders(plan_loaders(dataset, arguments, torch.cuda.device_count(), os.cpu_count() or 1))


def check_loaders(loaders: Sequence[Loader]) -> None:
    """Raise InputError when these loaders may prefetch more than the free space of /dev/shm.

    A system without /dev/shm has no such limit.
    """
    needed = sum(loader.max_bytes for loader in loaders)
    if needed and SHM.is_dir() and needed > (free := shutil.disk_usage(SHM).free):
        raise InputError(
            f"The data loaders may need {needed / 1e9:.2f} GB of shared memory and {SHM} has {free / 1e9:.2f} GB "
            "free; give a container a larger shm_size (compose.gpu.yaml gives 32g), or train with fewer workers or a "
            "smaller batch or imgsz, such as: workers=2"
        )
