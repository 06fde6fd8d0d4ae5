"""What tracking costs a training: the same one with and without it, in turns.

    python -m benchmarks.tracking [--rounds N] [--epochs N] [--images N] [--markdown]

Trained is yolo11n on a synthetic set, in one process, with one seed. Without tracking there is no log, no watcher of
the machine and no MLflow; with it, a real MLflow server on SQLite, the same one behind a proxy whose answers come half
a second late, and, for comparison, the embedded store in the trainer's own process, and a server that is away from
beginning to end. The server, its database and the proxy have the last core to themselves, and the trainer the others,
since in the field the server is another machine.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice, permutations
from pathlib import Path
from statistics import mean, median

from benchmarks.measure import Bar, Report, Table, milliseconds, number
from benchmarks.processes import free_port, mlflow_server, running
from benchmarks.trainings import Spent, Training

from transect.settings import Settings, load_settings
from transect.synth import make_dataset

WITHOUT, SERVER, LATE, EMBEDDED, AWAY = "without", "MLflow server", "500 ms late", "embedded store", "MLflow away"
LATE_S = 0.5
LIMITS = {SERVER: 1.0, LATE: 2.0}
"""The most that tracking may add to a training, in percent."""

OTHERS_EVERY = 3
"""How many rounds there are to one of what has no limit: other stores, and the whole command."""

Round = Mapping[str, Spent]
Figure = Callable[[Spent], float | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="pairs with each server")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=256, help="training images")
    parser.add_argument("--tile", type=int, default=160, help="side of an image in pixels")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="folder for what is made")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    images, tile = arguments.images, arguments.tile
    folder = arguments.work / f"tracking-{images}-{tile}"
    data = make_dataset(folder, train=images, val=max(images // 4, 8), test=max(images // 8, 8), tile=tile)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.work) as made, ExitStack() as stack:
        scratch = Path(made).absolute()
        with on_cores(server_cores()):
            ways = _servers(scratch, stack)
        stack.enter_context(on_cores(trainer_cores()))
        # The embedded store is made here, and what everything needs is read for the first time.
        Training(data.absolute(), scratch, 1, tile).run(ways[EMBEDDED])
        training = Training(data.absolute(), scratch, arguments.epochs, tile)
        rounds = [_round(turn, order, ways, training) for turn, order in enumerate(orders(arguments.rounds))]
    print(report(rounds, arguments.epochs).show(markdown=arguments.markdown))


def orders(rounds: int) -> list[tuple[str, ...]]:
    """What is trained in each round, in order: what is compared takes each place equally often."""
    found = list(islice(cycle(permutations((WITHOUT, SERVER, LATE))), rounds))
    return [(*order, EMBEDDED, AWAY) if turn % OTHERS_EVERY == 0 else order for turn, order in enumerate(found)]


def overheads(rounds: Sequence[Round], way: str, figure: Figure) -> list[float]:
    """The figure of `way` to that without tracking, minus 1, in each round that has it."""
    return [beside / without - 1 for without, beside in _pairs(rounds, way, figure)]


def _pairs(rounds: Sequence[Round], way: str, figure: Figure) -> list[tuple[float, float]]:
    found = [(figure(turn[WITHOUT]), figure(turn[way])) for turn in rounds if way in turn]
    return [(without, beside) for without, beside in found if without is not None and beside is not None]


def report(rounds: Sequence[Round], epochs: int) -> Report:
    """Tables and bars."""
    ways = [way for way in (SERVER, LATE, EMBEDDED, AWAY) if any(way in found for found in rounds)]
    results = [found[way].metrics for found in rounds for way in found]
    bare = [found[WITHOUT] for found in rounds]
    seconds = median(spent.training for spent in bare)
    done = (
        f"yolo11n on one seed and {len(trainer_cores())} core(s), {epochs} epochs of {number(seconds / epochs)} s, "
        f"{len(rounds)} rounds in changing order after one training to warm up; MLflow's server, its SQLite database "
        f"and the proxy on core {', '.join(map(str, sorted(server_cores())))}. A pair is a training with tracking and "
        f"the one without it of the same round. 'training' is the time from the first call of the trainer to the end "
        f"of the last validation; 'whole' adds the export, the evaluation and the package, and with tracking also the "
        f"beginning of the run, its files, the upload of the model and the wait until all is delivered."
    )
    tables = (
        _compared("training", rounds, ways, lambda spent: spent.training),
        _compared("training, processor", rounds, ways, lambda spent: spent.training_cpu),
        _compared("whole", rounds, ways, lambda spent: spent.whole),
        _told(rounds, ways),
    )
    bars = (
        *(
            Bar(f"tracking adds to a training, {way}, median", 100 * median(added), limit, "%")
            for way, limit in LIMITS.items()
            if (added := overheads(rounds, way, lambda spent: spent.training))
        ),
        Bar("trainings whose validation is not the first one's", sum(found != results[0] for found in results), 0),
    )
    return Report("Tracking", done, tables, bars)


def _compared(what: str, rounds: Sequence[Round], ways: Sequence[str], figure: Figure) -> Table:
    rows = []
    for way in ways:
        pairs = _pairs(rounds, way, figure)
        if not pairs:
            continue
        added = overheads(rounds, way, figure)
        without, beside = (median(values) for values in zip(*pairs, strict=True))
        rows.append(
            (
                way,
                str(len(pairs)),
                number(without),
                number(beside),
                *map(_percent, (median(added), min(added), max(added))),
            )
        )
    return Table((what, "pairs", "s without", "s with", "added, median", "least", "most"), tuple(rows))


def _told(rounds: Sequence[Round], ways: Sequence[str]) -> Table:
    """What tracking does in the trainer's process during a training, by the clocks of its threads."""
    rows = []
    for way in ways:
        found = [turn[way] for turn in rounds if way in turn]
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


def _round(turn: int, order: Sequence[str], ways: Mapping[str, Settings], training: Training) -> Round:
    found = {}
    for way in order:
        whole = turn % OTHERS_EVERY == 0
        found[way] = training.run(ways[way], tracked=way != WITHOUT, whole=whole)
        print(f"round {turn + 1}, {way}: {number(found[way].training)} s of training", file=sys.stderr, flush=True)
    return found


def _servers(scratch: Path, stack: ExitStack) -> dict[str, Settings]:
    """Settings for each way; the servers that they name are running."""
    server = stack.enter_context(mlflow_server(scratch))
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.late", "--port", str(port), "--to", f"127.0.0.1:{server.port}"]
    late = stack.enter_context(running([*command, "--seconds", str(LATE_S)], port, "/health", scratch / "late.log"))
    uris = {WITHOUT: "", SERVER: server.url, LATE: late.url, EMBEDDED: "", AWAY: f"http://127.0.0.1:{free_port()}"}
    base = {"TRANSECT_HOME": str(scratch / "home"), "TRANSECT_PRETRAINED": "starter", "TRANSECT_DEVICE": "cpu"}
    found = {}
    for way, uri in uris.items():
        # Nobody waits for a server that never comes.
        wait = "0" if way == AWAY else "120"
        found[way] = load_settings({**base, "MLFLOW_TRACKING_URI": uri, "TRANSECT_TRACKING_WAIT": wait}, None)
    return found


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
