"""What makes one machine compute like another; found by Python at its start, also in the processes that tests start.

FORCED_FORWARD (bf16, fp32) and FORCED_THREADS come from tests/cpus/__main__.py. The moment is that in which a training
asks whether the processor computes in bfloat16: torch is there then, and nothing was computed yet.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

_MODULE = "transect.training.cpu"


def _force(module: ModuleType) -> None:
    import torch

    torch.set_num_threads(int(os.environ["FORCED_THREADS"]))
    if os.environ.get("ONEDNN_MAX_CPU_ISA") == "SSE41":
        # oneDNN reads the variable once. OpenVINO, which reads it too, cannot run below AVX2 on a machine with more.
        torch.nn.functional.conv2d(torch.ones(1, 3, 8, 8), torch.ones(4, 3, 3, 3))
        del os.environ["ONEDNN_MAX_CPU_ISA"]
    vars(module)["has_native_bf16"] = _forced_forward


def _forced_forward(cpuinfo: str | None = None) -> bool:
    return os.environ["FORCED_FORWARD"] == "bf16"


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the module be found as ever, and forces it once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_force(module: ModuleType) -> None:
                load(module)
                _force(module)

            vars(spec.loader)["exec_module"] = load_and_force
        return spec


if "FORCED_FORWARD" in os.environ:
    sys.meta_path.insert(0, _Finder())
