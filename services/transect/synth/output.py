"""Output folders that are complete or absent, and parallel work in processes."""

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

_PARAMETERS_FILE = "synth.json"
_LEAST_FOR_PROCESSES = 12

Job = TypeVar("Job")
Result = TypeVar("Result")


def is_finished(out: Path, parameters: dict[str, Any]) -> bool:
    """Whether `out` already contains the result of these parameters.

    Raises InputError when `out` contains other files, which must not be replaced.
    """
    if not out.exists():
        return False
    mark = out / _PARAMETERS_FILE
    if mark.is_file():
        try:
            return bool(json.loads(mark.read_text(encoding="utf-8")) == _parameters_record(parameters))
        except (ValueError, OSError):
            return False
    if not out.is_dir() or any(out.iterdir()):
        raise InputError(f"{out} exists and was not made by transect synth; choose another folder or remove it.")
    return False


@contextmanager
def build_folder(out: Path, parameters: dict[str, Any]) -> Iterator[Path]:
    """Yield an empty folder beside `out`, which replaces `out` when the block succeeds."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _sweep(out)
    part = out.parent / f".{out.name}.part-{os.getpid()}"
    part.mkdir()
    try:
        yield part
        atomic_write_json(part / _PARAMETERS_FILE, _parameters_record(parameters))
        if out.exists():
            old = out.parent / f".{out.name}.part-{os.getpid()}-old"
            out.replace(old)
            part.replace(out)
            shutil.rmtree(old)
        else:
            part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def map_in_processes(work: Callable[[Job], Result], jobs: Iterable[Job], processes: int) -> Iterator[Result]:
    """Results of `work` in the order of `jobs`; few jobs run in this process, since starting others takes longer."""
    listed = list(jobs)
    if processes <= 1 or len(listed) <= _LEAST_FOR_PROCESSES:
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


def _parameters_record(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"generator": GENERATOR, **parameters}


def _one_thread() -> None:
    # The processes already use all cores.
    cv2.setNumThreads(1)


def _sweep(out: Path) -> None:
    """Remove the partial folders of killed runs."""
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
