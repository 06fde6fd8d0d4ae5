"""OpenVINO on the CPU: parallel requests of one tile each, which are faster there than batches."""

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
    """The module `openvino`, imported so that it reports to nobody. Raises ImportError without it."""
    # On import OpenVINO reports its use to a web service through this module. None in sys.modules
    # makes that import fail, upon which OpenVINO uses its own silent stand-in.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # documented, but typed as a module
    import openvino

    return openvino


@cache
def openvino_core() -> Any:
    """The one `openvino.Core` of this process, for every network. Raises ImportError without OpenVINO.

    A core's CPU plugin gives the thread that loads it a stack for signals, on which Python handles
    Ctrl-C and SIGTERM, and takes it away when the core goes. Of two cores whose lives overlap, the
    second puts back the first one's stack, which is gone then: the next signal is a segmentation
    fault. So there is one core, for good, and a thread that is over has its stack.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_load_core).result()


def _load_core() -> Any:
    ov = import_openvino()
    core = ov.Core()
    # The first question to it loads the plugin.
    core.get_property("CPU", "FULL_DEVICE_NAME")
    # OpenVINO's bindings prepare their use of NumPy at the first array, and wait for each other while they hold the
    # interpreter's lock: where several threads bring the first arrays of a process together, it stands still for good.
    # So a smallest network runs here, on one thread.
    value = ov.opset13.parameter([1], np.float32)
    request = core.compile_model(ov.Model([ov.opset13.relu(value)], [value]), "CPU").create_infer_request()
    request.infer({0: np.zeros(1, np.float32)}, share_inputs=True, share_outputs=True)
    _ = request.get_output_tensor(0).data
    return core


def native_precisions() -> frozenset[Precision]:
    """What OpenVINO computes in hardware on this CPU.

    It lists BF16 only where the CPU has the instructions (AVX512-BF16, AVX-NE-CONVERT or AMX). INT8
    it lists everywhere; there we ask the CPU ourselves. Neither asks what oneDNN was told to leave unused.
    """
    listed = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found: set[Precision] = {"fp32"}
    if "BF16" in listed:
        found.add("bf16")
    if "INT8" in listed and has_byte_dot_products():
        found.add("int8")
    return frozenset(found - forbidden_precisions(os.environ))


def forbidden_precisions(environ: Mapping[str, str]) -> frozenset[Precision]:
    """What oneDNN, which computes for OpenVINO, has no instructions for below the limit that `environ` sets it.

    A limit (see onednn_limit) that is not listed here is of a newer instruction set.
    """
    limit = onednn_limit(environ)
    if limit in _WITHOUT_BYTE_DOT_PRODUCTS:
        return frozenset({"bf16", "int8"})
    return frozenset({"bf16"} if limit in _WITHOUT_BF16 else ())


def has_byte_dot_products(cpuinfo: str | None = None) -> bool:
    """Whether the CPU sums products of bytes in 32 bits (VNNI, AMX, or ARM's dot product).

    `cpuinfo` is text as in /proc/cpuinfo. A CPU without it sums pairs in 16 bits, which saturate
    (oneDNN's guide, "Nuances of int8 Computations"): it finds other boxes than those that were
    measured when the variant was made.
    """
    if cpuinfo is None:
        source = Path("/proc/cpuinfo")
        if not source.exists():
            # Every ARM processor that runs macOS has it; of others nothing is known here.
            return platform.machine() == "arm64"
        cpuinfo = source.read_text()
    return any(flag in cpuinfo for flag in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp"))


def network_kernels(network: Any) -> str:
    """Eight hexadecimal digits that stand for the kernels which OpenVINO chose for the layers of a compiled network.

    Their names hold instruction set and precision (`brgconv_avx512_amx_bf16`). They tell apart what the CPU's flags
    do not: what the system does not let a process use (AMX), and layers that heed no limit of oneDNN.
    """
    layers = network.get_runtime_model().get_ops()
    known = [layer.get_rt_info() for layer in layers]
    names = sorted(info["primitiveType"].astype(str) for info in known if "primitiveType" in info)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]


class OpenVino:
    """A compiled network; each thread has a request of its own."""

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
            # Its own default is bfloat16 where the CPU has it. An INT8 model's remaining layers stay in
            # fp32, so that it computes the same on every CPU.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "THROUGHPUT",
            # Several processes on one machine must not fight for the same cores.
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
        """As in Backend. A contiguous image is read where it lies, another is copied into the request's own tensor."""
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
        # The requests of other threads hold the network too.
        self._network, self._local = None, threading.local()

    def _request(self) -> tuple[Any, NDArray[np.uint8]]:
        local = self._local
        if getattr(local, "request", None) is None:
            if self._network is None:
                raise PackageError("The detector is closed; open its package again.")
            local.request = self._network.create_infer_request()
            local.own = np.empty(tuple(self._network.input(0).shape), np.uint8)
        return local.request, local.own
