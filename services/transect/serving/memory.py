"""The memory limit of this process: the machine's memory, or the control group's limit if that is less."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_MIB = 1 << 20
# Control groups version 2 and version 1, as seen inside a container.
_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_DECODE_SHARE = 0.25
_LEAST_DECODE, _MOST_DECODE = 128 * _MIB, 4096 * _MIB


def memory_limit(files: Sequence[Path] = _LIMIT_FILES) -> int:
    """Return the bytes of memory that this process may use."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in files:
        # A file without a limit contains "max".
        with suppress(OSError, ValueError):
            limits.append(int(file.read_text()))
    return min(limits)


def decode_bytes(setting_mb: int, limit: int) -> int:
    """Return the decode budget in bytes: the setting, or for 0 a quarter of `limit`, clamped to 128 MiB to 4 GiB."""
    if setting_mb:
        return setting_mb * _MIB
    return min(max(int(_DECODE_SHARE * limit), _LEAST_DECODE), _MOST_DECODE)
