"""Install packages with uv and show one line of progress. Standard library only: nothing is installed yet.

usage: python3 tools/install.py UV ARGUMENT ...      such as  tools/install.py .venv/bin/uv pip install -r LIST

uv draws a bar for each download, and prints a line for each of 210 installed packages. This program runs it in a
pseudo-terminal and sums its bars. uv's other output is shown completely if it fails.
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
# uv's normal output: every package, and information on Python.
_LISTING = re.compile(
    r"^ [+~-] \S+==|^ [+~-] \S+ \(from |^(Using Python|Resolved|Prepared|Installed|Uninstalled|Audited) "
)
_LOOKED_UP = re.compile(r"^\S ([A-Za-z0-9]\S*)==")
_RATE_OVER_S = 20.0
_LOG_EVERY_S = 15.0
_REDRAW_EVERY_S = 0.25


@dataclass
class Seen:
    """The state of uv's screen: bytes by package, and the number of packages ready."""

    bars: dict[str, tuple[float, float]] = field(default_factory=dict)
    looked_up: set[str] = field(default_factory=set)
    ready: int = 0
    packages: int = 0
    installed: int = 0
    messages: list[str] = field(default_factory=list)
    _rest: str = ""

    def read(self, text: str) -> None:
        """Parse uv's output; an incomplete line waits for its rest."""
        text = _CONTROL.sub("\n", self._rest + text)
        text, _, self._rest = text.rpartition("\n")
        for line in re.split(r"[\r\n]+", text):
            self._line(line)

    def close(self) -> None:
        """Parse the rest of the last line."""
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
            self.messages.append(line.rstrip())

    @property
    def downloaded(self) -> float:
        """Bytes downloaded."""
        return sum(done for done, _ in self.bars.values())

    @property
    def announced(self) -> float:
        """Total bytes of all started downloads; more may follow."""
        return sum(size for _, size in self.bars.values())


def sentence(seen: Seen, rate: float) -> str:
    """One line: packages ready, bytes downloaded and announced, rate, and remaining time."""
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
    """A progress line: redrawn on a terminal, printed at intervals in a log."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        # In a log, work shorter than the interval needs no line.
        self._last = 0.0 if self._terminal else time.monotonic()
        self._history: list[tuple[float, float]] = []

    def show(self, seen: Seen, now: float) -> None:
        """Show the progress, if the interval has passed."""
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
        """Remove the line, and print `text`."""
        if self._terminal:
            print("\r\x1b[K", end="", file=self._out, flush=True)
        if text:
            print(text, file=self._out, flush=True)


def _output(command: list[str]) -> Iterator[str | int]:
    """Yield the program's pseudo-terminal output, "" every quarter of a second, and its exit code at the end."""
    import fcntl
    import pty
    import select
    import termios

    ours, its = pty.openpty()
    # Enough rows for all bars, and enough columns for unbroken lines.
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 250, 250, 0, 0))
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=its, stderr=its, env=environment)
    os.close(its)
    try:
        # On Linux a closed other end raises an error.
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
    """Run uv's `command`; returns its exit code. Writes progress to `out`, and uv's other output if it failed."""
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
        line.end("Stopped; complete downloads are kept, and make setup resumes from there.")
        return 130
    seen.close()
    if code:
        line.end("\n".join(seen.messages) or f"{command[0]} ended with {code} and no message.")
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
