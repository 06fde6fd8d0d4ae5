"""Fifty alias moves under load, with a real MLflow server and its webhook.

    python -m benchmarks.swap [--moves N] [--package FOLDER] [--markdown]

Eight clients ask without a pause while the alias goes to and fro between two versions of yolo11n, which the service
has in its cache. A move begins when MLflow is asked for it; `during` lasts from there until one second after the
first answer by the new version, all else is `outside`.
"""

import argparse
import json
import re
import secrets
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.load import Answer, Job, Load, upload
from benchmarks.models import fastest_passed, made_package, made_photo, registered
from benchmarks.processes import Memory, Running, free_port, memory, mlflow_server, service
from benchmarks.reporting import Bar, Report, Table, milliseconds, number, percentile
from cryptography.fernet import Fernet

from transect.engine import read_manifest
from transect.registry import connect, register_webhook
from transect.settings import load_settings

CLIENTS = 8
AFTER_S = 1.0
REST_S = 2.0
EARLY, LATE = 5, 50
_LONGEST_LOAD_S = 3600.0
_SAMPLES = 10


@dataclass(frozen=True)
class Move:
    """The alias moved to `version`; monotonic seconds when MLflow was asked and when it had done it."""

    version: str
    asked: float
    done: float


@dataclass(frozen=True)
class Watched:
    """All answers, all moves, the service's memory after some of them, and the webhooks that it took."""

    answers: tuple[Answer, ...]
    moves: tuple[Move, ...]
    memory: dict[int, Memory]
    webhooks: int
    own_cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=LATE)
    parser.add_argument("--rest", type=float, default=REST_S, help="seconds between one swap and the next move")
    parser.add_argument("--package", type=Path, help="model package (default: the starter weights at 640 pixels)")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="folder for what is made")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.work) as folder, ExitStack() as stack:
        scratch = Path(folder).absolute()
        package = arguments.package or made_package(scratch, arguments.work)
        precision = fastest_passed(read_manifest(package))
        watched = _watch(
            scratch, package, precision, made_photo(arguments.work), arguments.moves, arguments.rest, stack
        )
    print(report(watched, precision).show(markdown=arguments.markdown))


def _watch(
    scratch: Path, package: Path, precision: str, photo: bytes, count: int, rest: float, stack: ExitStack
) -> Watched:
    hooks = {
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
    }
    server = stack.enter_context(mlflow_server(scratch, hooks))
    port = free_port()
    environment = {
        "MLFLOW_TRACKING_URI": server.url,
        "TRANSECT_WEBHOOK_SECRET": secrets.token_urlsafe(24),
        "TRANSECT_PRECISION": precision,
    }
    home = scratch / "home"
    settings = load_settings({**environment, "TRANSECT_HOME": str(home)}, None)
    # Before the first event: the server remembers for a minute which webhooks there are.
    register_webhook(connect(settings), f"http://127.0.0.1:{port}/v1/hooks/mlflow")
    versions = registered(settings, package, scratch, versions=2)
    started = stack.enter_context(service(home, environment, port))
    client = connect(settings).client

    def move(version: str) -> Move:
        asked = time.monotonic()
        client.set_registered_model_alias(settings.model_name, settings.model_alias, version)
        return Move(version, asked, time.monotonic())

    # Once to and fro without load, so that both versions are in the cache.
    for version in (versions[1], versions[0]):
        move(version)
        _until_served(started, version)
    earlier = _webhooks(started)
    load = Load(Job(started.port, upload(started.port, "/v1/detect?tile=off", photo), _LONGEST_LOAD_S, clients=CLIENTS))
    time.sleep(3 * rest)
    moves, measured = [], dict[int, Memory]()
    for turn in range(1, count + 1):
        moves.append(move(versions[turn % 2]))
        _until_served(started, versions[turn % 2])
        time.sleep(AFTER_S + rest)
        if turn in (EARLY, count):
            measured[turn] = _memory(started.pid)
            print(f"{turn} of {count} moves, {number(measured[turn].rss)} MiB", file=sys.stderr, flush=True)
    outcome = load.stop()
    return Watched(outcome.answers, tuple(moves), measured, _webhooks(started) - earlier, outcome.own_cpu)


