"""Classify errors of ONNX Runtime on the GPU by their text, because it raises plain RuntimeErrors."""

import re
from typing import Literal

CudaFault = Literal["memory", "lost", "unusable"]

_MEMORY = re.compile(r"out of memory|failed to allocate memory|BFCArena|STATUS_ALLOC_FAILED", re.IGNORECASE)
# After these every later call of the process fails too: the codes documented as such (CUDA Runtime API,
# cudaError_t), errors of the GPU's memory, and a destroyed context.
_LOST_CODES = (214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719)
_LOST = re.compile(
    rf"CUDA (failure|error) ({'|'.join(map(str, _LOST_CODES))})\b|illegal memory access|misaligned address|"
    r"unspecified launch failure|device-side assert|uncorrectable|GPU is lost",
    re.IGNORECASE,
)
# Case-sensitive: a folder may be called cuda.
_GPU = re.compile(
    r"CUDA (failure|error)|CUDNN|CUBLAS|CUFFT|CURAND|no kernel image|TensorRT|lib(cuda|cudnn|cublas|nvinfer)"
)


def cuda_fault(error: BaseException) -> CudaFault | None:
    """Classify an error: the GPU is out of "memory", "lost" to this process, or "unusable" for another reason.

    None for an error that is not the GPU's, as with a damaged model.
    """
    text = str(error)
    # Checked first: the text of an illegal access mentions memory too.
    if _LOST.search(text):
        return "lost"
    if _MEMORY.search(text):
        return "memory"
    return "unusable" if _GPU.search(text) else None


def cuda_reason(error: BaseException) -> str:
    """The informative part of the error, in one line."""
    text = " ".join(str(error).split())
    if "no kernel image" in text:
        return "the installed ONNX Runtime has no code for this GPU (docs/operations-gpus.md lists the GPUs that serve)"
    if cuda_fault(error) == "memory":
        return "its memory is full: not even one image fits; stop what else runs on it (nvidia-smi lists it)"
    # ONNX Runtime surrounds it with its own source lines, file names and host names.
    found = re.search(r"((?:CUDA|CUDNN|CUBLAS|CUFFT) (?:failure|error) \w+\s?:.*?)(?: ?; |$)", text, re.IGNORECASE)
    return (found.group(1) if found else text).rstrip(". ")
