"""A running stack, and what the tests keep of its day."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx


@dataclass(frozen=True)
class Stack:
    """A running stack and the folder that it was started from."""

    folder: Path
    environ: dict[str, str]

    def make(self, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a target; its output says why when it fails."""
        given = [f"{name}={text}" for name, text in variables.items()]
        command = ["make", "--no-print-directory", f"PYTHON={sys.executable}", target, *given]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environ, check=False, capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 0, (
            f"make {target} exits {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
        return done

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
        done = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=True)
        return list(json.loads(done.stdout))

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

    def secret(self, name: str) -> str:
        """A value of .env."""
        lines = (self.folder / ".env").read_text(encoding="utf-8").splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith(f"{name}="))

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

    def wait_until_ready(self) -> None:
        """Wait until the detector has a model."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url('detector')}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"the detector is not ready: {self.compose('logs', '--tail', '20', 'detector')}")

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
