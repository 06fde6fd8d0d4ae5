"""What must not take the engine or a training down: a full GPU, none, a wrong one, a read-only working directory.

    python -m benchmarks.gpu_faults absent MODEL_FOLDER | device NAME | amp SCRATCH DEVICE

is one such situation, in a process that was started in it. It prints what happened as JSON.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.gpu_place import MAX_BATCH, Place, load_alone, open_gpu, package_root
from benchmarks.gpu_report import Results, Skipped, one_line
from benchmarks.reporting import Bar

_MIB = 1 << 20
_PROBE_S = 60.0
_NOT_INSTALLED = 77
_MOST_DIFFERENCE = 0.1


def full_memory(place: Place, results: Results) -> str:
    """No memory left on the GPU: the backend must say so, `auto` must go on, and it must work again afterwards."""
    place.need_gpu("a CPU has no memory of a GPU to fill")
    import torch

    from transect.engine import MODEL_FILE, read_manifest
    from transect.engine.backends import open_backend

    tiles, package = place.tiles(), place.package()
    open_gpu(place).close()
    blocks = _fill(torch)
    results.figure("memory that was filled", sum(block.numel() for block in blocks) / _MIB, "MiB")
    said = _sentence(lambda: open_gpu(place).close())
    results.fact("CUDA on a full GPU", said or "opened")
    results.bar(Bar("a full GPU is refused by name of its memory", float("memory" in said), 1, at_least=True))
    size = read_manifest(package).image_size
    instead = open_backend(package / MODEL_FILE, size, backend="auto", max_batch=MAX_BATCH)
    results.fact("auto on a full GPU", instead.name)
    results.bar(Bar("auto goes on with the CPU", float(instead.name != "cuda"), 1, at_least=True))
    _check_finite(instead.infer(tiles[0]))
    instead.close()
    blocks.clear()
    torch.cuda.empty_cache()
    network = open_gpu(place)
    _check_finite(network.infer(tiles[0]))
    network.close()
    return f"A full GPU is refused ({said}), auto went on, and CUDA opens again once there is room."


def _fill(torch: Any) -> list[Any]:
    """Blocks that leave less than 2 MiB of the GPU's memory."""
    blocks, size = [], 1 << 30
    while size >= 2 * _MIB:
        try:
            blocks.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.cuda.OutOfMemoryError:
            size //= 2
    return blocks


def _check_finite(output: Any) -> None:
    if not np.isfinite(output).all():
        raise ValueError("the output has numbers that are not finite")


def _sentence(work: Callable[[], object]) -> str:
    """What a user is told when `work` fails; empty when it does not. Errors that are not for users go on."""
    from transect.errors import TransectError

    try:
        work()
    except TransectError as error:
        return str(error)
    return ""


def no_gpu(place: Place, results: Results) -> str:
    """All GPUs hidden."""
    return _hidden(place, results, "")


def wrong_gpu(place: Place, results: Results) -> str:
    """The number of a GPU that is not there: in CUDA_VISIBLE_DEVICES, and in TRANSECT_DEVICE."""
    found = _hidden(place, results, "63")
    _ask_device(results, "cuda:63", dict(os.environ), "TRANSECT_DEVICE=cuda:63")
    return found


def _hidden(place: Place, results: Results, visible: str) -> str:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
    what = f"CUDA_VISIBLE_DEVICES={visible!r}"
    found = _probe(["absent", str(place.package())], environment)
    _told(results, f"backend cuda, {what}", found["cuda"])
    results.fact(f"backend auto, {what}", found["auto"])
    on_cpu = found["auto"] in ("openvino", "onnxruntime")
    results.bar(Bar(f"auto goes on with the CPU, {what}", float(on_cpu), 1, at_least=True))
    _ask_device(results, "cuda", environment, f"TRANSECT_DEVICE=cuda, {what}")
    return f"Refused in a sentence, and auto went on with {found['auto']}."


def _ask_device(results: Results, device: str, environment: dict[str, str], what: str) -> None:
    """Where a training would run; a machine that only detects may have no PyTorch."""
    try:
        said = _probe(["device", device], environment)["device"]
    except Skipped as error:
        results.fact(what, f"not asked: {error}")
    else:
        _told(results, what, said)


