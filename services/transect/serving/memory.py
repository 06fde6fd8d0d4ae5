"""How much memory this process may use: what the machine has, or less where a control group sets a limit."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_MIB = 1 << 20
# Version 2 and version 1 of control groups, as a container sees its own.
_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_DECODE_SHARE = 0.25
_LEAST_DECODE, _MOST_DECODE = 128 * _MIB, 4096 * _MIB


def memory_limit(files: Sequence[Path] = _LIMIT_FILES) -> int:
    """Bytes that this process may use."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in files:
        # "max", where there is none, is no number.
        with suppress(OSError, ValueError):
            limits.append(int(file.read_text()))
    return min(limits)


def decode_bytes(setting_mb: int, limit: int) -> int:
    """Bytes that decoding may hold at one time: what the setting says, at 0 a quarter of `limit` within bounds."""
    if setting_mb:
        return setting_mb * _MIB
    return min(max(int(_DECODE_SHARE * limit), _LEAST_DECODE), _MOST_DECODE)