def report(watched: Watched, precision: str) -> Report:
    """Table and bars of the second issue."""
    failed = [answer for answer in watched.answers if answer.status != 200]
    nameless = [answer for answer in watched.answers if answer.status == 200 and not answer.version]
    delays = first_answers(watched.moves, watched.answers)
    windows = [(move.asked, move.asked + delay + AFTER_S) for move, delay in zip(watched.moves, delays, strict=True)]
    outside, during = split(watched.answers, windows)
    ratio = percentile(during, 0.99) / percentile(outside, 0.99)
    rows = [
        (name, f"{len(values):,}", *(milliseconds(percentile(values, share)) for share in (0.5, 0.99, 1.0)))
        for name, values in (("outside", outside), ("during swaps", during))
    ]
    turns = sorted(watched.memory)
    early, late = watched.memory[turns[0]], watched.memory[turns[-1]]
    memories = [
        (f"after {turn} swaps", number(watched.memory[turn].rss), number(watched.memory[turn].pss)) for turn in turns
    ]
    registry = median(move.done - move.asked for move in watched.moves)
    done = (
        f"{len(watched.moves)} alias moves under {CLIENTS} clients in a closed loop, precision {precision}; "
        f"{watched.webhooks} webhooks taken, and a poll every 5 s. From asking MLflow for the move to the first answer "
        f"by the new version: median {number(median(delays))} s, slowest {number(max(delays))} s, of which MLflow "
        f"takes {number(registry)} s to move the alias. The load generator used {watched.own_cpu:.0%} of one core."
    )
    bars = (
        Bar("requests that failed", len(failed), 0),
        Bar("answers that do not name their version", len(nameless), 0),
        Bar("p99 during swaps to p99 outside", ratio, 3.0, "times"),
        Bar("alias move to first answer, slowest", max(delays), 2.0, "s"),
        Bar(f"memory (RSS) after {turns[-1]} swaps to after {turns[0]}", late.rss / early.rss, 1.10, "times"),
    )
    tables = (
        Table(("answers", "count", "p50 ms", "p99 ms", "slowest ms"), tuple(rows)),
        Table(("memory", "RSS MiB", "PSS MiB"), tuple(memories)),
    )
    return Report("Swaps", done, tables, bars)


def first_answers(moves: Sequence[Move], answers: Sequence[Answer]) -> list[float]:
    """Seconds from each move to the first answer that names its version; infinite where none came."""
    delays = []
    for turn, move in enumerate(moves):
        end = moves[turn + 1].asked if turn + 1 < len(moves) else float("inf")
        times = (a.done for a in answers if move.asked <= a.done < end and a.version == move.version)
        delays.append(min(times, default=float("inf")) - move.asked)
    return delays


def split(answers: Sequence[Answer], windows: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Latencies of the good answers that were under way outside all windows, and of those inside one."""
    outside: list[float] = []
    during: list[float] = []
    for answer in answers:
        if answer.status == 200:
            touches = any(answer.due < end and answer.done > start for start, end in windows)
            (during if touches else outside).append(answer.latency)
    return outside, during


def _until_served(started: Running, version: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{started.url}/v1/model", timeout=30) as answer:
            if json.load(answer)["version"] == version:
                return
        time.sleep(0.25)
    raise SystemExit(f"Version {version} was not served within a minute.")


def _webhooks(started: Running) -> int:
    with urllib.request.urlopen(f"{started.url}/metrics", timeout=30) as answer:
        found = re.search(r'transect_webhooks_total\{outcome="accepted"\} (\S+)', answer.read().decode())
    return int(float(found[1])) if found else 0


def _memory(pid: int) -> Memory:
    """The median of some looks within a second or two: under load it goes up and down with the requests."""
    looks = []
    for _ in range(_SAMPLES):
        looks.append(memory(pid))
        time.sleep(0.15)
    return Memory(median(look.rss for look in looks), median(look.pss for look in looks))


if __name__ == "__main__":
    main()
