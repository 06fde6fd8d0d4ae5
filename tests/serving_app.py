"""The service in a real server within the test process, with one model and no registry."""

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image

from transect.errors import NotRegisteredError
from transect.registry import ResolvedVersion
from transect.serving.detection.image import DetectionOutput, detect_upload
from transect.serving.http.request_body import Upload
from transect.serving.models.slot import ServedModel
from transect.settings import Settings, load_settings


class OneModel:
    """A model source that always has the same package, or none."""

    def __init__(self, package: Path | None) -> None:
        self.package = package

    def prepare(self) -> None:
        pass

    def resolve(self) -> ResolvedVersion:
        if self.package is None:
            raise NotRegisteredError("No version of detector has the alias production; promote one: make promote.")
        return ResolvedVersion(
            name="detector", version="7", run_id="run-7", source="runs:/run-7/model", package_sha256="7" * 64
        )

    def fetch(self, resolved: ResolvedVersion) -> Path:
        assert self.package is not None
        return self.package

    def last_known(self) -> tuple[ResolvedVersion, Path] | None:
        return None

    def remember(self, resolved: ResolvedVersion) -> None:
        pass


class WatchedDetection:
    """The service's detection in one image, with what a test does `before` it and the outcomes: None for a result."""

    def __init__(self) -> None:
        self.before: Callable[[Upload], None] = lambda _: None
        self.outcomes: list[type[BaseException] | None] = []

    def __call__(self, model: ServedModel, upload: Upload, *arguments: Any, **options: Any) -> DetectionOutput:
        try:
            self.before(upload)
            output = detect_upload(model, upload, *arguments, **options)
        except BaseException as error:
            self.outcomes.append(type(error))
            raise
        self.outcomes.append(None)
        return output


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until `condition` is true, for a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def running(app: FastAPI) -> Iterator[httpx.Client]:
    """Run the application in a real server on a free port, after one poll of the alias."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as client:
                tokens = app.state.service.settings.token_list
                headers = {"Authorization": f"Bearer {tokens[0]}"} if tokens else {}
                assert client.post("/v1/model/refresh", headers=headers).status_code in (200, 202)
                yield client
        finally:
            server.should_exit = True
            thread.join()


def settings_of(**values: str) -> Settings:
    """Return settings for a test without timed polls."""
    base = {"TRANSECT_POLL_SECONDS": "3600", "TRANSECT_BACKEND": "onnxruntime", "TRANSECT_THREADS": "2"}
    return load_settings({**base, **values}, None)


def dots(width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    """Return a black image with a red dot (a sheep) at x 8, y 16 and a blue one (a cow) at x 40, y 48."""
    image = np.zeros((height, width, 3), np.uint8)
    image[16:24, 8:16, 0] = 255
    image[48:56, 40:48, 2] = 255
    return image


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode the image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def raw(
    client: httpx.Client, body: bytes, query: str = "", headers: Mapping[str, str] = MappingProxyType({})
) -> httpx.Response:
    """POST one raw image."""
    return client.post(f"/v1/detect{query}", content=body, headers={"Content-Type": "image/png", **headers})


def found(answer: dict[str, Any]) -> list[tuple[str, list[float]]]:
    """Return the classes and boxes of one image's response."""
    return sorted((item["class_name"], item["box"]) for item in answer["detections"])


def assert_problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check that a response is a well-formed problem of this status and kind, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == f"urn:transect:problem:{kind}"
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["detail"].rstrip().endswith((".", ")")), problem["detail"]
    return problem


BOTH = [("cow", [40.0, 48.0, 48.0, 56.0]), ("sheep", [8.0, 16.0, 16.0, 24.0])]
