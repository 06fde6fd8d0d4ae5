"""The CPU's instruction set, on which a network's numbers depend.

The order of sums depends on the vector width, and each CPU generation accumulates bfloat16 products differently:
one model finds slightly different boxes on different instruction sets.
"""

import platform
from collections.abc import Mapping
from pathlib import Path

# oneDNN's names, the oldest first, with the flags of /proc/cpuinfo that are new in each.
_X86: Mapping[str, frozenset[str]] = {
    "SSE41": frozenset({"sse4_1"}),
    "AVX": frozenset({"avx"}),
    "AVX2": frozenset({"avx2"}),
    "AVX2_VNNI": frozenset({"avx_vnni"}),
    "AVX2_VNNI_2": frozenset({"avx_vnni_int8", "avx_ne_convert"}),
    "AVX512_CORE": frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"}),
    "AVX512_CORE_VNNI": frozenset({"avx512_vnni"}),
    "AVX512_CORE_BF16": frozenset({"avx512_bf16"}),
    "AVX512_CORE_FP16": frozenset({"avx512_fp16"}),
    "AVX512_CORE_AMX": frozenset({"amx_tile", "amx_int8", "amx_bf16"}),
    "AVX512_CORE_AMX_FP16": frozenset({"amx_fp16"}),
}
_ARM = ("asimd", "asimdhp", "asimddp", "sve", "i8mm", "bf16", "sve2")


def onednn_limit(environ: Mapping[str, str]) -> str:
    """The newest instruction set that `environ` lets oneDNN use, in capitals; empty for no limit.

    ONEDNN_MAX_CPU_ISA and its older name DNNL_MAX_CPU_ISA name it (oneDNN's guide, "CPU Dispatcher Control").
    """
    return (environ.get("ONEDNN_MAX_CPU_ISA") or environ.get("DNNL_MAX_CPU_ISA") or "").upper()


def cpu_instructions(limit: str = "", cpuinfo: str | None = None) -> str:
    """The CPU's newest instruction set by oneDNN's name, such as `AVX512_CORE_BF16`; for ARM, its extensions.

    `limit` is the newest set allowed; an unknown name is no limit. `cpuinfo` is text as in /proc/cpuinfo; without
    that file, the system's name of the processor represents the instructions.
    """
    if cpuinfo is None:
        source = Path("/proc/cpuinfo")
        cpuinfo = source.read_text() if source.exists() else ""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = next((set(value.split()) for name, _, value in lines if name.strip() in ("flags", "Features")), set())
    arm = [name for name in _ARM if name in flags]
    if arm:
        return "_".join(arm).upper()
    names = list(_X86)
    allowed = names[: names.index(limit) + 1] if limit in _X86 else names
    newest = next((name for name in reversed(allowed) if _X86[name] <= flags), "")
    return newest or " ".join(filter(None, (platform.machine(), platform.processor())))
