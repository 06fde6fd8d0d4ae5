"""OpenVINO on the CPU: parallel requests of one tile each, which are faster than batches there."""

import hashlib
import os
import platform
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transect.engine.backends.base import BackendName, check_input
from transect.engine.backends.instructions import cpu_instructions, onednn_limit
from transect.engine.package import Precision
from transect.errors import PackageError

# Instruction sets, by oneDNN's names.
_WITHOUT_BYTE_DOT_PRODUCTS = frozenset({"SSE41", "AVX", "AVX2", "AVX512_CORE"})
_WITHOUT_BF16 = frozenset({"AVX2_VNNI", "AVX512_CORE_VNNI"})


def import_openvino() -> Any:
    """Import `openvino` with its telemetry disabled. Raises ImportError without it."""
    # On import OpenVINO sends telemetry through this module. None in sys.modules makes that import
    # fail, and OpenVINO then uses its silent stub.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # documented, but typed as a module
    import openvino

    return openvino


@cache
def openvino_core() -> Any:
    """The single `openvino.Core` of this process, for all networks. Raises ImportError without OpenVINO.

    A core's CPU plugin installs a signal stack in the thread that loads it, on which Python handles
    Ctrl-C and SIGTERM, and removes it with the core. If the lives of two cores overlap, the second
    restores the first one's stack, which is already freed: the next signal is a segmentation fault.
    So the core lives as long as the process, and its stack belongs to a thread that has ended.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_load_core).result()


def _load_core() -> Any:
    ov = import_openvino()
    core = ov.Core()
    # The first property access loads the plugin.
    core.get_property("CPU", "FULL_DEVICE_NAME")
    # OpenVINO's bindings initialize NumPy at the first array, and wait for each other while they hold the GIL:
    # if several threads pass the first arrays of a process concurrently, it deadlocks. So a tiny network runs here,
    # on one thread.
    value = ov.opset13.parameter([1], np.float32)
    request = core.compile_model(ov.Model([ov.opset13.relu(value)], [value]), "CPU").create_infer_request()
    request.infer({0: np.zeros(1, np.float32)}, share_inputs=True, share_outputs=True)
    _ = request.get_output_tensor(0).data
    return core


def native_precisions() -> frozenset[Precision]:
    """The precisions that OpenVINO computes in hardware on this CPU.

    OpenVINO lists BF16 only if the CPU has the instructions (AVX512-BF16, AVX-NE-CONVERT or AMX). It
    lists INT8 always, so this function checks the CPU itself. Neither includes oneDNN's limit, which is
    subtracted here.
    """
    listed = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found: set[Precision] = {"fp32"}
    if "BF16" in listed:
        found.add("bf16")
    if "INT8" in listed and has_byte_dot_products():
        found.add("int8")
    return frozenset(found - forbidden_precisions(os.environ))


def forbidden_precisions(environ: Mapping[str, str]) -> frozenset[Precision]:
    """The precisions that oneDNN, OpenVINO's kernel library, cannot compute under the limit set in `environ`.

    A limit (see onednn_limit) that is not listed here is a newer instruction set.
    """
    limit = onednn_limit(environ)
    if limit in _WITHOUT_BYTE_DOT_PRODUCTS:
        return frozenset({"bf16", "int8"})
    return frozenset({"bf16"} if limit in _WITHOUT_BF16 else ())


def has_byte_dot_products(cpuinfo: str | None = None) -> bool:
    """Whether the CPU sums products of bytes in 32 bits (VNNI, AMX, or ARM's dot product).

    `cpuinfo` is text as in /proc/cpuinfo. A CPU without it sums pairs in 16 bits, which saturate
    (oneDNN's guide, "Nuances of int8 Computations"): its boxes differ from those measured when
    the variant was made.
    """
    if cpuinfo is None:
        source = Path("/proc/cpuinfo")
        if not source.exists():
            # Every ARM processor that runs macOS has it; others are unknown.
            return platform.machine() == "arm64"
        cpuinfo = source.read_text()
    return any(flag in cpuinfo for flag in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp"))


def network_kernels(network: Any) -> str:
    """Hash (eight hexadecimal digits) of the kernels that OpenVINO chose for the layers of a compiled network.

    Kernel names contain instruction set and precision (`brgconv_avx512_amx_bf16`). They show differences that the
    CPU's flags do not: instructions that the system denies to a process (AMX), and layers that ignore oneDNN's limit.
    """
    layers = network.get_runtime_model().get_ops()
    known = [layer.get_rt_info() for layer in layers]
    names = sorted(info["primitiveType"].astype(str) for info in known if "primitiveType" in info)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]


class OpenVino:
    """A compiled network with one request per thread."""

    name: BackendName = "openvino"

    def __init__(self, model: Path, image_size: int, precision: Precision, threads: int) -> None:
        self.precision = precision
        ov, core = import_openvino(), openvino_core()
        network = core.read_model(model)
        shape = network.inputs[0].get_partial_shape()
        sizes = [None if size.is_dynamic else size.get_length() for size in shape]
        check_input(model, [None, *sizes[1:]], image_size)
        network.reshape([1, 3, image_size, image_size])
        steps = ov.preprocess.PrePostProcessor(network)
        steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        steps.input().model().set_layout(ov.Layout("NCHW"))
        steps.input().preprocess().convert_element_type(ov.Type.f32).scale(255.0)
        config: dict[str, str | bool | int] = {
            # OpenVINO's default is bfloat16 if the CPU has it. An INT8 model's remaining layers stay in
            # fp32, so that results are equal on every CPU.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "THROUGHPUT",
            # Pinned processes on one machine would compete for the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        self._network: Any = core.compile_model(steps.build(), "CPU", config)
        self.instructions = f"{cpu_instructions(onednn_limit(os.environ))} {network_kernels(self._network)}"
        self.library = f"openvino {ov.__version__}"
        # One more than the network runs at once, so that decoding a tile leaves no core idle.
        self.parallel = int(self._network.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + 1
        self._local = threading.local()

    def infer(self, image: NDArray[np.uint8], least: float = 0.0) -> NDArray[np.float32]:
        """As in Backend. A contiguous image is read in place, another is copied into the request's own tensor."""
        request, own = self._request()
        if image.flags.c_contiguous:
            pixels = image[None]
        else:
            np.copyto(own[0], image)
            pixels = own
        request.infer({0: pixels}, share_inputs=True, share_outputs=True)
        output: NDArray[np.float32] = request.get_output_tensor(0).data
        return output

    def close(self) -> None:
        """As in Backend."""
        # The requests of other threads reference the network too.
        self._network, self._local = None, threading.local()

    def _request(self) -> tuple[Any, NDArray[np.uint8]]:
        local = self._local
        if getattr(local, "request", None) is None:
            if self._network is None:
                raise PackageError("The detector is closed; open its package again.")
            local.request = self._network.create_infer_request()
            local.own = np.empty(tuple(self._network.input(0).shape), np.uint8)
        return local.request, local.own
