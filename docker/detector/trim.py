"""Takes out of the image what its libraries bring and the detector cannot use.

usage: python trim.py SITE_PACKAGES ACCELERATOR    (cpu or cuda)

It runs in the step that installs, since only there does the image become smaller. A pattern that
matches nothing fails the build: the library has changed, and this list must follow it.
"""

import platform
import shutil
import sys
from pathlib import Path

UNUSED = {
    # A package holds ONNX, and OpenVINO's own format (IR) for INT8.
    "openvino/libs/libopenvino_gguf_frontend.so.*": "GGUF models",
    "openvino/libs/libopenvino_jax_frontend.so.*": "JAX models",
    "openvino/libs/libopenvino_paddle_frontend.so.*": "Paddle models",
    "openvino/libs/libopenvino_pytorch_frontend.so.*": "PyTorch models",
    "openvino/libs/libopenvino_tensorflow_frontend.so.*": "TensorFlow models",
    "openvino/libs/libopenvino_tensorflow_lite_frontend.so.*": "TensorFlow Lite models",
    "openvino/frontend/jax": "JAX models",
    "openvino/frontend/paddle": "Paddle models",
    "openvino/frontend/pytorch": "PyTorch models",
    "openvino/frontend/tensorflow": "TensorFlow models",
    "openvino/include": "C++ headers",
    # Reports to the makers of OpenVINO: nothing here may send any. Its entry stays, so that it counts as installed.
    "openvino_telemetry": "telemetry",
    "onnxruntime/transformers": "language models",
    # For programs in C++: Python's own module holds the same runtime, and no library links this one.
    "onnxruntime/capi/libonnxruntime.so.1.*": "C and C++ programs",
    "onnxruntime/quantization": "calibration, which is a part of training",
    "numpy/**/tests": "tests of NumPy",
    "cv2/data": "old face detectors",
}
# What OpenVINO's wheel for x86_64 brings besides. We run it on the CPU alone; an NVIDIA GPU is ONNX Runtime's.
UNUSED_ON_X86 = {
    "openvino/libs/libopenvino_intel_gpu_plugin.so": "Intel GPUs",
    "openvino/libs/cache.json": "kernels of Intel GPUs",
    "openvino/libs/libopenvino_intel_npu_plugin.so": "Intel NPUs",
}
# What only the wheels for NVIDIA GPUs bring.
UNUSED_WITH_CUDA = {
    # ONNX Runtime opens cuFFT when a model has its operators Rfft or Irfft, and only then
    # (github.com/microsoft/onnxruntime/pull/29808). A detector has neither, and no other library links or names it.
    "nvidia/cu13/lib/libcufft*": "Fourier transforms",
}
ACCELERATORS = {"cpu": UNUSED, "cuda": UNUSED | UNUSED_WITH_CUDA}


def patterns(accelerator: str, machine: str) -> dict[str, str]:
    """What an image for `accelerator` (cpu or cuda) on `machine` (as the kernel names it) does not use, and why."""
    if accelerator not in ACCELERATORS:
        sys.exit(f"trim.py: ACCELERATOR={accelerator} is not one of {', '.join(ACCELERATORS)}")
    return ACCELERATORS[accelerator] | (UNUSED_ON_X86 if machine == "x86_64" else {})


def trim(packages: Path, accelerator: str, machine: str) -> int:
    """Remove what such an image does not use under `packages`; how many bytes that were."""
    removed = 0
    for pattern in patterns(accelerator, machine):
        found = sorted(packages.glob(pattern))
        if not found:
            sys.exit(f"trim.py: {pattern} matches nothing any more; drop it from the list, or follow what it became")
        for path in found:
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            removed += sum(file.stat().st_size for file in files)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    return removed


if __name__ == "__main__":
    removed_bytes = trim(Path(sys.argv[1]), sys.argv[2], platform.machine())
    print(f"Took out {removed_bytes / 1e6:.0f} MB that the detector cannot use")
