"""A promotion through the gate and its rollback from the command line, under a steady load.

The versions return different boxes, so that a response with the wrong version is detected.
"""

import io
import os
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import httpx
import pytest
from PIL import Image

from cli_process import run
from integration.detector_process import DetectorProcess, clients, open_shop, running_detector
from integration.servers import MlflowServer
from toy_model import build_toy_package, paint, write_toy_dataset
from transect.datasets import dataset_digest, load_dataset
from transect.registry import Registry, promote

CLIENTS = 4
# A steady load that leaves a machine of two cores time for the promotion.
PAUSE_S = 0.05
WORSE, BETTER = "1", "2"
EDGES = {WORSE: 20.0, BETTER: 16.0}


@dataclass(frozen=True)
class Answer:
    """One response: client, time of arrival, status, version and left edge of the box."""

    client: int
    at: float
    status: int
    version: str
    edge: float


@dataclass(frozen=True)
class Day:
    """The responses around a promotion and a rollback, and the state after both."""

    answers: list[Answer]
    followed: float
    printed: list[str]
    swaps: str
    aliases: dict[str, str]
    tags: dict[str, str]


def read(answer: httpx.Response) -> Answer:
    body = answer.json()
    version = str(body.get("model", {}).get("version", answer.text))
    [edge] = [item["box"][0] for item in body.get("detections", [])] or [-1.0]
    return Answer(threading.get_ident(), time.monotonic(), answer.status_code, version, edge)


def transect(environment: Mapping[str, str], *arguments: str) -> str:
    """Run the program as a process of its own, and return its output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "TRANSECT_"))}
    done = run(*arguments, env={**kept, **environment}, cwd=environment["TRANSECT_HOME"], timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def register(registry: Registry, package: Path, data: Path) -> str:
    run = registry.client.create_run(registry.experiment("serving"))
    tags = {"transect.data": str(data), "transect.dataset_digest": dataset_digest(load_dataset(data))}
    return registry.register(package, run.info.run_id, tags=tags).version


def wait_for_answers(detector: DetectorProcess, answers: list[Answer]) -> None:
    """Wait until each client has sent a request and got its response at least once more."""
    seen = len(answers)
    detector.wait_for(lambda: len({answer.client for answer in answers[seen + CLIENTS :]}) == CLIENTS)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory, mlflow_on_sqlite: MlflowServer) -> Day:
    folder = tmp_path_factory.mktemp("rollback")
    environment = {
        **mlflow_on_sqlite.environment(),
        "TRANSECT_MODEL_NAME": f"detector-{uuid.uuid4().hex[:8]}",
        "TRANSECT_THREADS": "1",
        "USER": "ada",
        "LOGNAME": "ada",
    }
    registry = open_shop(folder, environment).registry
    data = write_toy_dataset(folder / "data")
    assert register(registry, build_toy_package(folder / "worse", shift=4.0), data) == WORSE
    assert promote(registry, actor="ada").promoted
    assert register(registry, build_toy_package(folder / "better"), data) == BETTER
    gate = folder / "gate.yaml"
    # This test must not depend on latency, which varies on a busy machine.
    gate.write_text("max_latency_ratio: null\n", encoding="utf-8")
    operator = {**environment, "TRANSECT_HOME": str(folder / "operator")}
    Path(operator["TRANSECT_HOME"]).mkdir()
    picture = io.BytesIO()
    Image.fromarray(paint([(1, 2, "red")])).save(picture, "PNG")
    with running_detector(folder / "home", environment) as detector:
        detector.wait_for_version(WORSE)
        with clients(detector.client.base_url, picture.getvalue(), CLIENTS, read, PAUSE_S) as answers:
            wait_for_answers(detector, answers)
            printed = [transect(operator, "models", "promote", "--gate", str(gate), "--reason", "finds more")]
            detector.wait_for_version(BETTER)
            wait_for_answers(detector, answers)
            printed.append(transect(operator, "models", "rollback", "--reason", "counts stones"))
            detector.wait_for_version(WORSE)
            followed = time.monotonic()
            wait_for_answers(detector, answers)
        swaps = detector.client.get("/metrics").text
    return Day(
        answers=answers,
        followed=followed,
        printed=printed,
        swaps=swaps,
        aliases={alias: row.version for row in registry.list_versions() for alias in row.aliases},
        tags=dict(registry.resolve(BETTER).tags),
    )


def test_no_request_fails_and_each_answer_names_the_version_that_made_it(day: Day) -> None:
    assert {answer.status for answer in day.answers} == {200}
    assert {(answer.version, answer.edge) for answer in day.answers} == set(EDGES.items())


def test_every_client_sees_one_change_there_and_one_back(day: Day) -> None:
    by_client = defaultdict(list)
    for answer in day.answers:
        by_client[answer.client].append(answer.version)
    assert len(by_client) == CLIENTS
    for versions in by_client.values():
        assert [version for version, _ in groupby(versions)] == [WORSE, BETTER, WORSE]
    assert 'transect_model_swaps_total{outcome="swapped"} 3.0' in day.swaps


def test_once_the_detector_has_followed_only_the_previous_version_answers(day: Day) -> None:
    by_client = defaultdict(list)
    for answer in day.answers:
        by_client[answer.client].append(answer)
    # A client sends its requests one after another, so that these were sent after `followed`.
    sent_later = [
        later.version for own in by_client.values() for before, later in pairwise(own) if before.at > day.followed
    ]
    assert set(sent_later) == {WORSE}


def test_what_was_typed_is_on_record(day: Day) -> None:
    promoted, rolled_back = day.printed
    assert "in place of version 1" in promoted
    assert "version 2 is now previous" in rolled_back
    assert day.aliases == {"production": WORSE, "previous": BETTER, "candidate": BETTER}
    assert (day.tags["transect.verdict"], day.tags["transect.promoted_by"]) == ("promoted", "ada")
    assert (day.tags["transect.rolled_back_by"], day.tags["transect.rollback_reason"]) == ("ada", "counts stones")
