"""The detection service as a process of its own, and models for it to follow."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from package_fixtures import write_package
from transect.engine import MANIFEST_FILE, MODEL_FILE, hash_files
from transect.registry import Registry, connect
from transect.settings import Settings, load_settings

T = TypeVar("T")

_BOOT_S = 300.0


class DetectorProcess:
    """A running service: its HTTP client, its process, its log."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self.log = log
        url = self.wait_for(lambda: next((line["url"] for line in self.lines() if "url" in line), None))
        self.client = httpx.Client(base_url=url, timeout=60)

    def lines(self) -> list[dict[str, Any]]:
        """The log so far, without what native libraries wrote beside it and a line that is still being written."""
        whole = self.log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def wait_for(self, question: Any) -> Any:
        """Ask until the answer is true; fails with the log when that takes too long or the process ends."""
        deadline = time.monotonic() + _BOOT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if answer := question():
                return answer
            time.sleep(0.02)
        pytest.fail(f"waited in vain (exit code {self.process.poll()}); the log:\n{self.log.read_text()[-4000:]}")

    def state(self) -> dict[str, Any]:
        """GET /v1/model."""
        body: dict[str, Any] = self.client.get("/v1/model").json()
        return body

    def wait_for_version(self, version: str) -> dict[str, Any]:
        """Wait until `version` is served; gives the state then."""
        state: dict[str, Any] = self.wait_for(lambda: (s := self.state())["version"] == version and s)
        return state

    def detect(self, image: bytes, media_type: str = "image/png", query: str = "") -> httpx.Response:
        """POST one raw image."""
        return self.client.post(f"/v1/detect{query}", content=image, headers={"Content-Type": media_type})


@contextmanager
def running_detector(home: Path, environment: Mapping[str, str]) -> Iterator[DetectorProcess]:
    """Start `python -m transect.serving` on a free port with `home` as TRANSECT_HOME; stops it with SIGTERM."""
    home.mkdir(parents=True, exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "TRANSECT_"))}
    ours = {
        "TRANSECT_HOME": str(home),
        "TRANSECT_PORT": "0",
        "TRANSECT_POLL_SECONDS": "0.2",
        "TRANSECT_THREADS": "2",
        "OMP_NUM_THREADS": "2",
    }
    log = home / f"detector-{time.monotonic_ns()}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "transect.serving"], env={**kept, **ours, **environment}, cwd=home, stderr=stream
        )
    detector = None
    try:
        detector = DetectorProcess(process, log)
        yield detector
    finally:
        if detector is not None:
            detector.client.close()
        process.terminate()
        try:
            process.wait(40)
        finally:
            process.kill()
            process.wait()


@contextmanager
def clients(
    url: httpx.URL, image: bytes, number: int, read: Callable[[httpx.Response], T], pause: float = 0.0
) -> Iterator[list[T]]:
    """Clients that ask again `pause` seconds after each answer, for the length of a `with` block.

    Yields what `read`, called by the client itself, makes of each answer.
    """
    answers: list[T] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            while not stop.wait(pause):
                answers.append(read(client.post("/v1/detect", content=image, headers={"Content-Type": "image/png"})))

    threads = [threading.Thread(target=ask) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Shop:
    """Registers versions and moves the alias, as a trainer and an operator would."""

    def __init__(self, registry: Registry, packages: Path) -> None:
        self.registry = registry
        self.packages = packages
        self.experiment = registry.experiment("serving")

    def register(self, package: Path, *, break_model: bool = False) -> str:
        """Register a copy of `package` and return the version; broken, its hashes hold and its model is none."""
        folder = self.packages / f"package-{len(list(self.packages.iterdir()))}"
        shutil.copytree(package, folder)
        if break_model:
            # An ONNX file that names its version of the format (field 1: 8), and no graph.
            (folder / MODEL_FILE).write_bytes(b"\x08\x08")
        run_id = self.registry.client.create_run(self.experiment).info.run_id
        names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_FILE)
        write_package(folder, run_id=run_id, files=hash_files(folder, names))
        return self.registry.register(folder, run_id, tags={}).version

    def point(self, version: str) -> None:
        """Move the alias `production`."""
        self.registry.client.set_registered_model_alias(self.registry.settings.model_name, "production", version)

    def unpoint(self) -> None:
        """Delete the alias `production`."""
        self.registry.client.delete_registered_model_alias(self.registry.settings.model_name, "production")


def open_shop(folder: Path, environment: Mapping[str, str]) -> Shop:
    """A shop at the MLflow that `environment` names, with `folder` for its packages."""
    packages = folder / "packages"
    packages.mkdir(parents=True)
    settings: Settings = load_settings({**environment, "TRANSECT_HOME": str(folder / "shop")}, None)
    return Shop(connect(settings), packages)
