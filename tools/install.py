"""Installs a list of packages with uv and shows one line of progress. Standard library alone: nothing is installed yet.

usage: python3 tools/install.py UV ARGUMENT ...      such as  tools/install.py .venv/bin/uv pip install -r LIST

uv draws a bar for each package that it downloads, and prints a line for each of 210 that it installed. It is run in a
terminal of its own here, and its bars are added up. What uv says beside them is shown whole if it fails.
"""

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TextIO

_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_BAR = re.compile(r"(\S+)\s+-+\s+([\d.]+) ?(B|KiB|MiB|GiB)/([\d.]+) ?(B|KiB|MiB|GiB)")
_READY = re.compile(r"\((\d+)/(\d+)\)")
_INSTALLING = re.compile(r"\[(\d+)/(\d+)\]")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()].")
_SPINNER = re.compile(r"^[\u2800-\u28ff]|^[\u2588\u2591]")
# What uv lists when all is well: every package, and what it found out about Python.
_LISTING = re.compile(
    r"^ [+~-] \S+==|^ [+~-] \S+ \(from |^(Using Python|Resolved|Prepared|Installed|Uninstalled|Audited) "
)
_LOOKED_UP = re.compile(r"^\S ([A-Za-z0-9]\S*)==")
_RATE_OVER_S = 20.0
_LOG_EVERY_S = 15.0
_REDRAW_EVERY_S = 0.25


@dataclass
class Seen:
    """What uv's screen has shown: bytes by package, and how many packages are ready."""

    bars: dict[str, tuple[float, float]] = field(default_factory=dict)
    looked_up: set[str] = field(default_factory=set)
    ready: int = 0
    packages: int = 0
    installed: int = 0
    said: list[str] = field(default_factory=list)
    _rest: str = ""

    def read(self, text: str) -> None:
        """Take what uv wrote; a bar that is cut in two waits for its other half."""
        text = _CONTROL.sub("\n", self._rest + text)
        text, _, self._rest = text.rpartition("\n")
        for line in re.split(r"[\r\n]+", text):
            self._line(line)

    def close(self) -> None:
        """Take what was left of the last line."""
        self._line(self._rest)

    def _line(self, line: str) -> None:
        bars = list(_BAR.finditer(line))
        for name, done, unit, whole, whole_unit in (bar.groups() for bar in bars):
            size = float(whole) * _UNITS[whole_unit]
            before = self.bars.get(name, (0.0, 0.0))
            self.bars[name] = (max(before[0], float(done) * _UNITS[unit]), max(before[1], size))
        spinning = _SPINNER.match(line)
        if spinning and (found := _READY.search(line)):
            self.ready, self.packages = int(found[1]), max(self.packages, int(found[2]))
        elif spinning and (found := _INSTALLING.search(line)):
            self.installed, self.packages = int(found[1]), max(self.packages, int(found[2]))
        elif spinning and (found := _LOOKED_UP.match(line)):
            self.looked_up.add(found[1])
        elif not bars and not spinning and line.strip() and not _LISTING.match(line):
            self.said.append(line.rstrip())

    @property
    def downloaded(self) -> float:
        """Bytes that have come."""
        return sum(done for done, _ in self.bars.values())

    @property
    def announced(self) -> float:
        """Bytes of all downloads that began; more may be to come."""
        return sum(size for _, size in self.bars.values())


def sentence(seen: Seen, rate: float) -> str:
    """One line: how many packages are ready, how much has come of how much, how fast, and how long it will take."""
    if seen.installed:
        return f"Installing: {seen.installed} of {seen.packages} packages are in place"
    if not seen.packages:
        return f"Installing: asking the package index, {len(seen.looked_up)} packages found so far"
    parts = [f"Installing: {seen.ready} of {seen.packages} packages ready"]
    if seen.bars:
        left = seen.announced - seen.downloaded
        parts.append(f"{seen.downloaded / 1e6:,.0f} of {seen.announced / 1e6:,.0f} MB downloaded")
        if rate > 0:
            parts.append(f"{rate / 1e6:.1f} MB/s")
            parts.append(f"{_duration(left / rate)} left")
        name = max(seen.bars, key=lambda name: seen.bars[name][1] - seen.bars[name][0])
        if seen.bars[name][1] > seen.bars[name][0]:
            parts.append(name)
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class Line:
    """One line that is drawn over on a terminal, and a plain line every so often in a log."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        # What takes no longer than a line's time needs none in a log.
        self._last = 0.0 if self._terminal else time.monotonic()
        self._history: list[tuple[float, float]] = []

    def show(self, seen: Seen, now: float) -> None:
        """Show how far it has come, if it is time to."""
        self._history.append((now, seen.downloaded))
        self._history = [one for one in self._history if now - one[0] <= _RATE_OVER_S]
        if now - self._last < (_REDRAW_EVERY_S if self._terminal else _LOG_EVERY_S):
            return
        self._last = now
        (start, before), took = self._history[0], now - self._history[0][0]
        rate = (seen.downloaded - before) / took if took > 0 and start < now else 0.0
        text = sentence(seen, rate)
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", file=self._out, flush=True)
        else:
            print(text, file=self._out, flush=True)

    def end(self, text: str = "") -> None:
        """Take the line away, and leave `text`."""
        if self._terminal:
            print("\r\x1b[K", end="", file=self._out, flush=True)
        if text:
            print(text, file=self._out, flush=True)


def _output(command: list[str]) -> Iterator[str | int]:
    """What the program writes on a terminal of its own, "" every quarter of a second, and its exit code at the end."""
    import fcntl
    import pty
    import select
    import termios

    ours, its = pty.openpty()
    # So many rows that no bar is left out, and so many columns that no line is broken.
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 250, 250, 0, 0))
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=its, stderr=its, env=environment)
    os.close(its)
    try:
        # On Linux the other end is gone with an error.
        with suppress(OSError):
            while True:
                readable, _, _ = select.select([ours], [], [], _REDRAW_EVERY_S)
                if readable and not (read := os.read(ours, 1 << 16)):
                    break
                yield read.decode("utf-8", "replace") if readable else ""
        yield process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
        os.close(ours)


def install(command: list[str], out: TextIO) -> int:
    """Run uv's `command`; its exit code. `out` gets one line of progress, and everything that uv said if it failed."""
    seen, line, start = Seen(), Line(out), time.monotonic()
    code = 1
    try:
        for read in _output(command):
            if isinstance(read, int):
                code = read
            else:
                seen.read(read)
                line.show(seen, time.monotonic())
    except KeyboardInterrupt:
        line.end("Stopped; what was downloaded whole is kept, and make setup goes on from there.")
        return 130
    seen.close()
    if code:
        line.end("\n".join(seen.said) or f"{command[0]} ended with {code} and said nothing.")
    elif seen.installed or seen.packages:
        line.end(f"{seen.packages} packages are in place ({_duration(time.monotonic() - start)}).")
    else:
        line.end()
    return code


if __name__ == "__main__":
    try:
        import pty as _pty  # noqa: F401 - not on Windows
    except ImportError:
        sys.exit(subprocess.call(sys.argv[1:]))
    sys.exit(install(sys.argv[1:], sys.stderr))
