"""Folders that are finished or absent, and work spread over processes."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import cv2

from transect.errors import InputError
from transect.files import atomic_write_json

GENERATOR = 4
"""Version of the generator: the same version, parameters and seed give the same bytes."""

_MARK = "synth.json"
_FEW = 12

Job = TypeVar("Job")
Result = TypeVar("Result")


def finished(out: Path, parameters: dict[str, Any]) -> bool:
    """Whether `out` already holds what these parameters make.

    Raises InputError when `out` holds something that was not made here, which must not be replaced.
    """
    if not out.exists():
        return False
    mark = out / _MARK
    if mark.is_file():
        try:
            return bool(json.loads(mark.read_text(encoding="utf-8")) == _marked(parameters))
        except (ValueError, OSError):
            return False
    if not out.is_dir() or any(out.iterdir()):
        raise InputError(f"{out} exists and was not made by transect synth; choose another folder or remove it.")
    return False


@contextmanager
def building(out: Path, parameters: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty folder beside `out`, which takes the place of `out` when all went well."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _sweep(out)
    part = out.parent / f".{out.name}.part-{os.getpid()}"
    part.mkdir()
    try:
        yield part
        atomic_write_json(part / _MARK, _marked(parameters))
        if out.exists():
            old = out.parent / f".{out.name}.part-{os.getpid()}-old"
            out.replace(old)
            part.replace(out)
            shutil.rmtree(old)
        else:
            part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def spread(work: Callable[[Job], Result], jobs: Iterable[Job], processes: int) -> Iterator[Result]:
    """Results of `work` in the order of `jobs`; few jobs are not worth the start of processes."""
    listed = list(jobs)
    if processes <= 1 or len(listed) <= _FEW:
        yield from map(work, listed)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_one_thread) as pool:
        yield from pool.map(work, listed)


def write_jpeg(path: Path, pixels: Any, quality: int) -> None:
    """Write 8-bit RGB pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise InputError(f"{path} cannot be encoded as JPEG.")
    path.write_bytes(data.tobytes())


def _marked(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"generator": GENERATOR, **parameters}


def _one_thread() -> None:
    # The processes share the cores already.
    cv2.setNumThreads(1)


def _sweep(out: Path) -> None:
    """Remove what a killed run left behind."""
    for left in out.parent.glob(f".{out.name}.part-*"):
        pid = left.name.rsplit("part-", 1)[1].split("-")[0]
        if not pid.isdigit() or int(pid) == os.getpid() or not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
