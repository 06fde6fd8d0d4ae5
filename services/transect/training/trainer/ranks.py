"""Training on several GPUs of this machine: a process for each (a rank), started and watched by the training's own.

Ultralytics' launcher is not used: it pickles the trainer with its callbacks, deletes the folder of a run that is not
resumed, in which our journal lies, and does not return the metrics of its processes. Here every rank builds the same
trainer, and rank 0 reports each epoch to this process, which alone writes the run's log; it waits for the answer before
it writes the checkpoint. This process ends all ranks when its callback raises, when one of them fails or is killed, or
when it is interrupted; the ranks end when this process does. The ranks meet in a file, and need no port for that.
"""

import dataclasses
import json
import logging
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.datasets import Dataset
from transect.errors import InputError, TransectError
from transect.training.trainer.checkpoints import Checkpoint

logger = logging.getLogger(__name__)

MODULE = "transect.training.rank"
JOB, MEETING = "job.pickle", "meeting"
GO = b"go\n"
OUTPUT = "ranks.log"
_LOOK_S = 0.2
# A rank that fails makes the others fail: wait so long for the first reason.
_SETTLE_S = 2.0
# For a checkpoint that is being written.
_STOP_S = 20.0
_DEFAULT_BATCH = 16

# Gets the name of a report, and its data.
Report = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What each rank trains; `arguments` are Ultralytics' of the run, `overrides` those for its trainer."""

    dataset: Dataset
    arguments: Mapping[str, Any]
    overrides: Mapping[str, Any]
    folder: Path
    checkpoint: Checkpoint | None
    home: Path


class RankError(TransectError, RuntimeError):
    """A rank failed, or was killed."""


def devices_of(device: str) -> list[str]:
    """The device of each rank, by Ultralytics' name of them all: "0,1"."""
    return device.split(",")


def check_ranks(arguments: Mapping[str, Any]) -> None:
    """Raise InputError for arguments that cannot be divided among the GPUs of `device`."""
    count = len(devices_of(str(arguments.get("device", ""))))
    if count == 1:
        return
    batch = arguments.get("batch", _DEFAULT_BATCH)
    if not isinstance(batch, int) or batch < 1:
        raise InputError(
            f"batch={batch} fits the batch to one GPU, and there are {count}; give a number, such as batch={8 * count}."
        )
    if batch % count:
        near = max(count, batch // count * count)
        raise InputError(f"batch={batch} cannot be divided among {count} GPUs; give a multiple, such as batch={near}.")
    if arguments.get("rect"):
        raise InputError(f"rect=true does not fit {count} GPUs, which share shuffled images; leave it out.")


def train_on_ranks(job: Job, devices: Sequence[str], report: Report) -> None:
    """Train on these devices, a rank each, until all epochs are done; `report` gets what rank 0 reports.

    What `report` raises ends the training before the checkpoint of that epoch. Raises InputError for what a rank
    refuses, RankError when one fails or is killed.
    """
    with tempfile.TemporaryDirectory(prefix="transect-ranks-") as scratch:
        folder = Path(scratch)
        # Its default is a read-only view, which cannot be pickled.
        dataset = dataclasses.replace(job.dataset, review=dict(job.dataset.review))
        (folder / JOB).write_bytes(pickle.dumps(dataclasses.replace(job, dataset=dataset)))
        ours, theirs = socket.socketpair()
        with ours, _running(folder, devices, theirs, job.folder / OUTPUT) as ranks:
            _listen(ours, ranks, devices, folder, report)


@contextmanager
def _running(
    folder: Path, devices: Sequence[str], line: socket.socket, output: Path
) -> "Iterator[list[subprocess.Popen[bytes]]]":
    """Run a process for each device; none is left at the end."""
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        with line, output.open("ab") as others:
            ranks.append(_start(0, len(devices), folder, line, others.fileno()))
            ranks.extend(_start(rank, len(devices), folder, None, others.fileno()) for rank in range(1, len(devices)))
        yield ranks
    finally:
        _stop(ranks)


def _start(rank: int, count: int, folder: Path, line: socket.socket | None, others: int) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        # A rank that waits for one that is gone must not wait in the driver.
        "TORCH_NCCL_BLOCKING_WAIT": "1",
        # All ranks are here.
        "NCCL_SOCKET_IFNAME": os.environ.get("NCCL_SOCKET_IFNAME", "lo"),
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
    }
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    descriptors = () if line is None else (line.fileno(),)
    return subprocess.Popen(
        [sys.executable, "-m", MODULE, str(folder), *map(str, descriptors)],
        env=environment,
        # Closed by the system when this process ends, however it ends.
        stdin=subprocess.PIPE,
        stdout=others,
        # Rank 0 shows the progress.
        stderr=None if rank == 0 else others,
        pass_fds=descriptors,
        # Ctrl-C reaches this process alone, which ends them in order.
        start_new_session=True,
    )


