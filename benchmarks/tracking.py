"""The cost of tracking: the same training with and without it, interleaved.

    python -m benchmarks.tracking [--rounds N] [--epochs N] [--images N] [--markdown]

The training is yolo11n on a synthetic set, with one seed. Without tracking there is no log, no system metrics and no
MLflow. With it, MLflow is a real server on SQLite, the same one behind a proxy that delays responses by half a second,
and, for comparison, the embedded store in the trainer's process, or a server that is away throughout. Noise is measured
as the training without tracking against itself. The two trainings of a pair run in short turns, in which the other is
stopped (benchmarks/interleaved.py). The server, its database and the proxy have the last core to themselves, and the
trainers the others, since in the field the server is another machine.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from benchmarks.interleaved import TURN_S, Program, run_interleaved
from benchmarks.processes import free_port, mlflow_server, running
from benchmarks.reporting import Bar, Report, Table, milliseconds, number
from benchmarks.training_process import Spent, read_noted, write_recipe

from transect.synth import make_dataset
from transect.training.run_session import termination_as_interrupt

WITHOUT, AGAIN = "without", "nothing: the same again"
SERVER, LATE, EMBEDDED, AWAY = "MLflow server", "500 ms late", "embedded store", "MLflow away"
LATE_S = 1.0
"""How late the late server is. While it is waited for, a training in turns stands still for half of the time."""

LIMITS = {SERVER: 1.0, LATE: 2.0}
"""The most that tracking may add to a training, in percent."""

OTHERS_EVERY = 6
"""How many rounds there are to one of what has no limit: the whole command, other stores, nothing at all."""

_NOTED = "noted.json"

Pair = Mapping[str, Spent]
Figure = Callable[[Spent], float | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="pairs with each server")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=256, help="training images")
    parser.add_argument("--tile", type=int, default=160, help="side of an image in pixels")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="folder for what is made")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    images, tile = arguments.images, arguments.tile
    folder = arguments.work / f"tracking-{images}-{tile}"
    data = make_dataset(folder, train=images, val=max(images // 4, 8), test=max(images // 8, 8), tile=tile)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.work) as made, ExitStack() as stack:
        stack.enter_context(termination_as_interrupt())
        scratch = Path(made).absolute()
        with on_cores(server_cores()):
            uris = _servers(scratch, stack)
        stack.enter_context(on_cores(trainer_cores()))
        trainings = Trainings(data.absolute(), scratch, tile, uris)
        trainings.warm_up()
        pairs = trainings.rounds(arguments.rounds, arguments.epochs)
    print(report(pairs, arguments.epochs).show(markdown=arguments.markdown))


def orders(rounds: int) -> list[list[tuple[str, str]]]:
    """The pairs of each round, whoever has the first turn first: it changes from pair to pair, and round to round."""
    found = []
    for turn in range(rounds):
        ways = (SERVER, LATE, EMBEDDED, AWAY, AGAIN) if turn % OTHERS_EVERY == 0 else (SERVER, LATE)
        found.append([(WITHOUT, way) if (turn + place) % 2 == 0 else (way, WITHOUT) for place, way in enumerate(ways)])
    return found


@dataclass(frozen=True)
class Trainings:
    """The same training, as often as wanted, each in a process of its own and with a TRANSECT_HOME of its own.

    `data` is a data.yaml of pictures of `tile` pixels; `uris` says where MLflow is in each way.
    """

    data: Path
    scratch: Path
    tile: int
    uris: Mapping[str, str]

    @property
    def _home(self) -> Path:
        """What each home is a copy of."""
        return self.scratch / "home"

    def warm_up(self) -> None:
        """Make the embedded store, and read what everything needs for the first time."""
        recipe = write_recipe(self.scratch / "warm-up.yaml", 1, self.tile)
        run_interleaved([self._program(EMBEDDED, recipe, self._home, whole=True)])
        shutil.rmtree(self._home / "train")

    def rounds(self, count: int, epochs: int) -> list[Pair]:
        """All pairs of so many rounds."""
        recipe = write_recipe(self.scratch / "tracking.yaml", epochs, self.tile)
        found = []
        for turn, order in enumerate(orders(count)):
            for ways in order:
                found.append(self._pair(ways, recipe, whole=turn % OTHERS_EVERY == 0))
                print(f"round {turn + 1}, {_sentence(found[-1])}", file=sys.stderr, flush=True)
        return found

    def _pair(self, ways: Sequence[str], recipe: Path, *, whole: bool) -> Pair:
        with tempfile.TemporaryDirectory(prefix="pair-", dir=self.scratch) as made:
            homes = [Path(made) / str(place) for place in range(len(ways))]
            for home in homes:
                shutil.copytree(self._home, home)
            programs = [self._program(way, recipe, home, whole=whole) for way, home in zip(ways, homes, strict=True)]
            turns = run_interleaved(programs)
            return {
                way: read_noted(home / _NOTED).spent(its) for way, home, its in zip(ways, homes, turns, strict=True)
            }

    def _program(self, way: str, recipe: Path, home: Path, *, whole: bool) -> Program:
        command = [sys.executable, "-m", "benchmarks.training_process", str(recipe), str(self.data), str(home / _NOTED)]
        command += ["--tracked"] * (way not in (WITHOUT, AGAIN)) + ["--whole"] * whole
        variables = {
            "TRANSECT_HOME": str(home),
            "TRANSECT_PRETRAINED": "starter",
            "TRANSECT_DEVICE": "cpu",
            "MLFLOW_TRACKING_URI": self.uris[way],
            # Nobody waits for a server that never comes.
            "TRANSECT_TRACKING_WAIT": "0" if way == AWAY else "120",
            # A training imports as it goes; where no bytecode is kept, it would compile all that each time.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(self.scratch / "bytecode"),
        }
        return Program(command, home / "said.log", variables)


def _sentence(pair: Pair) -> str:
    without = pair[WITHOUT].training
    way, beside = next((way, spent.training) for way, spent in pair.items() if way != WITHOUT)
    added = _percent(beside / without - 1)
    return f"{way}: {number(without)} s of training without tracking, {number(beside)} s with it, {added}"


def overheads(pairs: Sequence[Pair], way: str, figure: Figure) -> list[float]:
    """The figure of `way` to that without tracking, minus 1, in each pair that has it."""
    return [beside / without - 1 for without, beside in _figures(pairs, way, figure)]


def _figures(pairs: Sequence[Pair], way: str, figure: Figure) -> list[tuple[float, float]]:
    found = [(figure(pair[WITHOUT]), figure(pair[way])) for pair in pairs if way in pair]
    return [(without, beside) for without, beside in found if without is not None and beside is not None]


def report(pairs: Sequence[Pair], epochs: int) -> Report:
    """Tables and bars."""
    ways = [way for way in (SERVER, LATE, EMBEDDED, AWAY, AGAIN) if any(way in pair for pair in pairs)]
    results = [spent.metrics for pair in pairs for spent in pair.values()]
    seconds = median(pair[WITHOUT].training for pair in pairs)
    done = (
        f"yolo11n on one seed and {len(trainer_cores())} core(s), {epochs} epochs of {number(seconds / epochs)} s, "
        f"{len(pairs)} pairs after one training to warm up; MLflow's server, its SQLite database and the proxy on core "
        f"{', '.join(map(str, sorted(server_cores())))}. A pair is a training with tracking and one without it, which "
        f"run in turns of {TURN_S:g} s: one runs, the other is stopped, and its time is what its turns granted it. The "
        f"late server keeps each answer back for {LATE_S:g} s, of which a training is stopped for half. "
        f"'training' is from the first call of the trainer to the end of the last validation; 'whole' adds the export, "
        f"the evaluation and the package, and with tracking also the beginning of the run, its files, the upload of "
        f"the model and the wait until all is delivered. The machine is watched by the clock, which goes on while a "
        f"training stands still: entries, and what they cost, are more than in a training that runs alone."
    )
    tables = (
        _compared("training", pairs, ways, lambda spent: spent.training),
        _compared("training, processor", pairs, ways, lambda spent: spent.training_cpu),
        _compared("whole", pairs, ways, lambda spent: spent.whole),
        _told(pairs, [way for way in ways if way != AGAIN]),
    )
    bars = (
        *(
            Bar(f"tracking adds to a training, {way}, median", 100 * median(added), limit, "%")
            for way, limit in LIMITS.items()
            if (added := overheads(pairs, way, lambda spent: spent.training))
        ),
        Bar("trainings whose validation is not the first one's", sum(found != results[0] for found in results), 0),
    )
    return Report("Tracking", done, tables, bars)


def _compared(what: str, pairs: Sequence[Pair], ways: Sequence[str], figure: Figure) -> Table:
    rows = []
    for way in ways:
        figures = _figures(pairs, way, figure)
        if not figures:
            continue
        added = overheads(pairs, way, figure)
        without, beside = (median(values) for values in zip(*figures, strict=True))
        rows.append(
            (
                way,
                str(len(figures)),
                number(without),
                number(beside),
                *map(_percent, (median(added), min(added), max(added))),
            )
        )
    return Table((what, "pairs", "s without", "s with", "added, median", "least", "most"), tuple(rows))


def _told(pairs: Sequence[Pair], ways: Sequence[str]) -> Table:
    """What tracking does in the trainer's process during a training, by the clocks of its threads."""
    rows = []
    for way in ways:
        found = [pair[way] for pair in pairs if way in pair]
        cpu = [spent.telling_cpu + sum(spent.threads.values()) for spent in found]
        rows.append(
            (
                way,
                number(mean(spent.entries for spent in found)),
                number(mean(spent.entries / spent.training for spent in found)),
                milliseconds(mean(spent.telling for spent in found)),
                milliseconds(mean(spent.telling_cpu for spent in found)),
                milliseconds(mean(spent.threads.get("run-log", 0.0) for spent in found)),
                milliseconds(mean(spent.threads.get("system-metrics", 0.0) for spent in found)),
                _percent(mean(cpu) / mean(spent.training for spent in found)),
            )
        )
    columns = ("in one training", "entries", "a second", "trainer told, ms", "its CPU ms", "delivery, CPU ms")
    return Table((*columns, "watching, CPU ms", "all CPU"), tuple(rows))


