"""Four times more requests than the service can answer, for a minute; and how fast it is ready.

    python -m benchmarks.overload [--seconds S] [--package FOLDER] [--markdown]

A closed loop finds out the capacity. Then requests come at four times that rate, whatever became of those before;
latency counts from when each was due. After that the service is started three times with the model in its cache.
"""

import argparse
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.load import Answer, Job, Outcome, run_load, upload
from benchmarks.models import fastest_passed, made_package, made_photo, registered
from benchmarks.processes import Memory, free_port, memory, mlflow_server, service
from benchmarks.reporting import Bar, Report, Table, milliseconds, number, percentile

from transect.engine import read_manifest
from transect.settings import load_settings

FACTOR = 4
CLIENTS = 8
CAPACITY_S = 8.0
STARTS = 3
IDLE_S = 3.0


@dataclass(frozen=True)
class Overload:
    """The service at `FACTOR` times its capacity (answers a second), and its memory before, after and at its most."""

    capacity: float
    outcome: Outcome
    seconds: float
    alive: bool
    memory: tuple[Memory, Memory, Memory]


@dataclass(frozen=True)
class Start:
    """One start with the model in the cache: seconds until ready, and the memory of the idle process."""

    registry: str
    ready_s: float
    idle: Memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the overload")
    parser.add_argument("--package", type=Path, help="model package (default: the starter weights at 640 pixels)")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="folder for what is made")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    photo = made_photo(arguments.work)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.work) as folder, ExitStack() as stack:
        scratch = Path(folder).absolute()
        package = arguments.package or made_package(scratch, arguments.work)
        precision, home = fastest_passed(read_manifest(package)), scratch / "home"
        server = stack.enter_context(mlflow_server(scratch))
        environment = {"MLFLOW_TRACKING_URI": server.url, "TRANSECT_PRECISION": precision}
        registered(load_settings({**environment, "TRANSECT_HOME": str(home)}, None), package, scratch)
        overload = _overload(home, environment, photo, arguments.seconds)
        nobody = {**environment, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}"}
        starts = [_start(home, environment, "MLflow answers") for _ in range(STARTS)]
        starts += [_start(home, nobody, "MLflow is away") for _ in range(STARTS)]
    print(overload_report(overload, precision).show(markdown=arguments.markdown) + "\n")
    print(start_report(starts, precision).show(markdown=arguments.markdown))


def _overload(home: Path, environment: dict[str, str], photo: bytes, seconds: float) -> Overload:
    with service(home, environment) as started:
        request = upload(started.port, "/v1/detect?tile=off", photo)
        closed = run_load(Job(started.port, request, CAPACITY_S, clients=CLIENTS)).answers
        capacity = sum(answer.status == 200 for answer in closed) / (max(a.done for a in closed) - closed[0].due)
        before = memory(started.pid)
        rate = FACTOR * capacity
        print(f"capacity {number(capacity)} answers/s; offering {number(rate)}/s", file=sys.stderr, flush=True)
        arrivals = tuple(number / rate for number in range(int(rate * seconds)))
        outcome = run_load(Job(started.port, request, seconds, arrivals=arrivals))
        after = memory(started.pid)
        time.sleep(IDLE_S)
        again = run_load(Job(started.port, request, 1.0, clients=1)).answers
        alive = bool(again) and all(answer.status == 200 for answer in again)
        return Overload(capacity, outcome, seconds, alive, (before, after, memory(started.pid)))


def overload_report(overload: Overload, precision: str) -> Report:
    """Table and bars of the second issue."""
    answers = overload.outcome.answers
    accepted = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 503]
    other = [answer for answer in answers if answer.status not in (0, 200, 503)]
    missing = [answer for answer in answers if not answer.status]
    late = percentile([answer.sent - answer.due for answer in answers], 0.99)
    rows = [_row("accepted", accepted, overload.seconds), _row("refused, 503", refused, overload.seconds)]
    memories = (
        ("RSS", *(number(one.rss) for one in overload.memory)),
        ("PSS", *(number(one.pss) for one in overload.memory)),
    )
    done = (
        f"{number(FACTOR * overload.capacity)} requests a second, {FACTOR} times the capacity of "
        f"{number(overload.capacity)}, for {overload.seconds:g} s; precision {precision}. The load generator used "
        f"{overload.outcome.own_cpu:.0%} of one core and sent 99% of the requests within {milliseconds(late)} ms of "
        "when they were due, which is part of the latencies."
    )
    bars = (
        Bar("answers that are neither 200 nor 503", len(other), 0),
        Bar("requests without an answer", len(missing), 0),
        Bar("refused, p99", 1000 * percentile([answer.latency for answer in refused], 0.99), 50, "ms"),
        Bar("answers again when it is over", float(overload.alive), 1, at_least=True),
    )
    tables = (
        Table(("answers", "count", "a second", "p50 ms", "p99 ms", "slowest ms"), tuple(rows)),
        Table(("memory, MiB", "before", "at the end", f"{IDLE_S:g} s later"), memories),
    )
    return Report("Overload", done, tables, bars)


def _row(name: str, answers: Sequence[Answer], seconds: float) -> tuple[str, ...]:
    latencies = [answer.latency for answer in answers]
    shares = (milliseconds(percentile(latencies, share)) for share in (0.5, 0.99, 1.0))
    return (name, f"{len(answers):,}", number(len(answers) / seconds), *shares)


def _start(home: Path, environment: dict[str, str], registry: str) -> Start:
    with service(home, environment) as started:
        time.sleep(IDLE_S)
        urllib.request.urlopen(f"{started.url}/v1/model", timeout=30).close()
        return Start(registry, started.ready_s, memory(started.pid))


def start_report(starts: Sequence[Start], precision: str) -> Report:
    """Seconds from the start of the process to ready, and memory before the first request."""
    rows = []
    for registry in dict.fromkeys(start.registry for start in starts):
        chosen = [start for start in starts if start.registry == registry]
        seconds = ", ".join(number(start.ready_s) for start in chosen)
        rss, pss = (number(median(values)) for values in zip(*((s.idle.rss, s.idle.pss) for s in chosen), strict=True))
        rows.append((registry, seconds, rss, pss))
    done = (
        f"From the start of the process to 200 at /readyz with the model in the cache, precision {precision}; memory "
        f"{IDLE_S:g} s later, without a request. With MLflow's full package, of which the detector's image has the "
        "client alone."
    )
    bars = (Bar("ready, slowest", max(start.ready_s for start in starts), 5.0, "s"),)
    return Report("Start", done, (Table(("", "ready after s", "idle RSS MiB", "idle PSS MiB"), tuple(rows)),), bars)


if __name__ == "__main__":
    main()
