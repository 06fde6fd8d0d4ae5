import os
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from benchmarks.interleaved import Program, Span, granted, run_interleaved

# Says when it works, and meets another one twice, which takes both of them two turns.
_MEETING = """
import pathlib, sys, time
mine, other = sys.argv[1:]
deadline = time.perf_counter() + 60
for meeting in "12":
    pathlib.Path(mine + meeting).touch()
    while not pathlib.Path(other + meeting).exists():
        assert time.perf_counter() < deadline
        print(time.perf_counter())
        time.sleep(0.0005)
print(time.perf_counter())
"""
_WAITING = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"


def python(code: str, log: Path, *arguments: Path) -> Program:
    return Program([sys.executable, "-c", code, *map(str, arguments)], log)


@pytest.mark.parametrize(
    ("begin", "end", "seconds"),
    [(0, 20, 6), (2, 11, 3), (1.5, 2.5, 1), (4, 9, 0), (11, 11, 0), (20, 30, 0)],
)
def test_what_is_granted_is_what_lies_within_the_turns(begin: float, end: float, seconds: float) -> None:
    assert granted([Span(1, 4), Span(10, 12), Span(12, 13)], Span(begin, end)) == seconds


def test_two_programs_are_never_awake_at_the_same_time(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    programs = [python(_MEETING, tmp_path / f"{mine.name}.log", mine, other) for mine, other in (files, files[::-1])]
    found = run_interleaved(programs, turn_s=0.05)
    for program, turns in zip(programs, found, strict=True):
        assert len(turns) > 1
        stamps = [float(line) for line in program.log.read_text().splitlines()]
        assert all(any(turn.begin <= stamp <= turn.end for turn in turns) for stamp in stamps)
        # It stood still meanwhile.
        assert granted(turns, Span(stamps[0], stamps[-1])) < stamps[-1] - stamps[0]
    ordered = sorted((turn for turns in found for turn in turns), key=lambda turn: turn.begin)
    assert all(before.end <= after.begin for before, after in pairwise(ordered))
    assert ordered[0] == found[0][0]


def test_the_last_one_runs_on_in_one_turn(tmp_path: Path) -> None:
    short, long = run_interleaved(
        [python("", tmp_path / "short.log"), python("import time; time.sleep(0.3)", tmp_path / "long.log")], turn_s=60
    )
    assert (len(short), len(long)) == (1, 1)
    assert long[0].end - long[0].begin >= 0.3


def test_a_program_that_fails_ends_all_and_the_stopped_one_too(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    # It fails in a turn of its own, so that the other stands still.
    failing = (
        "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)\nsys.exit('no disk')"
    )
    with pytest.raises(SystemExit, match=r"ended with 1; the log .*failing\.log ends with:\nno disk"):
        run_interleaved(
            [python(_WAITING, tmp_path / "waiting.log", pid), python(failing, tmp_path / "failing.log", pid)],
            turn_s=0.05,
        )
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
