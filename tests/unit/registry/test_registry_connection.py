import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from mlflow.exceptions import MlflowException

from transect.errors import RegistryError
from transect.registry import Registry, connect
from transect.registry.client.connection import mlflow_errors_as, redact_uri, sqlite_path
from transect.settings import Settings, load_settings


def _settings(**values: str) -> Settings:
    return load_settings(values, env_file=None)


def _server_that_answers(status: int, body: bytes, kind: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from _server_that_answers(*request.param)


@pytest.mark.parametrize(
    "uri",
    [
        "foo:bar",
        "./mlruns",
        "file:///srv/mlruns",
        "sqlite://",
        "sqlite:///",
        "databricks",
        "postgresql://u:secret@h/db",
    ],
)
def test_an_address_that_cannot_work_is_refused_without_its_password(tmp_path: Path, uri: str) -> None:
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_URI") as caught:
        connect(_settings(TRANSECT_HOME=str(tmp_path), MLFLOW_TRACKING_URI=uri))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1:9", "user:secret@127.0.0.1:9"])
def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path, host: str) -> None:
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9 cannot be reached.*refused") as caught:
        connect(_settings(TRANSECT_HOME=str(tmp_path), MLFLOW_TRACKING_URI=f"http://{host}"))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "answering",
    [(404, b"nothing here", "text/plain"), (200, b"<html>welcome</html>", "text/html")],
    indirect=True,
)
def test_another_program_at_the_address_is_recognised(tmp_path: Path, answering: str) -> None:
    with pytest.raises(RegistryError, match="not an MLflow server"):
        connect(_settings(TRANSECT_HOME=str(tmp_path), MLFLOW_TRACKING_URI=answering))


@pytest.mark.parametrize("answering", [(401, b"who are you?", "text/plain")], indirect=True)
def test_refused_credentials_name_the_variables(tmp_path: Path, answering: str) -> None:
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
        connect(_settings(TRANSECT_HOME=str(tmp_path), MLFLOW_TRACKING_URI=answering))


@pytest.mark.parametrize("answering", [(403, b"Invalid Host header", "text/plain")], indirect=True)
def test_a_rejected_host_name_is_reported(tmp_path: Path, answering: str) -> None:
    with pytest.raises(RegistryError, match=r"MLFLOW_SERVER_ALLOWED_HOSTS.*Invalid Host header"):
        connect(_settings(TRANSECT_HOME=str(tmp_path), MLFLOW_TRACKING_URI=answering))


@pytest.mark.parametrize("answering", [(503, b"starting", "text/plain")], indirect=True)
def test_a_failing_server_is_named_with_what_it_said(tmp_path: Path, answering: str) -> None:
    with pytest.raises(RegistryError, match=r"503.*starting"):
        connect(_settings(TRANSECT_HOME=str(tmp_path), MLFLOW_TRACKING_URI=answering))


def test_the_embedded_store_is_made_where_the_settings_say_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    registry = connect(_settings(TRANSECT_HOME=str(tmp_path / "home")))
    assert registry.list_versions() == []
    with closing(sqlite3.connect(tmp_path / "home" / "mlflow.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    experiment = registry.client.get_experiment(registry.experiment("configs_train_demo"))
    assert experiment.artifact_location == (tmp_path / "home" / "artifacts" / "configs_train_demo").as_uri()
    assert registry.experiment("configs_train_demo") == experiment.experiment_id
    assert list(work.iterdir()) == []


def test_a_deleted_experiment_is_named(registry: Registry) -> None:
    registry.client.delete_experiment(registry.experiment("gone"))
    with pytest.raises(RegistryError, match="'gone' was deleted"):
        registry.experiment("gone")


def test_a_store_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("This is a text file and it is long enough to be looked at as a database header.\n" * 20)
    with pytest.raises(RegistryError, match=r"mlflow\.db cannot be opened: file is not a database"):
        connect(_settings(TRANSECT_HOME=str(tmp_path)))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RegistryError, match="TRANSECT_HOME"):
        connect(_settings(TRANSECT_HOME=str(tmp_path / "file" / "home")))


def test_credentials_reach_mlflow_through_the_environment(tmp_path: Path) -> None:
    settings = _settings(
        TRANSECT_HOME=str(tmp_path),
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
        MLFLOW_TRACKING_USERNAME="trainer",
        MLFLOW_TRACKING_PASSWORD="secret",
    )
    with pytest.raises(RegistryError):
        connect(settings)
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "trainer"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "secret"


def test_the_embedded_store_leaves_the_address_of_the_next_settings_alone(registry: Registry) -> None:
    assert registry.uri.startswith("sqlite:")
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_client_limit_from_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    with pytest.raises(RegistryError):
        connect(_settings(TRANSECT_HOME=str(tmp_path), MLFLOW_TRACKING_URI="http://127.0.0.1:9"))
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:///mlflow.db", Path("mlflow.db")),
        ("sqlite:////data/mlflow.db", Path("/data/mlflow.db")),
        ("sqlite:///a%20b.db", Path("a b.db")),
        ("sqlite://host/x", None),
        ("sqlite://", None),
    ],
)
def test_the_file_behind_an_sqlite_address(uri: str, path: Path | None) -> None:
    assert sqlite_path(uri) == path


def test_passwords_are_not_shown() -> None:
    assert redact_uri("http://user:secret@host:5000/x") == "http://REDACTED@host:5000/x"
    assert redact_uri("http://token@host:5000") == "http://REDACTED@host:5000"
    assert redact_uri("http://host:5000") == "http://host:5000"


def test_what_mlflow_raises_becomes_one_line() -> None:
    with pytest.raises(RegistryError) as caught, mlflow_errors_as("http://mlflow:5000", "listing"):
        raise MlflowException("first line\nsecond line " + "x" * 1000)
    assert "first line second line" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_store_that_is_locked_is_said_without_its_sql(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    said = (
        "(sqlite3.OperationalError) database is locked\n[SQL: INSERT INTO params VALUES (?, ?)]\n"
        "[parameters: ('position', '1.5 S')]\n(Background on this error at: https://sqlalche.me/e/20/e3q8)"
    )
    with pytest.raises(RegistryError) as caught, mlflow_errors_as(uri, "logging the census"):
        raise MlflowException(said)
    assert "database is locked" in str(caught.value)
    assert not [part for part in ("SQL", "INSERT", "1.5 S", "sqlalche.me") if part in str(caught.value)]
