"""Our service against FastAPI + Ultralytics and LitServe + Ultralytics: throughput and latency under load.

    python -m benchmarks.serve [--seconds S] [--package FOLDER] [--photo FILE] [--markdown]

The same machine, weights, photo and thresholds for all, one service at a time. Closed loop with 1 to 16 clients
gives the capacity; then requests come at 80% of it, whether or not those before were answered, at even distances
and at random ones, and latency counts from when each was due. The others run in .venv-bench, each in the best of
the ways in which they can be set up, which is found out first.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Job, Outcome, run_load, upload
from benchmarks.models import IOU, fastest_passed, made_package, made_photo, passed, registered
from benchmarks.processes import Running, free_port, running, service
from benchmarks.reporting import Bar, Report, Table, cores, milliseconds, number, percentile, poisson_arrivals

from transect.engine import WEIGHTS_FILE, PackageManifest, Precision, read_manifest
from transect.settings import load_settings

CLIENTS = (1, 2, 4, 8, 16)
SHARE = 0.8
WARM_S = 2.0
_PEERS_PYTHON = Path(".venv-bench/bin/python")


@dataclass(frozen=True)
class Contender:
    """A service: how to start it and where to post."""

    name: str
    setup: str
    start: Callable[[], AbstractContextManager[Running]]
    target: str
    ours: bool = False


@dataclass(frozen=True)
class Step:
    """Answers under one load: how many a second, seconds at the median and at 99%, and how many were no 200."""

    rate: float
    p50: float
    p99: float
    failed: int
    own_cpu: float


@dataclass(frozen=True)
class Measured:
    """A service under all loads."""

    contender: Contender
    closed: dict[int, Step]
    even: Step
    random: Step

    @property
    def capacity(self) -> float:
        """Answers a second at the best number of clients."""
        return max(step.rate for step in self.closed.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a closed-loop step; open ones take twice")
    parser.add_argument("--package", type=Path, help="model package (default: the starter weights at 640 pixels)")
    parser.add_argument("--photo", type=Path, help="JPEG to ask about (default: a made one of 1024 x 1024 pixels)")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="folder for what is made")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    photo = arguments.photo.read_bytes() if arguments.photo else made_photo(arguments.work)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.work) as folder:
        scratch = Path(folder).absolute()
        package = arguments.package or made_package(scratch, arguments.work)
        home = scratch / "home"
        registered(load_settings({"TRANSECT_HOME": str(home)}, None), package, scratch)
        manifest = read_manifest(package)
        contenders = _ours(home, manifest)
        environment = _peer_environment(scratch, package, manifest)
        contenders += [_best_of(choices, photo) for choices in _peers(scratch, environment)]
        measured = [measure(contender, photo, arguments.seconds) for contender in contenders]
    done = (
        f"{manifest.architecture} at {manifest.image_size} pixels; one JPEG of {len(photo) / 1000:.0f} kB, searched "
        f"whole, score at least {manifest.conf:g}, NMS at IoU {IOU}; {arguments.seconds:g} s a step."
    )
    print(report(measured, done).show(markdown=arguments.markdown))


def measure(contender: Contender, photo: bytes, seconds: float) -> Measured:
    """Start it, put it under every load, stop it."""
    with contender.start() as started:
        request = upload(started.port, contender.target, photo)
        run_load(Job(started.port, request, WARM_S, clients=4))
        closed = {count: _step(run_load(Job(started.port, request, seconds, clients=count))) for count in CLIENTS}
        rate = SHARE * max(step.rate for step in closed.values())
        length = 2 * seconds
        even = [number / rate for number in range(int(rate * length))]
        open_loop = [
            _step(run_load(Job(started.port, request, length, arrivals=tuple(arrivals))))
            for arrivals in (even, poisson_arrivals(rate, length))
        ]
    print(f"{contender.name}: measured", file=sys.stderr, flush=True)
    return Measured(contender, closed, *open_loop)


def _step(outcome: Outcome) -> Step:
    good = [answer for answer in outcome.answers if answer.status == 200]
    latencies = [answer.latency for answer in good]
    span = max(a.done for a in outcome.answers) - min(a.due for a in outcome.answers) if outcome.answers else 1.0
    failed = len(outcome.answers) - len(good)
    return Step(len(good) / span, percentile(latencies, 0.5), percentile(latencies, 0.99), failed, outcome.own_cpu)


def report(measured: Sequence[Measured], done: str) -> Report:
    """Tables and bars; the first of `measured` is ours as it serves by default."""
    ours, peers = measured[0], [one for one in measured if not one.contender.ours]
    best = max(peers, key=lambda one: one.capacity)
    steps = [step for one in measured for step in (*one.closed.values(), one.even, one.random)]
    setups = "; ".join(f"{one.contender.name}: {one.contender.setup}" for one in measured)
    said = (
        f"{done} {setups}. {sum(step.failed for step in steps)} requests were not answered with 200. "
        f"The load generator used {max(step.own_cpu for step in steps):.0%} of one core at most."
    )
    bars = (
        Bar(f"throughput against {best.contender.name}", ours.capacity / best.capacity, 4.0, "times", at_least=True),
        Bar("p99 at 80% load, even arrivals", ours.even.p99 / ours.even.p50, 2.0, "times p50"),
    )
    return Report("Serving", said, (_closed_table(measured, best), _open_table(measured)), bars)


def _closed_table(measured: Sequence[Measured], best: Measured) -> Table:
    rows = []
    for one in measured:
        steps = [f"{number(s.rate)} ({milliseconds(s.p50)}, {milliseconds(s.p99)})" for s in one.closed.values()]
        ratio = f"{number(one.capacity / best.capacity)}x"
        rows.append((one.contender.name, *steps, number(one.capacity), ratio))
    clients = [f"{count} clients" for count in CLIENTS]
    return Table(("answers/s (p50, p99 in ms)", *clients, "capacity/s", "to the best peer"), tuple(rows))


def _open_table(measured: Sequence[Measured]) -> Table:
    rows = []
    for one in measured:
        for kind, step in (("even", one.even), ("random", one.random)):
            cells = (milliseconds(step.p50), milliseconds(step.p99), number(step.p99 / step.p50))
            rows.append((one.contender.name, kind, number(step.rate), *cells))
    return Table(("at 80% of its capacity", "arrivals", "answers/s", "p50 ms", "p99 ms", "p99 / p50"), tuple(rows))


def _ours(home: Path, manifest: PackageManifest) -> list[Contender]:
    """Our service as it serves by default, then in each other precision."""
    served = fastest_passed(manifest)
    order = [served, *(precision for precision in manifest.precisions if precision != served)]
    return [_ours_in(home, manifest, precision) for precision in order]


def _ours_in(home: Path, manifest: PackageManifest, precision: Precision) -> Contender:
    settings = {"TRANSECT_PRECISION": precision, "TRANSECT_IOU": str(IOU), "TRANSECT_TILE": "off"}
    good = passed(manifest, precision)
    gate = "" if precision == "fp32" else ", which passed its gate" if good else ", which FAILED its gate"
    setup = f"one process as it is by default but for its precision {precision}{gate}"
    return Contender(f"ours, {precision}", setup, lambda: service(home, settings), "/v1/detect", ours=True)


def _peers(scratch: Path, environment: Mapping[str, str]) -> tuple[list[Contender], ...]:
    """The ways to set each peer up: one image for all cores at a time, or an image for each core at a time."""
    every = cores()
    return (
        [_fastapi(scratch, environment, *how) for how in (("shared", 1, every), ("own", 1, 1), ("shared", every, 1))],
        [_litserve(scratch, environment, *how) for how in ((1, 8, every), (every, 8, 1), (every, 1, 1))],
    )


def _fastapi(scratch: Path, environment: Mapping[str, str], models: str, processes: int, threads: int) -> Contender:
    def start() -> AbstractContextManager[Running]:
        port = free_port()
        command = [str(_PEERS_PYTHON), "-m", "uvicorn", "--factory", "benchmarks.peers.fastapi_ultralytics:create_app"]
        command += ["--port", str(port), "--workers", str(processes), "--log-level", "warning"]
        own = {"BENCH_MODELS": models, "BENCH_THREADS": str(threads)}
        return running(command, port, "/health", scratch / "fastapi.log", {**environment, **own})

    kept = "one model behind a lock" if models == "shared" else "a model for each thread"
    setup = f"{processes} processes of uvicorn, {kept}, {threads} threads of torch"
    return Contender("FastAPI + Ultralytics", setup, start, "/detect")


def _litserve(scratch: Path, environment: Mapping[str, str], workers: int, batch: int, threads: int) -> Contender:
    def start() -> AbstractContextManager[Running]:
        port = free_port()
        own = {"BENCH_WORKERS": workers, "BENCH_BATCH": batch, "BENCH_THREADS": threads, "BENCH_PORT": port}
        command = [str(_PEERS_PYTHON), "-m", "benchmarks.peers.litserve_ultralytics"]
        given = {**environment, **{name: str(value) for name, value in own.items()}}
        return running(command, port, "/health", scratch / "litserve.log", given)

    setup = f"{workers} workers, batches of up to {batch}, {threads} threads of torch"
    return Contender("LitServe + Ultralytics", setup, start, "/predict")


def _peer_environment(scratch: Path, package: Path, manifest: PackageManifest) -> Mapping[str, str]:
    return {
        "YOLO_CONFIG_DIR": str(scratch),
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
        "YOLO_VERBOSE": "false",
        "BENCH_WEIGHTS": str((package / WEIGHTS_FILE).absolute()),
        "BENCH_SIZE": str(manifest.image_size),
        "BENCH_CONF": str(manifest.conf),
        "BENCH_IOU": str(IOU),
    }


def _best_of(choices: Sequence[Contender], photo: bytes) -> Contender:
    """The way to set a service up that answers most, with 8 clients for a moment."""
    rates = []
    for choice in choices:
        with choice.start() as started:
            request = upload(started.port, choice.target, photo)
            run_load(Job(started.port, request, WARM_S, clients=8))
            rates.append(_step(run_load(Job(started.port, request, 2 * WARM_S, clients=8))).rate)
        print(f"{choice.name}, {choice.setup}: {number(rates[-1])} answers/s", file=sys.stderr, flush=True)
    return choices[rates.index(max(rates))]


if __name__ == "__main__":
    main()
