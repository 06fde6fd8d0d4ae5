"""A GPU for a process that has none, at the narrowest place: ONNX Runtime's sessions and their bindings.

Python imports this file at its start where its folder is in PYTHONPATH. All computing is done by the CPU provider. The
folder GPU_STAND_IN holds `calls.jsonl`, a line for each session and each batch, and takes orders: the content of
`fault` is what CUDA answers from then on, in the words of ONNX Runtime; `room` is the largest batch that fits.

PyTorch has another stand-in, torch_cuda.py, which the folder TORCH_STAND_IN switches on.
"""

import importlib.abc
import importlib.util
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

_FOLDER = os.environ.get("GPU_STAND_IN")
_LOCK = threading.Lock()
_NO_MEMORY = "Failed to allocate memory for requested buffer of size 268435456 (BFCArena::AllocateRawInternal)"


def _record(**call: object) -> None:
    with _LOCK, Path(str(_FOLDER), "calls.jsonl").open("a") as file:
        file.write(json.dumps(call | {"thread": threading.current_thread().name}) + "\n")


def _order(name: str) -> str:
    try:
        return Path(str(_FOLDER), name).read_text().strip()
    except FileNotFoundError:
        return ""


class _Binding:
    """An IO binding whose device is the CPU."""

    def __init__(self, binding: Any, session: "_Session") -> None:
        self.real = binding
        self._session = session

    def bind_output(self, name: str, device: str = "cpu") -> None:
        self._session.devices.add(device)
        self.real.bind_output(name, "cpu")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class _Session:
    """A session that says that it runs on CUDA."""

    real: Any  # onnxruntime.InferenceSession, set below

    def __init__(self, model: str | bytes, options: Any = None, providers: Any = (), **more: Any) -> None:
        names = [one if isinstance(one, str) else one[0] for one in providers]
        self._gpu = bool(names) and names[0] != "CPUExecutionProvider"
        self._names = names
        self._model = model if isinstance(model, str) else f"{len(model)} bytes"
        self.devices: set[str] = set()
        if self._gpu:
            given = {one[0]: one[1] for one in providers if not isinstance(one, str)}
            _record(call="open", model=self._model, providers=given)
            self._fail()
        self._real = self.real(model, options, providers=["CPUExecutionProvider"], **more)

    def get_providers(self) -> list[str]:
        return [*self._names, "CPUExecutionProvider"] if self._gpu else list(self._real.get_providers())

    def io_binding(self) -> Any:
        return _Binding(self._real.io_binding(), self) if self._gpu else self._real.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any = None) -> None:
        if not self._gpu:
            self._real.run_with_iobinding(binding, options)
            return
        self._real.run_with_iobinding(binding.real, options)
        batch = binding.real.get_outputs()[0].shape()[0]
        _record(call="run", model=self._model, batch=batch, devices=sorted(self.devices))
        self._fail()
        room = _order("room")
        if room and batch > int(room):
            raise RuntimeError(_NO_MEMORY)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @staticmethod
    def _fail() -> None:
        fault = _order("fault")
        if fault:
            raise RuntimeError(fault)


if _FOLDER:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    def _preload(**how: object) -> None:
        _record(call="preload", **how)

    _Session.real = onnxruntime.InferenceSession
    onnxruntime.InferenceSession = _Session
    onnxruntime.preload_dlls = _preload
    onnxruntime.get_available_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]


class _AfterTorch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Installs PyTorch's stand-in when PyTorch is imported, so that other processes need not import it."""

    _real: Any

    def find_spec(self, name: str, path: object, target: object = None) -> Any:
        if name != "torch":
            return None
        # Some ask whether PyTorch is there and do not import it.
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None:
            self._real, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: Any) -> Any:
        return self._real.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._real.exec_module(module)
        importlib.import_module("torch_cuda").install()


if os.environ.get("TORCH_STAND_IN"):
    sys.meta_path.insert(0, _AfterTorch())
