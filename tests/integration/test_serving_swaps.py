"""Thirty alias moves in a real MLflow, found by its webhook (or a poll), while eight clients send requests nonstop.

The versions return different boxes, so that a response with the wrong version is detected.
"""

import io
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet
from PIL import Image

from integration.detector_process import DetectorProcess, Shop, clients, open_shop, running_detector
from integration.servers import MlflowServer, _free_ports, _mlflow
from toy_model import build_toy_package, paint
from transect.registry import register_webhook

CLIENTS = 8
MOVES = 30
SECRET = "k2J-8fhw_Q1x9d7Z"
WEBHOOKS = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https,http",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
}


@pytest.fixture(scope="module")
def image() -> bytes:
    """One red square, at x 16 and y 32; with tiling, some milliseconds of work."""
    buffer = io.BytesIO()
    Image.fromarray(paint([(1, 2, "red")])).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[dict[str, str]]:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    with _mlflow(folder, f"sqlite:///{folder / 'mlflow.db'}", str(folder / "artifacts"), WEBHOOKS, ()) as uri:
        yield {"MLFLOW_TRACKING_URI": uri, "TRANSECT_WEBHOOK_SECRET": SECRET}


def register(shop: Shop, folder: Path) -> dict[str, float]:
    """Register three versions; return the left edge of the square that each detects."""
    shifts = (0.0, 3.0, 6.0)
    packages = [build_toy_package(folder / f"toy-{shift:g}", shift=shift) for shift in shifts]
    return {shop.register(package): 16.0 + shift for package, shift in zip(packages, shifts, strict=True)}


def answered(answer: httpx.Response) -> tuple[int, str, float | None]:
    """Return status, version, and the left edge of the one box."""
    body = answer.json()
    boxes = body.get("detections", [])
    version = body["model"]["version"] if answer.status_code == 200 else answer.text
    return answer.status_code, version, boxes[0]["box"][0] if len(boxes) == 1 else None


def test_thirty_moves_under_load_lose_and_mix_up_nothing(tmp_path: Path, mlflow: dict[str, str], image: bytes) -> None:
    shop = open_shop(tmp_path, mlflow)
    (port,) = _free_ports(1)
    # Before any event, because MLflow's workers cache the list of webhooks for a minute.
    register_webhook(shop.registry, f"http://127.0.0.1:{port}/v1/hooks/mlflow")
    edges = register(shop, tmp_path)
    versions = list(edges)
    shop.point(versions[0])
    environment = {
        **mlflow,
        "TRANSECT_PORT": str(port),
        "TRANSECT_POLL_SECONDS": "5",
        "TRANSECT_CACHE_VERSIONS": "2",
    }
    with running_detector(tmp_path / "home", environment) as detector:
        detector.wait_for_version(versions[0])
        with clients(detector.client.base_url, image, CLIENTS, answered) as answers:
            for move in range(1, MOVES + 1):
                version = versions[move % len(versions)]
                shop.point(version)
                detector.wait_for_version(version)
                seen = len(answers)
                detector.wait_for(lambda seen=seen: len(answers) > seen + CLIENTS)
        metrics = detector.client.get("/metrics").text
        state = detector.state()
    assert {status for status, _, _ in answers} == {200}
    assert {(version, edge) for _, version, edge in answers} == set(edges.items())
    assert f'transect_model_swaps_total{{outcome="swapped"}} {MOVES + 1}.0' in metrics
    assert f"transect_model_swap_seconds_count {MOVES + 1}.0" in metrics
    assert state["following"]["refused"] == []
    # The cache keeps TRANSECT_CACHE_VERSIONS versions.
    cached = (tmp_path / "home" / "cache" / "models").glob("*/[!.]*-*/package.json")
    assert len(list(cached)) == 2
    assert detector.process.returncode == 0


def test_replicas_agree(tmp_path: Path, mlflow_on_sqlite: MlflowServer, image: bytes) -> None:
    environment = {**mlflow_on_sqlite.environment(), "TRANSECT_MODEL_NAME": f"detector-{uuid.uuid4().hex[:8]}"}
    shop = open_shop(tmp_path, environment)
    edges = register(shop, tmp_path)
    # They share a cache, as replicas on one machine may.
    home = tmp_path / "home"
    with running_detector(home, environment) as first, running_detector(home, environment) as second:
        for version, edge in edges.items():
            shop.point(version)
            for detector in (first, second):
                detector.wait_for_version(version)
                assert left_edge(detector, image) == edge


def left_edge(detector: DetectorProcess, image: bytes) -> float:
    [box] = [item["box"] for item in detector.detect(image).json()["detections"]]
    return float(box[0])
