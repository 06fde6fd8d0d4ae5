"""Interleaved timing: several programs share the machine in short turns, and only one runs at a time.

Two programs timed one after the other run on a shared machine at two moments, which may differ by more than the
programs do. In short turns, a slow minute affects both alike. A program's time is the part that lies within its own
turns.
"""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import clean_environment, stop_group, tail

TURN_S = 0.25
"""The length of a turn in seconds. A training against itself differs by up to 1.6% with it; in turns of 3 s, pairs
differed by up to 5% either way, since a shared machine's slow moments last seconds."""


@dataclass(frozen=True)
class Span:
    """An interval of time.perf_counter, which on Linux is one clock for all processes."""

    begin: float
    end: float


@dataclass(frozen=True)
class Program:
    """A command, its log, and its environment variables beside those of `clean_environment`."""

    command: Sequence[str]
    log: Path
    variables: Mapping[str, str] = field(default_factory=dict)


def granted(turns: Sequence[Span], asked: Span) -> float:
    """Seconds of `asked` that lie within `turns`, none of which overlap."""
    return sum(max(0.0, min(turn.end, asked.end) - max(turn.begin, asked.begin)) for turn in turns)


def run_interleaved(programs: Sequence[Program], turn_s: float = TURN_S) -> list[list[Span]]:
    """Run all programs to their ends, one at a time for `turn_s` seconds each; returns the turns of each, in order.

    The first program has the first turn, and each starts with its first. The last one left runs to its end in one turn.
    Raises SystemExit with the end of a program's log when its exit code is not 0; no program outlives this call.
    """
    turns: list[list[Span]] = [[] for _ in programs]
    processes: dict[int, subprocess.Popen[bytes]] = {}
    waiting = deque(range(len(programs)))
    try:
        while waiting:
            number = waiting.popleft()
            begin = time.perf_counter()
            if number in processes:
                os.killpg(processes[number].pid, signal.SIGCONT)
            else:
                processes[number] = _start(programs[number])
            ended = _run(processes[number], turn_s if waiting else None)
            turns[number].append(Span(begin, time.perf_counter()))
            if not ended:
                waiting.append(number)
            elif processes[number].returncode:
                raise SystemExit(_failure(programs[number], processes[number].returncode))
    finally:
        for process in processes.values():
            # Killed at once, since a stopped process does not handle SIGTERM.
            stop_group(process, patience_s=0)
    return turns


def _start(program: Program) -> "subprocess.Popen[bytes]":
    program.log.parent.mkdir(parents=True, exist_ok=True)
    with program.log.open("wb") as log:
        # A process group, and not a session: when this process is killed, Linux ends its stopped groups.
        return subprocess.Popen(
            program.command,
            env=clean_environment(program.variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )


def _run(process: "subprocess.Popen[bytes]", seconds: float | None) -> bool:
    """Let it run for `seconds`, or to its end, and stop it; returns whether it has ended."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return True
    os.killpg(process.pid, signal.SIGSTOP)
    # Wait until it has stopped. WNOWAIT: its exit status is left for Popen.
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return process.poll() is not None


def _failure(program: Program, code: int) -> str:
    return f"{' '.join(program.command)} ended with {code}; the log {program.log} ends with:\n{tail(program.log)}"