def _told(results: Results, what: str, said: str) -> None:
    results.fact(what, said or "nothing was refused")
    results.bar(Bar(f"{what}: refused in a sentence", float(bool(said)), 1, at_least=True))


def read_only(place: Place, results: Results) -> str:
    """The check for half precision, before a training, in a read-only working directory and without a network."""
    folder = read_only_folder(place.scratch)
    if folder is None:
        raise Skipped("There is no read-only folder here to start it in.")
    found = _probe(["amp", str(place.scratch / "home"), place.device], dict(os.environ), folder)
    results.fact("read-only working directory", str(folder))
    results.fact("half precision is used", str(found["amp"]))
    if found["said"]:
        results.fact("what was logged", found["said"])
    kind = "bf16" if place.rehearse else "fp16"
    results.bar(Bar(f"{kind} against fp32, relative difference", found["difference"], _MOST_DIFFERENCE))
    return f"It answered {found['amp']} in {folder}, and asked nothing of the network."


def read_only_folder(scratch: Path) -> Path | None:
    """A folder in which this user cannot make anything, which for root is one of the kernel's; None without one."""
    made = scratch / "read-only"
    made.mkdir(exist_ok=True)
    made.chmod(0o500)
    for folder in (made, Path("/sys"), Path("/proc")):
        probe = folder / "transect-probe"
        try:
            probe.mkdir()
        except OSError:
            return folder
        probe.rmdir()
    return None


def _probe(arguments: list[str], environment: dict[str, str], folder: Path | None = None) -> dict[str, Any]:
    """What one situation printed. Raises Skipped where a package is missing, RuntimeError where it failed."""
    command = [sys.executable, "-m", "benchmarks.gpu_faults", *arguments]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=_PROBE_S, check=False
    )
    # For the step's log.
    print(done.stderr, file=sys.stderr)
    lines = done.stdout.splitlines() or [""]
    if done.returncode == _NOT_INSTALLED:
        raise Skipped(lines[-1])
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise RuntimeError(f"{arguments[0]} ended with {done.returncode}: {last}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def main() -> None:
    probes: dict[str, Callable[..., dict[str, Any]]] = {"absent": _absent, "device": _device, "amp": _amp}
    try:
        print(json.dumps(probes[sys.argv[1]](*sys.argv[2:])))
    except ImportError as error:
        if str(error.name).startswith(("transect", "benchmarks")):
            raise
        print(f"{error.name or 'A package'} is not installed ({one_line(str(error))}).")
        raise SystemExit(_NOT_INSTALLED) from None


def _absent(package: str) -> dict[str, Any]:
    from transect.engine import MODEL_FILE, read_manifest
    from transect.engine.backends import open_backend

    folder = Path(package)
    model, size = folder / MODEL_FILE, read_manifest(folder).image_size
    said = _sentence(lambda: open_backend(model, size, backend="cuda").close())
    network = open_backend(model, size, backend="auto")
    _check_finite(network.infer(np.full((size, size, 3), 90, np.uint8)))
    network.close()
    return {"cuda": said, "auto": network.name}


def _device(name: str) -> dict[str, Any]:
    return {"device": _sentence(lambda: load_alone("training/trainer/device.py").resolve_device(name))}


def _amp(scratch: str, device: str) -> dict[str, Any]:
    """Ultralytics' trainer asks its own name for the check: what stands there is called."""
    import logging

    from transect.training.config.safe_load import load_checkpoint
    from transect.training.trainer.environment import prepare_ultralytics

    prepare_ultralytics(Path(scratch))
    import torch
    from ultralytics.engine import trainer

    from transect.training.trainer import amp, dataset

    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("transect").addHandler(handler)
    if vars(trainer)["check_amp"] is not vars(dataset)["check_amp"]:
        raise RuntimeError("Ultralytics' trainer does not ask ours")
    model = load_checkpoint(package_root() / "training" / "starter" / "yolo11n-starter.pt").float().to(device)
    refuse: Any = _refuse
    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = refuse
    answer = vars(trainer)["check_amp"](model)
    kind = torch.float16 if device == "cuda" else torch.bfloat16
    difference = amp.half_precision_difference(model, device, kind)
    return {"amp": bool(answer), "difference": difference, "said": " ".join(logged)}


def _refuse(*_: object, **__: object) -> None:
    raise RuntimeError("the network was asked")


if __name__ == "__main__":
    main()
