"""The real service on a machine whose GPU is a stand-in: its start, a swap, a full GPU, a lost one and what follows.

What computes is ONNX Runtime's CPU provider; everything else is what runs on a GPU (see gpu_stand_in/sitecustomize.py).
"""

import io
import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from integration.detector_process import DetectorProcess, Shop, clients, open_shop, running_detector
from integration.servers import MlflowServer
from transect.errors import DeviceLostError

STAND_IN = Path(__file__).parents[1] / "gpu_stand_in"
ILLEGAL = "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=a ; file=/b.cc ; line=1"
NO_KERNEL = "CUDA failure 209: no kernel image is available for execution on the device ; GPU=0 ; hostname=a"


class StandIn:
    """The folder through which a test and the stand-in communicate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def order(self, name: str, content: str) -> None:
        """Write an order atomically, so that the stand-in never reads half of it."""
        (self.folder / "new").write_text(content)
        (self.folder / "new").replace(self.folder / name)

    def calls(self, kind: str) -> list[dict[str, Any]]:
        """Return the calls of this `kind` that the service has made to the GPU."""
        lines = (self.folder / "calls.jsonl").read_text().splitlines()
        return [call for call in map(json.loads, lines) if call["call"] == kind]


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "gpu")


@pytest.fixture
def environment(mlflow_on_sqlite: MlflowServer, stand_in: StandIn) -> dict[str, str]:
    return {
        **mlflow_on_sqlite.environment(),
        "TRANSECT_MODEL_NAME": f"detector-{uuid.uuid4().hex[:8]}",
        "TRANSECT_MAX_BATCH": "8",
        "PYTHONPATH": str(STAND_IN),
        "GPU_STAND_IN": str(stand_in.folder),
    }


@pytest.fixture
def shop(tmp_path: Path, environment: dict[str, str], dot_package: Path) -> Shop:
    shop = open_shop(tmp_path, environment)
    for _ in range(2):
        shop.register(dot_package)
    shop.point("1")
    return shop


@pytest.fixture
def image() -> bytes:
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[8:16, 16:24, 0] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def read(answer: httpx.Response) -> tuple[int, list[str]]:
    body = answer.json()
    return answer.status_code, [one["class_name"] for one in body.get("detections", [])]


def backend(detector: DetectorProcess) -> object:
    return detector.state()["backend"]


def warnings(detector: DetectorProcess) -> list[str]:
    return [line["message"] for line in detector.lines() if line["level"] == "WARNING"]


def test_from_its_start_over_a_swap_and_a_full_gpu_to_a_lost_one(
    tmp_path: Path, environment: dict[str, str], shop: Shop, stand_in: StandIn, image: bytes
) -> None:
    with running_detector(tmp_path / "home", environment) as detector:
        detector.wait_for_version("1")
        assert backend(detector) == "cuda"
        # Each of two runners has a session for each size, and its memory grows by no more than requested.
        models = [call for call in stand_in.calls("open") if call["model"].endswith(".onnx")]
        assert len(models) == 6
        assert {call["providers"]["CUDAExecutionProvider"]["arena_extend_strategy"] for call in models} == {
            "kSameAsRequested"
        }
        with clients(detector.client.base_url, image, 12, read) as answers:
            shop.point("2")
            detector.wait_for_version("2")
            seen = len(answers)
            detector.wait_for(lambda: len(answers) > seen + 24)
            # Only the last step of the outputs leaves the device.
            runs = stand_in.calls("run")
            assert {call["batch"] for call in runs} == {1, 2, 8}
            assert {call["thread"] for call in runs} == {"batcher"}
            assert {tuple(call["devices"]) for call in runs} == {("cuda",)}

            # On a GPU filled by other processes, the next version runs in smaller batches and is not rejected.
            stand_in.order("room", "2")
            shop.point("1")
            detector.wait_for_version("1")
            assert backend(detector) == "cuda"
            assert any("batches of up to 2 are computed" in line for line in warnings(detector))
            assert not detector.state()["following"]["refused"]

            stand_in.order("fault", ILLEGAL)
            detector.wait_for(lambda: backend(detector) == "openvino")
            seen = len(answers)
            detector.wait_for(lambda: len(answers) > seen + 24)
        # Work in progress when the GPU was lost was run again, without an error for a client.
        assert set(map(repr, answers)) == {repr((200, ["sheep"]))}
        # One line per model, because the previous version may still have answered its last request.
        (lost,) = {line for line in warnings(detector) if "The GPU stopped computing" in line}
        assert lost.endswith("Continuing with openvino until then.")
        assert detector.client.get("/readyz").status_code == 200
        figures = detector.client.get("/metrics").text
        assert 'backend="openvino"' in figures
        assert "transect_gpu_wanted 1.0" in figures

        # The next version runs without the GPU from its start.
        shop.point("2")
        detector.wait_for_version("2")
        assert backend(detector) == "openvino"
        assert not detector.state()["following"]["refused"]
        assert read(detector.detect(image)) == (200, ["sheep"])


def test_a_gpu_without_code_in_the_wheel_is_no_fault_of_the_version(
    tmp_path: Path, environment: dict[str, str], shop: Shop, stand_in: StandIn, image: bytes
) -> None:
    stand_in.order("fault", NO_KERNEL)
    with running_detector(tmp_path / "home", environment) as detector:
        detector.wait_for_version("1")
        assert backend(detector) == "openvino"
        assert not detector.state()["following"]["refused"]
        assert any("has no code for this GPU" in line for line in warnings(detector))
        assert read(detector.detect(image)) == (200, ["sheep"])


def test_a_process_whose_own_gpu_is_lost_ends_so_that_it_is_started_again(
    tmp_path: Path, environment: dict[str, str], shop: Shop, stand_in: StandIn, image: bytes
) -> None:
    with running_detector(tmp_path / "home", {**environment, "TRANSECT_BACKEND": "cuda"}) as detector:
        detector.wait_for_version("1")
        assert read(detector.detect(image)) == (200, ["sheep"])
        stand_in.order("fault", ILLEGAL)
        answer = detector.detect(image)
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:transect:problem:device-lost"
        assert detector.process.wait(60) == DeviceLostError.exit_code
        assert detector.log.read_text().rstrip().splitlines()[-1].startswith("The GPU stopped computing (CUDA failure")
