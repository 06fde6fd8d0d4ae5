"""What makes one machine compute like another; found by Python at its start, also in the processes that tests start.

FORCED_ISA, FORCED_FORWARD (bf16, fp32) and FORCED_THREADS come from tests/cpus. The moment is that in which a training
asks whether the processor computes in bfloat16: torch is there then, and nothing was computed yet.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

_MODULE = "transect.training.trainer.cpu_bf16"


def _force(module: ModuleType) -> None:
    import torch

    if threads := os.environ.get("FORCED_THREADS"):
        torch.set_num_threads(int(threads))
    if isa := os.environ.get("FORCED_ISA"):
        # torch's oneDNN reads the variable once. OpenVINO has a oneDNN of its own, which reads it too and does not run
        # ("bad combination") below AVX2 on a machine with more: the variable is there for one convolution.
        os.environ["ONEDNN_MAX_CPU_ISA"] = isa
        torch.nn.functional.conv2d(torch.ones(1, 3, 8, 8), torch.ones(4, 3, 3, 3))
        del os.environ["ONEDNN_MAX_CPU_ISA"]
    if forward := os.environ.get("FORCED_FORWARD"):
        vars(module)["has_native_bf16"] = lambda cpuinfo=None: forward == "bf16"


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


if any(name.startswith("FORCED_") for name in os.environ):
    sys.meta_path.insert(0, _Finder())
