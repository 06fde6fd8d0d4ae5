"""A CUDA GPU for a process that has none, at the narrowest place: what PyTorch says of its GPU, and where tensors lie.

`sitecustomize` installs it after PyTorch's import where TORCH_STAND_IN names a folder. The CPU computes everything.
A tensor that is sent to `cuda` is copied, and its storage is marked. It says that it lies on cuda:0, as does all that
is computed from it. It cannot be mixed with tensors of the CPU, nor become a NumPy array, and a checkpoint that holds
it says cuda:0 of it. Half precision is computed in half precision, by autocast for the CPU. An address beyond this
machine is refused. The folder's `calls.jsonl` has a line for each question to the GPU, each function that ran on it
with its results' types, and each address that was refused; each line once a process.

What a GPU has of its own is not here: kernels, memory and its limits, streams, events, graphs, NVML, and autocast's
list of functions. In other threads than the main one all tensors say that they lie on the CPU.
"""

import errno
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

NAME, CAPABILITY, MEMORY = "NVIDIA Stand-in", (8, 0), 80 * 1024**3
# PyTorch's types know no descriptors.
_TENSOR: Any = torch.Tensor
_CPU, _CUDA = torch.device("cpu"), torch.device("cuda", 0)
_HERE = ("localhost", "127.0.0.1", "::1", "", None)
_told: set[str] = set()


def _record(**call: object) -> None:
    line = json.dumps(call)
    if line not in _told:
        _told.add(line)
        with Path(os.environ["TORCH_STAND_IN"], "calls.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def _storage(tensor: torch.Tensor) -> Any:
    return tensor.untyped_storage()


def _on_gpu(tensor: torch.Tensor) -> bool:
    return getattr(_storage(tensor), "on_stand_in", False)


def _same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    return _storage(one) is _storage(other)


def _put_on_gpu(tensor: torch.Tensor) -> None:
    # An attribute of the storage: views share it, and it ends with the memory.
    _storage(tensor).on_stand_in = True


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _is_cuda(device: object) -> bool:
    return torch.device(device).type == "cuda" if isinstance(device, int | str | torch.device) else False


def _refuse_numpy(tensor: torch.Tensor) -> None:
    if _on_gpu(tensor):
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
            "first."
        )


# Functions that take tensors of both.
_MIXING = {
    *(torch.Tensor.copy_, torch.Tensor.set_, torch.Tensor.type_as, torch.Tensor.view_as, torch.Tensor.expand_as),
    *(torch.Tensor.__getitem__, torch.Tensor.__setitem__, torch.Tensor.is_set_to, torch.Tensor.is_same_size),
    torch._has_compatible_shallow_copy_type,
    *(_TENSOR.data.__set__, _TENSOR.grad.__set__),
}


def _check_devices(func: Callable[..., Any], tensors: list[torch.Tensor]) -> None:
    if func not in _MIXING and any(tensor.dim() and not _on_gpu(tensor) for tensor in tensors):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})"
        )


def _send(tensor: torch.Tensor, device: object, *args: Any, **kwargs: Any) -> torch.Tensor:
    """`Tensor.to(device, ...)`: a copy in other memory where the device changes."""
    sent = tensor.to(_CPU, *args, **kwargs)
    to_gpu = _is_cuda(device)
    if to_gpu != _on_gpu(tensor) and _same_memory(sent, tensor):
        sent = sent.clone()
    if to_gpu:
        _put_on_gpu(sent)
        _record(call="to", device=str(device))
    return sent


def _to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor | None:
    """What `Tensor.to` means with these arguments; None where it keeps the device."""
    if args and isinstance(args[0], torch.Tensor):
        other, *rest = args
        return _send(tensor, _CUDA if _on_gpu(other) else _CPU, other.dtype, *rest, **kwargs)
    if args and isinstance(args[0], int | str | torch.device):
        return _send(tensor, *args, **kwargs)
    if kwargs.get("device") is not None:
        return _send(tensor, kwargs.pop("device"), *args, **kwargs)
    return None


def _cuda(tensor: torch.Tensor, device: Any = None, non_blocking: bool = False, **kwargs: Any) -> torch.Tensor:
    return _send(tensor, _CUDA if device is None else device, non_blocking=non_blocking, **kwargs)