def _listen(
    line: socket.socket,
    ranks: "Sequence[subprocess.Popen[bytes]]",
    devices: Sequence[str],
    folder: Path,
    report: Report,
) -> None:
    """Pass on the reports of rank 0, and answer each, until all ranks have ended."""
    received, is_open = b"", True
    while True:
        ready, _, _ = select.select([line] if is_open else [], [], [], _LOOK_S)
        if ready:
            try:
                part = line.recv(1 << 16)
            except ConnectionError:
                part = b""
            is_open = bool(part)
            *complete, received = (received + part).split(b"\n")
            for text in complete:
                message = json.loads(text)
                report(message["report"], message["data"])
                with suppress(OSError):
                    line.sendall(GO)
            continue
        ended = [rank.poll() for rank in ranks]
        if any(ended):
            raise _failure(ranks, devices, folder)
        if all(code == 0 for code in ended):
            return


def _failure(ranks: "Sequence[subprocess.Popen[bytes]]", devices: Sequence[str], folder: Path) -> TransectError:
    """Why the training ended: the rank that was killed, or the first that failed."""
    until = time.monotonic() + _SETTLE_S
    killed = [number for number, rank in enumerate(ranks) if (rank.poll() or 0) < 0]
    while not killed and time.monotonic() < until and any(rank.poll() is None for rank in ranks):
        time.sleep(_LOOK_S)
    count = len(ranks)
    if killed:
        name = signal.Signals(-(ranks[killed[0]].returncode or 0)).name
        return RankError(
            f"Rank {killed[0]} of {count}, on {_place(devices[killed[0]])}, was killed by {name}, and the others were "
            "stopped; the epochs up to its last checkpoint are kept: the same command with --resume goes on."
        )
    errors = sorted(
        (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("error-*.json")),
        key=lambda error: float(error["at"]),
    )
    if not errors:
        codes = ", ".join(str(rank.poll()) for rank in ranks)
        return RankError(f"A rank ended without a reason (exit codes {codes}); its output is in {OUTPUT} of the run.")
    first = errors[0]
    if first["input"]:
        return InputError(first["text"])
    place = _place(devices[first["rank"]])
    return RankError(f"Rank {first['rank']} of {count}, on {place}, failed: {first['text']}")


def write_error(folder: Path, rank: int, error: BaseException) -> None:
    """Keep why a rank fails, for `train_on_ranks`."""
    text = " ".join(str(error).split())
    known = isinstance(error, TransectError)
    record = {
        "at": time.time(),
        "rank": rank,
        "input": isinstance(error, InputError),
        "text": text if known else f"{type(error).__name__}: {text}",
    }
    (folder / f"error-{rank}.json").write_text(json.dumps(record), encoding="utf-8")


def _place(device: str) -> str:
    return "the CPU" if device == "cpu" else f"GPU {device}"


def _stop(ranks: "Sequence[subprocess.Popen[bytes]]") -> None:
    """End what still runs, with the loaders' processes; a checkpoint that is being written is finished."""
    for rank in ranks:
        _signal(rank, signal.SIGTERM)
    until = time.monotonic() + _STOP_S
    for rank in ranks:
        with suppress(subprocess.TimeoutExpired):
            rank.wait(max(0.0, until - time.monotonic()))
        _signal(rank, signal.SIGKILL)
        rank.wait()
        if rank.stdin is not None:
            rank.stdin.close()


def _signal(rank: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Send a signal to a rank and its loaders, unless it has ended."""
    if rank.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(rank.pid, number)
