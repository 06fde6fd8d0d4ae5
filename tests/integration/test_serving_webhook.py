"""A real MLflow's webhook makes the real service poll, long before its next regular poll.

The service polls every ten minutes here, which is longer than any test waits, so that only the webhook can be the
cause.
"""

import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import sqlalchemy
from cryptography.fernet import Fernet

from integration.detector_process import DetectorProcess, open_shop, running_detector
from integration.servers import _free_ports, _mlflow
from transect.cli import main
from transect.serving.api.webhook_signature import sign

ROOT = Path(__file__).resolve().parents[2]
SECRET = "k2J-8fhw_Q1x9d7Z"
WEBHOOKS = {
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https,http",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
    # By default a running server uses its old list of webhooks for a minute.
    "MLFLOW_WEBHOOK_CACHE_TTL": "1",
}


def initialise(store: str, url: str, secret: str, **environment: str) -> str:
    """Run the stack's initialiser to make the webhook in `store`, and return its output."""
    program = "import sys, initialise as i; i.make_webhook(i.ModelStore(sys.argv[1]), sys.argv[2], sys.argv[3])"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", program, store, url, secret],
        env={**kept, **WEBHOOKS, **environment, "PYTHONPATH": str(ROOT / "docker" / "mlflow")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def mlflow(folder: Path, store: str) -> Iterator[dict[str, str]]:
    with _mlflow(folder, store, str(folder / "artifacts"), WEBHOOKS, ()) as uri:
        yield {"MLFLOW_TRACKING_URI": uri, "TRANSECT_MODEL_NAME": f"detector-{uuid.uuid4().hex[:8]}"}


def patient(environment: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return the variables of a service that rarely polls on its own."""
    return {**environment, "TRANSECT_POLL_SECONDS": "600", "TRANSECT_WEBHOOK_SECRET": SECRET, **more}


def counted(detector: DetectorProcess) -> dict[str, float]:
    """Return the number of webhooks by outcome."""
    text = detector.client.get("/metrics").text
    return {
        name: float(number) for name, number in re.findall(r'transect_webhooks_total\{outcome="(\w+)"\} (\S+)', text)
    }


def test_the_stacks_own_webhook_triggers_a_swap_at_once(tmp_path: Path, dot_package: Path) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (port,) = _free_ports(1)
    url = f"http://127.0.0.1:{port}/v1/hooks/mlflow"
    assert f"webhook to {url}: made" in initialise(store, url, "another secret")
    assert f"webhook to {url}: brought in line" in initialise(store, url, SECRET)
    with mlflow(tmp_path, store) as environment:
        shop = open_shop(tmp_path, environment)
        first, second = shop.register(dot_package), shop.register(dot_package)
        with running_detector(tmp_path / "home", patient(environment, TRANSECT_PORT=str(port))) as detector:
            detector.wait_for(lambda: detector.state()["following"]["last_error"])
            for version in (first, second, first):
                shop.point(version)
                detector.wait_for_version(version)
            ignored = counted(detector)["ignored"]
            shop.registry.client.set_registered_model_alias(environment["TRANSECT_MODEL_NAME"], "candidate", second)
            detector.wait_for(lambda: counted(detector)["ignored"] > ignored)
            assert counted(detector)["accepted"] == 3
            assert counted(detector)["refused"] == 0
            shop.unpoint()
            detector.wait_for(lambda: detector.state()["following"]["last_error"])
            assert detector.state()["version"] == first


def test_the_initialiser_repeats_itself_without_a_trace_and_survives_another_key(postgres_uri: str) -> None:
    # A database of its own, because the key of these webhooks differs from that of other tests.
    engine = sqlalchemy.create_engine(postgres_uri, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE DATABASE webhooks"))
    engine.dispose()
    address = sqlalchemy.make_url(postgres_uri).set(database="webhooks")
    store, url = address.render_as_string(hide_password=False), "http://detector:8000/v1/hooks/mlflow"
    assert "made" in initialise(store, url, SECRET)
    assert initialise(store, url, SECRET) == f"webhook to {url}: there\n"
    output = initialise(store, url, SECRET, MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=Fernet.generate_key().decode())
    assert "webhook transect-stack to http://detector:8000/v1/hooks/mlflow: deleted" in output
    assert output.endswith(f"webhook to {url}: made\n")


Command = Callable[..., str]


@pytest.fixture
def transect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line: transect(*arguments, **variables) returns its output."""

    def run(*arguments: str, **variables: str) -> str:
        monkeypatch.chdir(tmp_path)
        with monkeypatch.context() as patch:
            for name, text in {"TRANSECT_HOME": str(tmp_path / "home"), "COLUMNS": "200", **variables}.items():
                patch.setenv(name, text)
            patch.setattr(sys, "argv", ["transect", "webhook", *arguments])
            with pytest.raises(SystemExit):
                main()
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run


def test_a_person_registers_lists_and_removes_one(tmp_path: Path, dot_package: Path, transect: Command) -> None:
    with mlflow(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}") as environment:
        shop = open_shop(tmp_path, environment)
        version = shop.register(dot_package)
        with running_detector(tmp_path / "service", patient(environment)) as detector:
            # The first poll ends before there is an alias.
            detector.wait_for(lambda: detector.state()["following"]["last_error"])
            url = f"{str(detector.client.base_url).rstrip('/')}/v1/hooks/mlflow"
            assert "has no webhook" in transect("list", **environment)
            assert "TRANSECT_WEBHOOK_SECRET is not set" in transect("register", url, **environment)
            output = transect("register", url, **environment, TRANSECT_WEBHOOK_SECRET="another secret")
            assert ": created" in output
            assert "did not accept MLflow's test message: 401" in output
            output = transect("register", url, **environment, TRANSECT_WEBHOOK_SECRET=SECRET)
            assert ": updated" in output
            assert "The service accepted MLflow's test message" in output
            listed = transect("list", **environment)
            assert url in listed
            assert "model_version_alias.created" in listed
            shop.point(version)
            detector.wait_for_version(version)
            assert counted(detector)["accepted"] == 1
            assert counted(detector)["refused"] == 1
            (found,) = shop.registry.client.list_webhooks()
            output = transect("remove", found.webhook_id, **environment)
            assert output == f"Webhook {found.webhook_id} is removed.\n"
            assert shop.registry.client.list_webhooks() == []


@pytest.mark.parametrize(
    "arguments", [("list",), ("register", "http://127.0.0.1:8000/v1/hooks/mlflow"), ("remove", "1")]
)
def test_the_embedded_store_sends_none_and_the_command_reports_it(
    transect: Command, arguments: tuple[str, ...]
) -> None:
    assert "no server that could send a webhook" in transect(*arguments, TRANSECT_WEBHOOK_SECRET=SECRET)


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DetectorProcess]:
    home = tmp_path_factory.mktemp("listening")
    with running_detector(home, patient({})) as detector:
        yield detector


def event(name: str = "detector", alias: str = "production", entity: str = "model_version_alias") -> bytes:
    return json.dumps(
        {"entity": entity, "action": "created", "data": {"name": name, "alias": alias, "version": "9"}}
    ).encode()


def post(
    detector: DetectorProcess, body: bytes, *, signed: bytes | None = None, secret: str = SECRET, age: float = 0
) -> httpx.Response:
    timestamp = str(int(time.time() - age))
    headers = {
        "X-MLflow-Delivery-Id": "4c5e",
        "X-MLflow-Timestamp": timestamp,
        "X-MLflow-Signature": sign(secret, "4c5e", timestamp, body if signed is None else signed),
    }
    return detector.client.post("/v1/hooks/mlflow", content=body, headers=headers)


def test_a_signed_event_triggers_a_poll_and_others_do_not(listening: DetectorProcess) -> None:
    before = counted(listening)
    poll = listening.wait_for(lambda: listening.state()["following"]["last_poll"])
    assert post(listening, event()).status_code == 202
    listening.wait_for(lambda: listening.state()["following"]["last_poll"] != poll)
    # A repeated delivery only makes the service poll again.
    assert [post(listening, event()).status_code for _ in range(3)] == [202] * 3
    for other in (event(name="other"), event(alias="candidate"), event(entity="model_version_tag")):
        assert post(listening, other).status_code == 204
    after = counted(listening)
    assert {name: after[name] - before[name] for name in after} == {"accepted": 4, "ignored": 3, "refused": 0}


def test_what_is_not_signed_is_refused_counted_and_logged(listening: DetectorProcess) -> None:
    before = counted(listening)["refused"]
    forged = [
        post(listening, event(), secret="another secret"),
        post(listening, event(), signed=event(alias="candidate")),
        post(listening, event(), age=3600),
        post(listening, event(), age=-3600),
        listening.client.post("/v1/hooks/mlflow", content=event()),
    ]
    for answer in forged:
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:transect:problem:signature")
        assert SECRET not in answer.text
    assert counted(listening)["refused"] == before + len(forged)
    ids = {answer.json()["request_id"] for answer in forged}
    assert ids <= {line.get("request_id") for line in listening.lines() if line["message"] == "A webhook was refused"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"entity": 1}', b'{"entity": "model_version_alias"}', b"\xff"])
def test_a_signed_body_that_is_no_event_is_refused(listening: DetectorProcess, body: bytes) -> None:
    answer = post(listening, body)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:transect:problem:webhook")


def test_an_oversized_body_is_refused_before_it_is_read(listening: DetectorProcess) -> None:
    assert post(listening, bytes(70_000)).status_code == 413


def test_without_a_secret_every_webhook_is_refused(tmp_path: Path) -> None:
    with running_detector(tmp_path, {}) as detector:
        answer = post(detector, event())
        assert answer.status_code == 403
        assert "set TRANSECT_WEBHOOK_SECRET" in answer.json()["detail"]