def _cpu(tensor: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    return _send(tensor, _CPU, **kwargs)


_GETTERS: dict[Any, Callable[[torch.Tensor], Any]] = {
    _TENSOR.device.__get__: lambda tensor: _CUDA if _on_gpu(tensor) else tensor.device,
    _TENSOR.is_cuda.__get__: _on_gpu,
    _TENSOR.is_cpu.__get__: lambda tensor: tensor.is_cpu and not _on_gpu(tensor),
    torch.Tensor.get_device: lambda tensor: 0 if _on_gpu(tensor) else -1,
}
_MOVERS: dict[Any, Callable[..., torch.Tensor | None]] = {
    torch.Tensor.to: _to,
    torch.Tensor.cuda: _cuda,
    torch.Tensor.cpu: _cpu,
}
_TO_NUMPY = {_TENSOR.numpy, _TENSOR.__array__}


class _OnGpu(TorchFunctionMode):
    """Sees each call of a PyTorch function in this thread; within the call itself, all is of the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _GETTERS:
            return _GETTERS[func](args[0])
        if func in _MOVERS and (moved := _MOVERS[func](*args, **kwargs)) is not None:
            return moved
        if func in _TO_NUMPY:
            _refuse_numpy(args[0])
        if func is torch._C._nn._parse_to:
            # It reads arguments, and computes nothing.
            return func(*args, **kwargs)
        return self._call(func, args, kwargs)

    @staticmethod
    def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        # The second argument of a copy holds all that is copied already.
        given = list(_tensors(args[:1] if func is torch.Tensor.__deepcopy__ else (args, kwargs)))
        devices = [one for one in (*args, kwargs.get("device")) if isinstance(one, torch.device)]
        if isinstance(named := kwargs.get("device"), int | str):
            devices.append(torch.device(named))
        on_gpu = any(map(_on_gpu, given))
        if on_gpu:
            _check_devices(func, given)
        if any(map(_is_cuda, devices)):
            args = tuple(_CPU if isinstance(one, torch.device) else one for one in args)
            if "device" in kwargs:
                kwargs["device"] = _CPU
        result = func(*args, **kwargs)
        if any(map(_is_cuda, devices)) if devices else on_gpu:
            for made in _tensors(result):
                if not any(_same_memory(made, one) for one in given):
                    _put_on_gpu(made)
                _record(call=getattr(func, "__name__", str(func)), device="cuda:0", dtype=str(made.dtype))
        return result


def _answer(module: Any, name: str, answer: Any) -> None:
    def asked(*_: object, **__: object) -> Any:
        _record(call=f"{module.__name__}.{name}")
        return answer

    setattr(module, name, asked)


def _answer_questions() -> None:
    properties = SimpleNamespace(
        name=NAME, major=CAPABILITY[0], minor=CAPABILITY[1], total_memory=MEMORY, multi_processor_count=108
    )
    for name, answer in {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": NAME,
        "get_device_capability": CAPABILITY,
        "get_device_properties": properties,
        "is_bf16_supported": True,
        "mem_get_info": (MEMORY, MEMORY),
        "memory_reserved": 2 * 1024**3,
        "memory_allocated": 1024**3,
        "set_device": None,
        "synchronize": None,
        "empty_cache": None,
    }.items():
        _answer(torch.cuda, name, answer)
    for name, answer in {
        "is_available": True,
        "device_count": 1,
        "current_accelerator": torch.device("cuda"),
        "current_device_index": 0,
        "set_device_index": None,
        # Optimizers ask whether a graph is being captured.
        "current_stream": SimpleNamespace(is_capturing=lambda: False),
    }.items():
        _answer(torch.accelerator, name, answer)


def _compute_in_half_precision() -> None:
    real = torch.amp.autocast_mode.autocast.__init__

    def begin(
        self: Any, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None
    ) -> None:
        if device_type == "cuda":
            device_type, dtype = "cpu", dtype or torch.get_autocast_dtype("cuda")
            _record(call="autocast", enabled=enabled, dtype=str(dtype))
        real(self, device_type, dtype, enabled, cache_enabled)

    torch.amp.autocast_mode.autocast.__init__ = begin  # type: ignore[method-assign]


def _lock_pages() -> None:
    def pin_memory(tensor: torch.Tensor, device: object = None) -> torch.Tensor:
        # In a thread of the loader, which no mode reaches.
        _record(call="pin_memory", thread=threading.current_thread() is not threading.main_thread())
        return tensor.clone()

    torch.Tensor.pin_memory = pin_memory  # type: ignore[assignment, method-assign]


def _name_in_files() -> None:
    def name(storage: Any) -> str | None:
        return "cuda:0" if getattr(storage, "on_stand_in", False) else None

    def read(storage: Any, location: str) -> Any:
        if not location.startswith("cuda"):
            return None
        storage.on_stand_in = True
        return storage

    # Asked before PyTorch's own, which begin at 10.
    torch.serialization.register_package(5, name, read)


def _refuse_network() -> None:
    def hear(event: str, details: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            address = details[1]
            host = address[0] if isinstance(address, tuple) else None
        elif event == "socket.getaddrinfo":
            host = details[0]
        else:
            return
        if host not in _HERE:
            asking = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()]
            _record(call="network", host=str(host), stack=asking)
            raise OSError(errno.ENETUNREACH, f"{host} was asked for")

    sys.addaudithook(hear)


def install() -> None:
    """Give this process its GPU; PyTorch is imported, and this is the thread that uses it."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("PyTorch is imported in a thread, and the stand-in would be of that thread alone.")
    _answer_questions()
    _compute_in_half_precision()
    _lock_pages()
    _name_in_files()
    _refuse_network()
    mode: Any = _OnGpu()
    mode.__enter__()
