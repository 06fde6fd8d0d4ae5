"""Common code of the benchmarks: percentiles, arrival times, tables, limits to meet, and the machine."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_PROGRAMS = ("openvino", "onnxruntime", "torch", "ultralytics-opencv-headless")


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least `share` (0..1) of `values` do not exceed (nearest rank); NaN of none."""
    if not len(values):
        return float("nan")
    return float(np.percentile(values, 100 * share, method="inverted_cdf"))


def poisson_arrivals(rate: float, seconds: float, seed: int = 0) -> list[float]:
    """Times in [0, `seconds`) at which independent clients ask `rate` times a second, in order.

    The gaps of a Poisson process are exponential with mean 1 / rate.
    """
    rng = np.random.default_rng(seed)
    expected = rate * seconds
    gaps = rng.exponential(1 / rate, int(expected + 10 * expected**0.5 + 10))
    times = np.cumsum(gaps)
    return [float(time) for time in times[times < seconds]]


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column is aligned left, the others right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """For a terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        left, *others = widths
        return "\n".join("  ".join([line[0].ljust(left), *map(str.rjust, line[1:], others)]).rstrip() for line in lines)

    def markdown(self) -> str:
        """For a page."""
        rule = ("---", *["---:"] * (len(self.columns) - 1))
        return "\n".join("| " + " | ".join(line) + " |" for line in (self.columns, rule, *self.rows))


@dataclass(frozen=True)
class Bar:
    """A limit that a figure has to keep: at least it, or at most."""

    what: str
    value: float
    limit: float
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is kept; a figure that is not a number keeps nothing."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def row(self) -> tuple[str, ...]:
        """What, figure, limit, verdict."""
        sign = "at least" if self.at_least else "at most"
        unit = f" {self.unit}" if self.unit else ""
        verdict = "met" if self.met else "not met"
        return self.what, f"{number(self.value)}{unit}", f"{sign} {number(self.limit)}{unit}", verdict


@dataclass(frozen=True)
class Report:
    """The outcome of one benchmark: what was done, tables, bars."""

    title: str
    done: str
    tables: tuple[Table, ...]
    bars: tuple[Bar, ...]

    def show(self, *, markdown: bool) -> str:
        """The whole report as text, or as a section of docs/benchmarks-results.md."""
        tables = [*self.tables]
        if self.bars:
            tables.append(Table(("bar", "measured", "limit", "verdict"), tuple(bar.row() for bar in self.bars)))
        shown = [table.markdown() if markdown else table.text() for table in tables]
        return "\n\n".join([f"## {self.title}" if markdown else self.title, self.done, machine(), *shown])


def number(value: float) -> str:
    """Three significant digits, and all digits of a whole part."""
    if not np.isfinite(value):
        return "-"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 - int(np.floor(np.log10(abs(value))))
    return f"{value:.{min(digits, 4)}f}"


def milliseconds(seconds: float) -> str:
    """A time in milliseconds, for a cell."""
    return number(1000 * seconds)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """This machine and the programs that compute on it, in one paragraph."""
    cpu, flags = _cpu()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    known = [name for name in _INSTRUCTIONS if name in flags]
    programs = [f"{name} {found}" for name in _PROGRAMS if (found := _version(name))]
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return (
        f"Machine: {cpu}, {cores()} cores ({', '.join(known) or 'none of the instructions that matter'}), "
        f"{memory:.0f} GiB, {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"{', '.join(programs)}. Load at the end (1, 5, 15 minutes): {load}."
    )


def _cpu() -> tuple[str, frozenset[str]]:
    source = Path("/proc/cpuinfo")
    if not source.exists():
        return platform.processor() or platform.machine(), frozenset()
    fields: dict[str, str] = {}
    for line in source.read_text().splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    instructions = fields.get("flags") or fields.get("Features", "")
    return fields.get("model name", platform.machine()), frozenset(instructions.split())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
