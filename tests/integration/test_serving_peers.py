"""A moved alias reaches every replica: MLflow tells one of them, which passes the signed message on to the others.

All of them poll every ten minutes, longer than any test waits, so that only the message can be the cause.
"""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from integration.detector_process import DetectorProcess, open_shop, running_detector
from integration.servers import _free_ports
from integration.test_serving_webhook import SECRET, counted, event, initialise, mlflow, patient, post
from transect.serving.api.webhook_signature import sign
from transect.serving.models.peers import PASSED_ON


def passed_on(detector: DetectorProcess) -> dict[str, float]:
    """Return the number of messages to replicas by outcome."""
    found = re.findall(r'transect_webhook_peers_total\{outcome="(\w+)"\} (\S+)', detector.client.get("/metrics").text)
    return {name: float(number) for name, number in found}


def test_mlflow_tells_one_and_all_replicas_follow(tmp_path: Path, dot_package: Path) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    ports = _free_ports(3)
    initialise(store, f"http://127.0.0.1:{ports[0]}/v1/hooks/mlflow", SECRET)
    peers = ",".join(f"127.0.0.1:{port}" for port in ports)
    with ExitStack() as running:
        environment = running.enter_context(mlflow(tmp_path, store))
        shop = open_shop(tmp_path, environment)
        versions = [shop.register(dot_package), shop.register(dot_package)]
        replicas = [
            running.enter_context(
                running_detector(
                    tmp_path / str(port),
                    patient(environment, TRANSECT_PORT=str(port), TRANSECT_DETECTOR_PEERS=peers, TRANSECT_THREADS="1"),
                )
            )
            for port in ports
        ]
        for replica in replicas:
            replica.wait_for(lambda replica=replica: replica.state()["following"]["last_error"])
        for version in (*versions, versions[0]):
            shop.point(version)
            for replica in replicas:
                replica.wait_for_version(version)
        replicas[0].wait_for(lambda: sum(passed_on(replicas[0]).values()) == 9)
        # It does not count its own message, and the others pass nothing on.
        assert passed_on(replicas[0]) == {"told": 6, "ignored": 3, "failed": 0}
        assert [counted(replica)["accepted"] for replica in replicas] == [3, 3, 3]
        assert [sum(passed_on(replica).values()) for replica in replicas[1:]] == [0, 0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DetectorProcess]:
    """A service that has lost its peers: one name that resolves to nothing, and one address where nobody listens."""
    (closed,) = _free_ports(1)
    peers = f"no-such-host.invalid:8000, 127.0.0.1:{closed}"
    home = tmp_path_factory.mktemp("alone")
    with running_detector(home, patient({}, TRANSECT_DETECTOR_PEERS=peers)) as detector:
        yield detector


def test_peers_that_are_not_there_cost_a_line_each_and_nothing_else(alone: DetectorProcess) -> None:
    poll = alone.wait_for(lambda: alone.state()["following"]["last_poll"])
    assert post(alone, event()).status_code == 202
    alone.wait_for(lambda: alone.state()["following"]["last_poll"] != poll)
    alone.wait_for(lambda: passed_on(alone)["failed"] == 2)
    reasons = [line["reason"] for line in alone.lines() if "told that the alias moved" in line["message"]]
    assert reasons[0].startswith("no-such-host.invalid in TRANSECT_DETECTOR_PEERS does not resolve: ")
    assert "does not answer: ConnectionRefusedError" in reasons[1]
    assert all(line["level"] == "WARNING" for line in alone.lines() if line.get("reason") in reasons)


def test_a_message_that_was_passed_on_ends_here(alone: DetectorProcess) -> None:
    before, told = counted(alone)["accepted"], passed_on(alone)
    body, now = event(), str(int(time.time()))
    headers = {
        "X-MLflow-Delivery-Id": "4c5e",
        "X-MLflow-Timestamp": now,
        "X-MLflow-Signature": sign(SECRET, "4c5e", now, body),
        PASSED_ON: "another replica",
    }
    assert alone.client.post("/v1/hooks/mlflow", content=body, headers=headers).status_code == 202
    assert counted(alone)["accepted"] == before + 1
    assert passed_on(alone) == told
    # The header alone opens nothing.
    unsigned: httpx.Response = alone.client.post("/v1/hooks/mlflow", content=body, headers={PASSED_ON: "another"})
    assert unsigned.status_code == 401
