"""What GPU this is, what runs on it, and the model that is measured. Needs nothing but Python to say so."""

import ctypes
import importlib.metadata
import os
import platform
import re
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from benchmarks.gpu_place import TILES, Place, load_alone
from benchmarks.gpu_report import Results, Skipped

IMAGE_SIZE = 640
TILE_COUNT = 8

_PROGRAMS = (
    "torch",
    "onnxruntime-gpu",
    "onnxruntime",
    "openvino",
    "ultralytics",
    "ultralytics-opencv-headless",
    "nvidia-ml-py",
    "mlflow",
    "pydantic",
    "numpy",
)
_GPU_DRIVER = Path("/proc/driver/nvidia/version")
# CUDA Driver API, CUdevice_attribute: COMPUTE_CAPABILITY_MAJOR and _MINOR, MULTIPROCESSOR_COUNT.
_MAJOR, _MINOR, _PROCESSORS = 75, 76, 16


class Driver:
    """NVIDIA's driver, asked by itself: neither PyTorch nor NVML need be there."""

    def __init__(self) -> None:
        """Raises OSError, with a reason, where there is no driver or no GPU that this process may see."""
        try:
            self._cuda = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise OSError("NVIDIA's driver is not installed here (libcuda.so.1 is missing)") from error
        if code := self._cuda.cuInit(0):
            raise OSError(f"NVIDIA's driver does not start (cuInit answers {code}{self._named(code)})")
        if not self.count():
            raise OSError("NVIDIA's driver shows no GPU")

    def count(self) -> int:
        """How many GPUs CUDA_VISIBLE_DEVICES lets this process see."""
        found = ctypes.c_int()
        self._cuda.cuDeviceGetCount(ctypes.byref(found))
        return found.value

    def describe(self, index: int) -> dict[str, str]:
        """Name, compute capability, memory and multiprocessors of a GPU."""
        device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(100), ctypes.c_size_t()
        self._cuda.cuDeviceGet(ctypes.byref(device), index)
        self._cuda.cuDeviceGetName(name, len(name), device)
        self._cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        major, minor, processors = (self._attribute(which, device) for which in (_MAJOR, _MINOR, _PROCESSORS))
        return {
            "name": name.value.decode(errors="replace"),
            "compute capability": f"{major}.{minor}",
            "memory": f"{memory.value / 2**30:.1f} GiB",
            "multiprocessors": str(processors),
        }

    def cuda_version(self) -> str:
        """The newest CUDA that the driver runs."""
        found = ctypes.c_int()
        self._cuda.cuDriverGetVersion(ctypes.byref(found))
        return f"{found.value // 1000}.{found.value % 1000 // 10}"

    def _attribute(self, which: int, device: ctypes.c_int) -> int:
        found = ctypes.c_int()
        self._cuda.cuDeviceGetAttribute(ctypes.byref(found), which, device)
        return found.value

    def _named(self, code: int) -> str:
        text = ctypes.c_char_p()
        self._cuda.cuGetErrorName(code, ctypes.byref(text))
        return "" if text.value is None else f", {text.value.decode(errors='replace')}"


