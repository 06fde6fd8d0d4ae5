"""What the benchmark of a GPU found: one JSON line for each thing as soon as it is known, and tables at the end.

A line has `at` (UTC), `step`, `kind` and, in a rehearsal, `note`. By `kind` it is a `fact` (`what`, `value` as text), a
`figure` (`what`, `value`, `unit`), a `bar` (`what`, `value`, `limit`, `unit`, `at_least`) or the outcome of a `step`
(`status`, `sentence`, `seconds`).
"""

import json
import math
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from benchmarks.reporting import Bar, Report, Table, number

Status = Literal["passed", "failed", "skipped"]

REHEARSAL = "rehearsal on a CPU, no figure of a GPU"


class Skipped(Exception):  # noqa: N818 - it is no error
    """A step, or a part of one, that cannot be done here; the text is a sentence that says why."""


@dataclass(frozen=True)
class Outcome:
    """How a step ended, in one sentence, and how many seconds it took."""

    step: str
    status: Status
    sentence: str
    seconds: float


class Results:
    """Where a step tells what it finds. Each line is written at once, so that a step that is killed has told it."""

    def __init__(self, path: Path, step: str, *, rehearsal: bool) -> None:
        self._path, self._step, self._rehearsal = path, step, rehearsal
        self.missed: list[str] = []
        """What bars were not met."""

    def fact(self, what: str, value: str) -> None:
        """Something in words."""
        self._write("fact", {"what": what, "value": one_line(value)})

    def figure(self, what: str, value: float, unit: str) -> None:
        """Something measured; a number that is not finite is written as null."""
        self._write("figure", {"what": what, "value": _finite(value), "unit": unit})

    def bar(self, bar: Bar) -> None:
        """Something measured that has to keep a limit. The step fails unless it is met."""
        if not bar.met:
            self.missed.append(" ".join(bar.row()[:3]))
        self._write("bar", {**asdict(bar), "value": _finite(bar.value)})

    def outcome(self, outcome: Outcome) -> None:
        """How the step ended: its last line."""
        fields = asdict(outcome)
        del fields["step"]
        self._write("step", {**fields, "sentence": one_line(outcome.sentence)})

    def _write(self, kind: str, fields: dict[str, Any]) -> None:
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "step": self._step, "kind": kind, **fields}
        if self._rehearsal:
            line["note"] = REHEARSAL
        # One write, which a signal does not tear.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
        finally:
            os.close(descriptor)


def one_line(text: str) -> str:
    """A message of many lines as one."""
    return " ".join(text.split())


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def read_results(path: Path) -> list[dict[str, Any]]:
    """All lines so far; none of a file that is not there yet."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def outcomes(lines: list[dict[str, Any]]) -> list[Outcome]:
    """How the steps ended, in their order."""
    ended = (line for line in lines if line["kind"] == "step")
    return [Outcome(line["step"], line["status"], line["sentence"], line["seconds"]) for line in ended]


def report(lines: list[dict[str, Any]]) -> Report:
    """The tables: steps, what the machine is, what was measured; and the bars."""
    ended = outcomes(lines)
    counts = {status: sum(one.status == status for one in ended) for status in ("passed", "failed", "skipped")}
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    done = f"{len(ended)} steps in {sum(one.seconds for one in ended):.0f} s: {said}."
    if any("note" in line for line in lines):
        done = f"**{REHEARSAL[0].upper()}{REHEARSAL[1:]}.** {done}"
    steps = [(one.step, one.status, f"{one.seconds:.0f}", _cell(one.sentence)) for one in ended]
    facts = [(line["step"], _cell(line["what"]), _cell(line["value"])) for line in lines if line["kind"] == "fact"]
    figures = [
        (line["step"], _cell(line["what"]), number(_value(line)), line["unit"])
        for line in lines
        if line["kind"] == "figure"
    ]
    tables = [
        Table(("step", "status", "s", "what it says"), tuple(steps)),
        Table(("step", "what", "is"), tuple(facts)),
        Table(("step", "what", "value", "unit"), tuple(figures)),
    ]
    bars = tuple(
        Bar(f"{line['step']}: {_cell(line['what'])}", _value(line), line["limit"], line["unit"], line["at_least"])
        for line in lines
        if line["kind"] == "bar"
    )
    return Report("GPU", done, tuple(table for table in tables if table.rows), bars)


def _value(line: dict[str, Any]) -> float:
    return math.nan if line["value"] is None else float(line["value"])


def _cell(text: str) -> str:
    return text.replace("|", "/")
