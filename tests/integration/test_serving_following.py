"""The real service follows an alias in a real MLflow, through swaps, broken versions and outages."""

import io
import socket
import threading
import uuid
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from integration.detector_process import Shop, clients, open_shop, running_detector
from integration.servers import MlflowServer, _mlflow


@pytest.fixture(scope="module")
def image() -> bytes:
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[8:16, 16:24, 0] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def environment(mlflow_on_sqlite: MlflowServer) -> dict[str, str]:
    # A name of its own keeps the tests that share the server apart.
    return {**mlflow_on_sqlite.environment(), "TRANSECT_MODEL_NAME": f"detector-{uuid.uuid4().hex[:8]}"}


@pytest.fixture
def shop(tmp_path: Path, environment: dict[str, str]) -> Shop:
    return open_shop(tmp_path, environment)


def answered(answer: httpx.Response) -> tuple[int, str]:
    """Return the status, and the version if the response is right."""
    body = answer.json()
    right = answer.status_code == 200 and [d["class_name"] for d in body["detections"]] == ["sheep"]
    return answer.status_code, body["model"]["version"] if right else f"wrong: {body}"


def test_from_no_alias_over_swaps_under_load_to_a_broken_version(
    tmp_path: Path, environment: dict[str, str], shop: Shop, dot_package: Path, image: bytes
) -> None:
    first, second = shop.register(dot_package), shop.register(dot_package)
    with running_detector(tmp_path / "home", environment) as detector:
        detector.wait_for(lambda: detector.state()["following"]["last_error"])
        refused = detector.client.get("/readyz")
        assert refused.status_code == 503
        assert "promote" in refused.json()["detail"]
        assert detector.client.get("/healthz").status_code == 200
        assert detector.detect(image).json()["detail"] == refused.json()["detail"]

        shop.point(first)
        detector.wait_for_version(first)
        assert detector.client.get("/readyz").status_code == 200
        with clients(detector.client.base_url, image, 4, answered) as answers:
            for version in (second, first) * 3:
                shop.point(version)
                detector.wait_for_version(version)
                assert detector.detect(image).json()["model"]["version"] == version
                seen = len(answers)
                detector.wait_for(lambda seen=seen: len(answers) > seen + 8)
        assert {status for status, _ in answers} == {200}
        assert {version for _, version in answers} == {first, second}

        broken = shop.register(dot_package, break_model=True)
        shop.point(broken)
        detector.wait_for(lambda: detector.state()["following"]["refused"])
        state = detector.state()
        assert state["version"] == first
        assert state["following"]["refused"][0]["version"] == broken
        assert detector.detect(image).json()["model"]["version"] == first
        assert 'transect_model_swaps_total{outcome="refused"} ' in detector.client.get("/metrics").text
        assert any(line.get("version") == broken and line["level"] == "ERROR" for line in detector.lines())
        assert detector.client.post("/v1/model/refresh").json()["following"]["refused"][0]["attempts"] >= 2

        shop.point(second)
        assert detector.client.post("/v1/model/refresh").json()["version"] == second
        shop.unpoint()
        detector.wait_for(lambda: detector.state()["following"]["last_error"])
        assert detector.detect(image).json()["model"]["version"] == second
    assert detector.process.returncode == 0


def test_it_outlives_mlflow_and_starts_from_its_cache_without_it(
    tmp_path: Path, dot_package: Path, image: bytes
) -> None:
    home, store = tmp_path / "home", tmp_path / "mlflow"
    store.mkdir()
    with ExitStack() as mlflow:
        uri = mlflow.enter_context(_mlflow(store, f"sqlite:///{store / 'mlflow.db'}", str(store / "artifacts"), {}, ()))
        environment = {"MLFLOW_TRACKING_URI": uri}
        shop = open_shop(tmp_path, environment)
        version = shop.register(dot_package)
        shop.point(version)
        with running_detector(home, environment) as detector:
            assert not detector.wait_for_version(version)["from_cache"]
            mlflow.close()
            detector.wait_for(lambda: detector.state()["following"]["last_error"])
            assert detector.detect(image).json()["model"]["version"] == version
            assert detector.client.get("/readyz").status_code == 200
    with running_detector(home, environment) as again:
        state = again.wait_for_version(version)
        assert state["from_cache"]
        assert "cannot be reached" in state["following"]["last_error"]
        assert again.detect(image).json()["model"]["version"] == version
    # A server that takes connections and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running_detector(home, {"MLFLOW_TRACKING_URI": uri}) as hanging:
            assert "has not answered" in hanging.wait_for_version(version)["following"]["last_error"]
            hanging.process.terminate()
            assert hanging.process.wait(15) == 0


def test_an_admitted_request_is_answered_before_the_service_stops(
    tmp_path: Path, environment: dict[str, str], shop: Shop, dot_package: Path
) -> None:
    shop.point(shop.register(dot_package))
    buffer = io.BytesIO()
    Image.new("RGB", (3000, 3000)).save(buffer, "PNG")
    answers: list[httpx.Response] = []
    with running_detector(tmp_path / "home", environment) as detector:
        detector.wait_for(lambda: detector.state()["ready"])
        thread = threading.Thread(target=lambda: answers.append(detector.detect(buffer.getvalue())))
        thread.start()
        detector.wait_for(lambda: "transect_requests_admitted 1.0" in detector.client.get("/metrics").text)
        detector.process.terminate()
        thread.join()
        assert detector.process.wait(40) == 0
    [answer] = answers
    assert answer.status_code == 200
    assert answer.json()["tiles"] > 1000
    assert not any("exception" in line for line in detector.lines())
