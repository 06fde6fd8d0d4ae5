"""A running stack, and what the tests keep of its day."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

TINY = "imgsz=160 batch=4"
EPOCHS = 6


def docker(*arguments: str) -> str:
    """Run `docker`; what it printed."""
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"docker {' '.join(arguments)} exits {done.returncode}\n{done.stderr[-3000:]}"
    return done.stdout


@dataclass(frozen=True)
class Stack:
    """A running stack and the folder that it was started from."""

    folder: Path
    environ: dict[str, str]

    def make(self, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a target; its output says why when it fails."""
        done = self._make(target, variables)
        assert done.returncode == 0, (
            f"make {target} exits {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
        return done

    def refused(self, target: str, **variables: str) -> str:
        """Run a target that must fail; why it did."""
        done = self._make(target, variables)
        assert done.returncode != 0, done.stdout[-3000:]
        return done.stderr

    def _make(self, target: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        command = self._command(target, variables)
        return subprocess.run(
            command, cwd=self.folder, env=self.environ, check=False, capture_output=True, text=True, timeout=1800
        )

    @contextmanager
    def making(self, target: str, **variables: str) -> "Iterator[subprocess.Popen[str]]":
        """Start a target for the length of a `with` block; its output, errors too, comes line by line."""
        process = subprocess.Popen(
            self._command(target, variables),
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        overdue = threading.Timer(1800, process.kill)
        overdue.start()
        try:
            with process:
                yield process
        finally:
            overdue.cancel()

    def _command(self, target: str, variables: Mapping[str, str]) -> list[str]:
        given = [f"{name}={text}" for name, text in variables.items()]
        return ["make", "--no-print-directory", f"PYTHON={sys.executable}", target, *given]

    def one_shot(self, service: str) -> str:
        """The id of the container that `make` runs a command in just now."""
        labels = {"project": self.environ["COMPOSE_PROJECT_NAME"], "service": service, "oneoff": "True"}
        filters = [
            part for name, text in labels.items() for part in ("--filter", f"label=com.docker.compose.{name}={text}")
        ]
        (found,) = docker("ps", "--quiet", *filters).split()
        return found

    def compose(self, *arguments: str) -> str:
        """Run `docker compose`; what it printed."""
        command = ["docker", "compose", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environ, check=False, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{' '.join(command)} exits {done.returncode}\n{done.stderr[-3000:]}"
        return done.stdout

    def containers(self) -> list[dict[str, Any]]:
        """What `docker inspect` says of every container of the stack."""
        ids = self.compose("ps", "--all", "--quiet").split()
        return list(json.loads(docker("inspect", *ids)))

    def container(self, service: str) -> dict[str, Any]:
        """What `docker inspect` says of one service's container."""
        found = [c for c in self.containers() if c["Config"]["Labels"]["com.docker.compose.service"] == service]
        assert len(found) == 1
        return found[0]

    def sql(self, query: str) -> str:
        """Ask PostgreSQL itself."""
        command = 'psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -Atc "$0"'
        return self.compose("exec", "-T", "postgres", "sh", "-c", command, query).strip()

    def objects(self) -> list[str]:
        """The keys in the bucket, asked with boto3 from the one place that reaches MinIO."""
        program = (
            "import boto3, os; s3 = boto3.client('s3', endpoint_url=os.environ['MLFLOW_S3_ENDPOINT_URL'])\n"
            "for page in s3.get_paginator('list_objects_v2').paginate(Bucket=os.environ['TRANSECT_BUCKET']):\n"
            "    for item in page.get('Contents', []): print(item['Key'])"
        )
        return self.compose("exec", "-T", "mlflow", "python", "-c", program).split()

    def object(self, key: str) -> str:
        """The text of one object in the bucket."""
        program = (
            "import boto3, os, sys; s3 = boto3.client('s3', endpoint_url=os.environ['MLFLOW_S3_ENDPOINT_URL'])\n"
            "print(s3.get_object(Bucket=os.environ['TRANSECT_BUCKET'], Key=sys.argv[1])['Body'].read().decode())"
        )
        return self.compose("exec", "-T", "mlflow", "python", "-c", program, key)

    def version_tags(self, version: str) -> dict[str, str]:
        """The tags of a registered version."""
        query = f"select key, value from model_version_tags where name = 'detector' and version = {version}"
        return dict(line.split("|", 1) for line in self.sql(query).splitlines() if "|" in line)

    def secret(self, name: str) -> str:
        """A value of .env."""
        lines = (self.folder / ".env").read_text(encoding="utf-8").splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith(f"{name}="))

    def token_header(self) -> dict[str, str]:
        """What the detector asks of those who read its metrics or make it look."""
        return {"Authorization": f"Bearer {self.secret('TRANSECT_TOKENS')}"}

    def url(self, service: str) -> str:
        """Where a service listens on this machine."""
        return f"http://127.0.0.1:{self.environ[f'TRANSECT_{service.upper()}_PORT']}"

    def alias(self, alias: str) -> str:
        """The version behind an alias, as MLflow's own API tells the detector's user."""
        answer = httpx.get(
            f"{self.url('mlflow')}/api/2.0/mlflow/registered-models/alias",
            params={"name": "detector", "alias": alias},
            auth=("detector", self.secret("TRANSECT_DETECTOR_PASSWORD")),
        )
        return str(answer.raise_for_status().json()["model_version"]["version"])

    def wait_until_ready(self, service: str = "detector", path: str = "/readyz") -> None:
        """Wait until the detector has a model, or until another service answers under `path`."""
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url(service)}{path}", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"{service} is not ready: {self.compose('logs', '--tail', '20', service)}")

    def detect(self, image: Path) -> httpx.Response:
        """POST /v1/detect with one image."""
        return httpx.post(f"{self.url('detector')}/v1/detect", files={"image": image.read_bytes()}, timeout=60)


@dataclass(frozen=True)
class Unready:
    """How the detector answered before there was a model."""

    health: httpx.Response
    ready: httpx.Response
    detect: httpx.Response
    state: str


@dataclass(frozen=True)
class Promoted:
    """What a promotion left, and the detector's container before and after it."""

    said: str
    before: dict[str, Any]
    after: dict[str, Any]
    answer: httpx.Response


@dataclass(frozen=True)
class Trained:
    """What was said by a training that was killed while MLflow was away, and by what went on from there."""

    killed: str
    synced: str
    told: str
    resumed: str