def _percent(share: float) -> str:
    return f"{100 * share:+.2f}%"


def _servers(scratch: Path, stack: ExitStack) -> dict[str, str]:
    """Where MLflow is in each way; the servers run until `stack` is closed."""
    server = stack.enter_context(mlflow_server(scratch))
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "benchmarks.latency_proxy",
        "--port",
        str(port),
        "--to",
        f"127.0.0.1:{server.port}",
    ]
    late = stack.enter_context(running([*command, "--seconds", str(LATE_S)], port, "/health", scratch / "late.log"))
    away = f"http://127.0.0.1:{free_port()}"
    return {WITHOUT: "", AGAIN: "", SERVER: server.url, LATE: late.url, EMBEDDED: "", AWAY: away}


def server_cores() -> set[int]:
    """The last core."""
    return {max(_all_cores())}


def trainer_cores() -> set[int]:
    """All cores but the last, where there are several."""
    return (_all_cores() - server_cores()) or _all_cores()


_ALL = frozenset(os.sched_getaffinity(0))


def _all_cores() -> set[int]:
    return set(_ALL)


@contextmanager
def on_cores(wanted: set[int]) -> Iterator[None]:
    """Keep this process, its threads and the processes that it starts to some cores while the block runs."""
    _pin(wanted)
    try:
        yield
    finally:
        _pin(_all_cores())


def _pin(wanted: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), wanted)


if __name__ == "__main__":
    main()