def why_no_gpu() -> str:
    """Why there is no GPU to measure, as the part of a sentence; empty where there is one."""
    try:
        Driver()
    except OSError as error:
        reasons = [str(error)]
        # PyTorch names the versions of driver and CUDA that do not fit.
        with suppress(ImportError):
            reasons.append(str(load_alone("training/trainer/device.py")._why_none()))
        if "CUDA_VISIBLE_DEVICES" in os.environ and "CUDA_VISIBLE_DEVICES" not in reasons[-1]:
            reasons.append(f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']!r} hides the others")
        return "; ".join(reason for reason in reasons if reason)
    return ""


def machine(place: Place, results: Results) -> str:
    """GPU, driver and versions."""
    found = "A CPU, in place of a GPU" if place.rehearse else _describe_gpu(results)
    results.fact("system", f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    results.fact("programs", ", ".join(f"{name} {version}" for name in _PROGRAMS if (version := _version(name))))
    if missing := [name for name in _PROGRAMS if not _version(name)]:
        results.fact("not installed", ", ".join(missing))
    with suppress(ImportError):
        import torch

        results.fact("PyTorch's CUDA", f"{torch.version.cuda}; code for {' '.join(torch.cuda.get_arch_list()) or '-'}")
        results.fact("PyTorch's TF32 in convolutions", str(torch.backends.cudnn.allow_tf32))
    with suppress(ImportError):
        import onnxruntime

        results.fact("ONNX Runtime's providers", ", ".join(onnxruntime.get_available_providers()))
    return f"{found}."


def _describe_gpu(results: Results) -> str:
    driver = Driver()
    found = driver.describe(0)
    for what, value in found.items():
        results.fact(f"GPU: {what}", value)
    results.fact("GPUs", str(driver.count()))
    results.fact("driver", f"{_driver_version()}, for CUDA up to {driver.cuda_version()}")
    return f"{found['name']} with {found['memory']}, compute capability {found['compute capability']}"


def _driver_version() -> str:
    if not _GPU_DRIVER.is_file():
        return "of unknown version"
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", _GPU_DRIVER.read_text(errors="replace"))
    return found[1] if found else "of unknown version"


def _version(name: str) -> str:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return ""


def model(place: Place, results: Results) -> str:
    """The model that is there, or else one that is made."""
    if not has_model(place.model):
        make_model(place.model)
        done = "made"
    else:
        done = "there already"
    results.fact("model", f"yolo11n at {IMAGE_SIZE} pixels, the project's starter weights, ONNX in fp32 and fp16")
    return f"The model and {len(place.tiles())} pictures are {done}."


def has_model(folder: Path) -> bool:
    """Whether `make_model` has made all its files there."""
    from transect.engine import FP16_FILES

    return all((folder / name).is_file() for name in ("package.json", TILES, *FP16_FILES))


def make_model(folder: Path) -> None:
    """Export the starter weights as a model package into `folder`, and make pictures of ground with animals for it.

    Raises Skipped where what exports is not installed.
    """
    try:
        _make_model(folder)
    except ImportError as error:
        if str(error.name).startswith(("transect", "benchmarks")):
            raise
        raise Skipped(
            f"The model cannot be made here ({error}); a file of `make bench-gpu-file` brings one."
        ) from error


def _make_model(folder: Path) -> None:
    from transect.engine import FP16_FILES, MODEL_FILE, PackageManifest, hash_files, write_manifest
    from transect.imagery import decode_image
    from transect.synth import make_dataset
    from transect.training.config.pretrained import STARTER, STARTER_ARCHITECTURE
    from transect.training.config.safe_load import load_checkpoint
    from transect.training.packaging.half_precision import convert_to_fp16
    from transect.training.packaging.onnx_export import export_onnx
    from transect.training.trainer.environment import prepare_ultralytics

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        prepare_ultralytics(Path(scratch))
        export_onnx(STARTER, folder / MODEL_FILE, IMAGE_SIZE, "anchor-free")
        convert_to_fp16(folder / MODEL_FILE, folder / FP16_FILES[0])
        data = make_dataset(Path(scratch) / "tiles", train=TILE_COUNT, val=1, test=1, tile=IMAGE_SIZE)
        photos = sorted((data.parent / "images" / "train").iterdir())
        np.save(folder / TILES, np.stack([decode_image(photo, max_pixels=10**7) for photo in photos]))
        names = tuple(load_checkpoint(STARTER).names.values())
    manifest = PackageManifest(
        names=names,
        image_size=IMAGE_SIZE,
        head_kind="anchor-free",
        architecture=STARTER_ARCHITECTURE,
        conf=0.25,
        iou=0.7,
        created_at=datetime.now(UTC),
        files=hash_files(folder, [MODEL_FILE, *FP16_FILES, TILES]),
    )
    write_manifest(folder, manifest)
