"""A check that a GPU computes a model in half precision (automatic mixed precision, AMP) as in float32."""

import logging
import re
from typing import Any

import torch

logger = logging.getLogger(__name__)

# GPUs whose half precision is known for NaN losses and models without detections; the list is Ultralytics' own
# (ultralytics.utils.checks.check_amp).
_KNOWN_FAULTS = re.compile(r"(?<![A-Z\d])(1630|1650|1660|T400|T550|T600|T1000|T1200|T2000|K40m)(?!\d)", re.IGNORECASE)
# Relative to the norm of the exact features. Rounding to 11 bits at each layer gives less than 0.01; bfloat16, with
# 8 bits, 0.02. A larger difference is no rounding.
_MOST_DIFFERENCE = 0.1
_SIDE = 256


def check_amp(model: Any) -> bool:
    """Whether a training of this model may use AMP on the device that it lies on.

    It replaces Ultralytics' function of this name, which compares two runs of a network that it downloads into
    the working directory: with a read-only root file system, every training would fail. This one compares the model
    itself, on a fixed pattern, and leaves it unchanged.
    """
    device = next(model.parameters()).device
    if device.type != "cuda":
        return False
    name = torch.cuda.get_device_name(device)
    if _KNOWN_FAULTS.search(name):
        logger.warning("The GPU %s is known for faults in half precision: training in float32.", name)
        return False
    difference = half_precision_difference(model, device.type, torch.float16)
    if difference <= _MOST_DIFFERENCE:
        return True
    logger.warning(
        "The GPU %s computes this model in half precision otherwise than in float32 (relative difference %.2g, at most "
        "%g is expected): training in float32.",
        name,
        difference,
        _MOST_DIFFERENCE,
    )
    return False


def half_precision_difference(model: Any, device_type: str, dtype: torch.dtype) -> float:
    """The relative difference |a - b| / |b| of the head's input features in `dtype` from those in float32.

    NaN or infinite where a value overflows. `model` is an Ultralytics network, whose last layer is its head. Neither
    its weights nor its mode change.
    """
    device = next(model.parameters()).device
    pattern = torch.rand((1, 3, _SIDE, _SIDE), generator=torch.Generator().manual_seed(0)).to(device)
    features: list[torch.Tensor] = []

    def capture(_: Any, arguments: tuple[Any, ...]) -> None:
        (layers,) = arguments
        features.append(torch.cat([layer.detach().float().flatten() for layer in layers]))

    training = model.training
    hook = model.model[-1].register_forward_pre_hook(capture)
    try:
        model.eval()
        with torch.no_grad():
            model(pattern)
            with torch.autocast(device_type, dtype=dtype):
                model(pattern)
    finally:
        hook.remove()
        model.train(training)
    exact, half = features
    return float(torch.linalg.vector_norm(half - exact) / torch.linalg.vector_norm(exact))
