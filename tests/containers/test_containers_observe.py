"""The profile `observe` and replicas, on the real stack: Prometheus reads the detector and evaluates what we wrote.

Grafana is not started here: its image is a download that a test machine may not have. Its dashboard
is held against Prometheus itself, which answers the same queries, and its files are read in tests/unit/stack.
"""

import itertools
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import promql
from containers.running import Promoted, Stack

HERE = Path(__file__).resolve().parent
# Panels that show something as soon as there is a model and somebody asks it.
SPEAKING = (
    "panel Replicas", "panel Served", "panel Requests", "panel p99", "panel Waiting", "panel Requests by status",
    "panel Latency", "panel Queue", "panel Requests without a result", "panel p99 by route",
    "panel Memory for decoding", "panel Bodies held",
    "panel Mean time of an image by stage", "panel p99 of an image by stage",
    "panel Images and tiles", "panel Replicas by served version", "panel New versions",
    "panel Since the last successful poll", "panel Polls", "panel Webhooks", "panel Served for",
    "panel Memory", "panel CPU", "panel Open files",
)  # fmt: skip


@dataclass(frozen=True)
class Prometheus:
    """Its HTTP interface."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an expression gives now."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=30).json()
        assert answer["status"] == "success", (expression, answer)
        return list(answer["data"]["result"])

    def wait_for(self, expression: str) -> list[dict[str, Any]]:
        """Wait until an expression gives something."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if found := self.query(expression):
                return found
            time.sleep(1)
        raise AssertionError(f"Prometheus never has anything for {expression}")


@pytest.fixture(scope="module")
def image(training_set: Path) -> Path:
    return next((training_set.parent / "images" / "test").glob("*.jpg"))


@pytest.fixture(scope="module")
def prometheus(stack: Stack, promoted: Promoted, image: Path) -> Prometheus:
    """Prometheus of the profile, after it has seen the service work for a while."""
    stack.compose("--profile", "observe", "up", "--detach", "--wait", "prometheus")
    found = Prometheus(stack.url("prometheus"))
    stack.wait_until_ready()
    for _ in itertools.takewhile(lambda _: not _has_rates(found), range(90)):
        assert stack.detect(image).status_code == 200
        time.sleep(1)
    return found


def _has_rates(prometheus: Prometheus) -> bool:
    return bool(prometheus.query('rate(transect_images_total{outcome="ok"}[1m]) > 0'))


@pytest.mark.parametrize("name", ["prometheus.yaml", "alerts.yaml"])
@pytest.mark.usefixtures("prometheus")
def test_promtool_finds_nothing_wrong(stack: Stack, name: str) -> None:
    kind = "rules" if name == "alerts.yaml" else "config"
    stack.compose("exec", "-T", "prometheus", "promtool", "check", kind, f"/etc/prometheus/{name}")


def test_each_alert_fires_when_it_should_and_only_then(engine: None, tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir(mode=0o755)
    for file in (promql.ALERTS, HERE / "alerts_fire.yaml"):
        shutil.copy(file, folder)
    command = [
        "docker", "run", "--rm", "--network", "none", "--volume", f"{folder}:/rules:ro", "--workdir", "/rules",
        "--entrypoint", "promtool", "prom/prometheus:v3.5.3", "test", "rules", "alerts_fire.yaml",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("expression", promql.expressions(), ids=lambda found: found.place)
def test_prometheus_evaluates_it(prometheus: Prometheus, expression: promql.Expression) -> None:
    found = prometheus.query(expression.text)
    if expression.place in SPEAKING:
        assert found


def test_the_dashboard_still_has_the_panels_that_must_speak() -> None:
    assert set(SPEAKING) <= {found.place for found in promql.expressions()}


def test_prometheus_knows_the_served_model(prometheus: Prometheus) -> None:
    (model,) = prometheus.wait_for("transect_model_info")
    assert (model["metric"]["name"], model["metric"]["version"]) == ("detector", "1")
    assert model["metric"]["backend"]
    assert model["metric"]["precision"]


def test_no_alert_is_raised_by_a_healthy_stack(prometheus: Prometheus) -> None:
    rules = httpx.get(f"{prometheus.url}/api/v1/rules", timeout=30).json()["data"]["groups"]
    health = {rule["name"]: rule["health"] for group in rules for rule in group["rules"]}
    assert set(health) == {rule["alert"] for rule in promql.alerts()}
    assert set(health.values()) <= {"ok", "unknown"}  # unknown: not evaluated yet
    assert prometheus.query('ALERTS{alertstate="firing"}') == []


def test_prometheus_is_as_closed_as_the_others(stack: Stack, prometheus: Prometheus) -> None:
    container = stack.container("prometheus")
    assert container["HostConfig"]["ReadonlyRootfs"] is True
    status = stack.compose("exec", "-T", "prometheus", "cat", "/proc/1/status")
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    assert "0" not in lines["Uid"].split()
    assert int(lines["CapEff"], 16) == 0


@pytest.fixture(scope="module")
def replicas(stack: Stack, prometheus: Prometheus) -> Iterator[Stack]:
    """Two detectors, published at the ports of a range, as docs/operations.md says."""
    low = next(port for port in range(18300, 19000, 2) if _is_free(port) and _is_free(port + 1))
    scaled = replace(stack, environ={**stack.environ, "TRANSECT_DETECTOR_PORT": f"{low}-{low + 1}"})
    scaled.make("up", ARGS="--scale detector=2")
    yield scaled
    stack.make("up")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_replicas_agree_and_prometheus_reads_them_all(replicas: Stack, prometheus: Prometheus, image: Path) -> None:
    ports = [replicas.compose("port", "--index", index, "detector", "8000").strip() for index in ("1", "2")]
    assert len(set(ports)) == 2
    for address in ports:
        answer = _detect_when_ready(f"http://{address}", image)
        assert answer["model"]["version"] == "1"
    (alive,) = prometheus.wait_for('count(up{job="detector"} == 1) == 2')
    assert alive["value"][1] == "2"
    (versions,) = prometheus.wait_for("count by (version) (transect_model_info) == 2")
    assert versions["metric"] == {"version": "1"}


def _detect_when_ready(url: str, image: Path) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = httpx.post(f"{url}/v1/detect", files={"image": image.read_bytes()}, timeout=60)
        if answer.status_code == 200:
            return dict(answer.json())
        time.sleep(0.5)
    raise AssertionError(f"{url} is not ready: {answer.text}")


@pytest.mark.usefixtures("replicas")
def test_down_takes_prometheus_along(stack: Stack) -> None:
    stack.make("down")
    command = ["docker", "ps", "--all", "--quiet", "--filter"]
    project = f"label=com.docker.compose.project={stack.environ['COMPOSE_PROJECT_NAME']}"
    left = subprocess.run([*command, project], check=True, capture_output=True, text=True)
    assert left.stdout == ""
