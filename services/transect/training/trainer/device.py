"""The device of a training, and the reason when a requested GPU cannot be used."""

import logging
import os
import re
from collections.abc import Sequence

import torch

from transect.errors import SettingsError

logger = logging.getLogger(__name__)


def resolve_device(device: str) -> str:
    """Ultralytics' name of the device that TRANSECT_DEVICE selects; logs the choice of auto and all.

    Several GPUs have commas between: 0,1. Raises SettingsError for a requested GPU that is missing, that PyTorch has no
    code for, or that is named twice.
    """
    if device == "cpu":
        return "cpu"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        usable = [index for index in range(count) if _why_unusable(index) is None]
        if usable:
            logger.info("Training on the GPU %s.", torch.cuda.get_device_name(usable[0]))
            return str(usable[0])
        logger.info("%s. Training on the CPU.", f"The {_why_unusable(0)}" if count else "No CUDA GPU here")
        return "cpu"
    if device == "all":
        indices = [index for index in range(count) if _why_unusable(index) is None] or list(range(count)) or [0]
    else:
        indices = [int(index) for index in (device.removeprefix("cuda").removeprefix(":") or "0").split(",")]
    if max(indices) >= count:
        why = "" if count else _why_none()
        there = f"there are {count} CUDA GPUs here" + (f" ({why})" if why else "")
        raise SettingsError(f"TRANSECT_DEVICE={device}, but {there}; use auto or cpu.")
    if len(set(indices)) < len(indices):
        raise SettingsError(f"TRANSECT_DEVICE={device} names a GPU twice; name each once.")
    for index in indices:
        if (reason := _why_unusable(index)) is not None:
            raise SettingsError(f"TRANSECT_DEVICE={device}: the {reason}; use another GPU, or cpu.")
    if len(indices) > 1:
        names = ", ".join(torch.cuda.get_device_name(index) for index in indices)
        logger.info("Training on %d GPUs: %s.", len(indices), names)
    return ",".join(map(str, indices))


def has_code(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Whether code for these architectures runs on a GPU of this compute capability.

    `sm_XY` is machine code, for the GPUs of its major version from its minor version on; `compute_XY` is PTX, which the
    driver translates for every later GPU (CUDA C++ Programming Guide, "Binary Compatibility", "PTX Compatibility").
    Suffixes (`sm_90a`) are for one GPU alone.
    """
    for name in architectures:
        if (found := re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)) is None:
            continue
        have = int(found[2]), int(found[3])
        if found[4]:
            fits = have == capability
        elif found[1] == "sm":
            fits = have[0] == capability[0] and have[1] <= capability[1]
        else:
            fits = have <= capability
        if fits:
            return True
    return False


def _why_unusable(index: int) -> str | None:
    """Why a present GPU cannot train, as the end of a sentence that begins with "The"; None when it can."""
    capability = torch.cuda.get_device_capability(index)
    if has_code(capability, torch.cuda.get_arch_list()):
        return None
    return (
        f"GPU {torch.cuda.get_device_name(index)} has compute capability {capability[0]}.{capability[1]}, "
        f"for which PyTorch {torch.__version__} has no code"
    )


def _why_none() -> str:
    """PyTorch's reason why CUDA sees no GPU: the driver is missing or too old, or all GPUs are hidden."""
    reasons = []
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch has no types for it
    except (RuntimeError, AssertionError) as error:
        # The first sentence has the cause and a driver's version; advice for developers follows.
        reasons.append(re.split(r"(?<=[a-z)])\. ", " ".join(str(error).split()))[0].rstrip("."))
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        reasons.append(f"CUDA_VISIBLE_DEVICES={visible!r} hides the others")
    return "; ".join(reasons)
