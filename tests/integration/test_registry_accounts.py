"""What each account of the stack reaches in MLflow on PostgreSQL and S3, and what it does not.

The server is the stack's: its initialiser, its role in the database, its grants and rules (docker/mlflow).
"""

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
import sqlalchemy
from accounts import MOST_FAILURES, STACK_ACCOUNTS

from integration.servers import (
    MlflowServer,
    S3Server,
    _mlflow,
    _s3_environment,
    initialise_accounts,
    password_of,
    served_by_accounts,
)
from toy_model import build_toy_package
from transect.registry import CensusRun, connect
from transect.settings import load_settings

SECRET = "rhino at -24.0012345"
API = "/api/2.0/mlflow"


@dataclass(frozen=True)
class House:
    """A stack in which somebody has trained, and somebody has counted with positions."""

    server: MlflowServer
    census_experiment: str
    census_run: str
    training_experiment: str
    training_run: str
    source: str

    def ask(self, account: str, method: str, path: str, **more: Any) -> httpx.Response:
        """One request of an account."""
        return httpx.request(
            method, f"{self.server.uri}{path}", auth=(account, password_of(account)), timeout=60, **more
        )

    def file_of_the_census(self) -> str:
        """The path of the file with positions, as MLflow's artifact proxy names it."""
        return f"{self.census_experiment}/{self.census_run}/artifacts/animals.geojson"


def register(server: MlflowServer, folder: Path, model: str = "detector") -> tuple[str, str, str]:
    """Train, as far as MLflow sees it: the experiment, the run and the source of the version."""
    environment = {"TRANSECT_HOME": str(folder), "TRANSECT_MODEL_NAME": model, **server.environment()}
    registry = connect(load_settings(environment, env_file=None))
    experiment = registry.experiment("wildlife")
    run = registry.client.create_run(experiment).info.run_id
    registry.register(build_toy_package(folder / "package"), run, tags={"transect.map50": "0.9"})
    return experiment, run, registry.resolve("candidate").source


def count(server: MlflowServer, folder: Path) -> tuple[str, str]:
    """Log a census with positions: its experiment and its run."""
    registry = connect(load_settings({"TRANSECT_HOME": str(folder), **server.environment()}, env_file=None))
    folder.mkdir(exist_ok=True)
    (folder / "animals.geojson").write_text(SECRET)
    run = registry.log_census_run(
        CensusRun(name="tiny", params={}, metrics={"rhino": 1.0}, tags={}, artifacts=(folder / "animals.geojson",))
    )
    return registry.experiment("census"), run


@pytest.fixture(scope="module")
def house(mlflow_on_postgres: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("house")
    trained = register(mlflow_on_postgres, folder / "trainer", "census-of-accounts")
    counted = count(mlflow_on_postgres.as_account("census"), folder / "census")
    return House(mlflow_on_postgres, *counted, *trained)


@pytest.mark.parametrize("account", ["trainer", "detector"])
def test_positions_are_for_those_who_count_alone(house: House, account: str) -> None:
    file = house.file_of_the_census()
    mine = house.ask("census", "GET", f"/api/2.0/mlflow-artifacts/artifacts/{file}")
    assert (mine.status_code, mine.text) == (200, SECRET)
    run, experiment = house.census_run, house.census_experiment
    graph = f'{{mlflowGetRun(input: {{runId: "{run}"}}) {{run {{info {{runName}}}}}}}}'
    ways: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"/api/2.0/mlflow-artifacts/artifacts/{file}", {}),
        ("GET", f"/ajax-api/2.0/mlflow-artifacts/artifacts/{file}", {}),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts", {"params": {"path": f"{experiment}/{run}/artifacts"}}),
        ("GET", "/get-artifact", {"params": {"run_id": run, "path": "animals.geojson"}}),
        ("GET", f"{API}/artifacts/list", {"params": {"run_id": run}}),
        ("GET", f"{API}/runs/get", {"params": {"run_id": run}}),
        ("GET", f"{API}/experiments/get", {"params": {"experiment_id": experiment}}),
        ("GET", f"{API}/experiments/get-by-name", {"params": {"experiment_name": "census"}}),
        ("GET", f"{API}/metrics/get-history", {"params": {"run_id": run, "metric_key": "rhino"}}),
        ("POST", f"{API}/runs/search", {"json": {"experiment_ids": [experiment]}}),
        ("POST", f"{API}/experiments/search", {"json": {"max_results": 1000}}),
        ("POST", "/graphql", {"json": {"query": graph}}),
    ]
    for method, path, more in ways:
        answer = house.ask(account, method, path, **more)
        assert SECRET not in answer.text, path
        assert "animals.geojson" not in answer.text, path
        assert '"rhino"' not in answer.text, path
        assert "tiny" not in answer.text, path


@pytest.mark.parametrize("account", STACK_ACCOUNTS)
def test_all_of_them_read_what_is_trained(house: House, account: str) -> None:
    path = f"{house.training_experiment}/{house.training_run}/artifacts/model/package.json"
    answer = house.ask(account, "GET", f"/api/2.0/mlflow-artifacts/artifacts/{path}")
    assert answer.status_code == 200
    found = house.ask(account, "GET", f"{API}/registered-models/get", params={"name": "census-of-accounts"})
    assert found.status_code == 200


def test_the_detector_fetches_a_model_and_changes_nothing(house: House, tmp_path: Path) -> None:
    server = house.server.as_account("detector")
    environment = {"TRANSECT_HOME": str(tmp_path), "TRANSECT_MODEL_NAME": "census-of-accounts", **server.environment()}
    registry = connect(load_settings(environment, env_file=None))
    assert (registry.fetch(registry.resolve("candidate")) / "model.onnx").is_file()
    experiment, run = house.training_experiment, house.training_run
    file = f"{experiment}/{run}/artifacts/model/model.onnx"
    writes: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", f"{API}/experiments/create", {"json": {"name": "mine"}}),
        ("POST", f"{API}/registered-models/create", {"json": {"name": "squatted"}}),
        ("POST", f"{API}/model-versions/create", {"json": {"name": "census-of-accounts", "source": house.source}}),
        ("POST", f"{API}/runs/create", {"json": {"experiment_id": experiment}}),
        ("POST", f"{API}/runs/set-tag", {"json": {"run_id": run, "key": "a", "value": "b"}}),
        ("POST", f"{API}/runs/delete", {"json": {"run_id": run}}),
        (
            "POST",
            f"{API}/registered-models/alias",
            {"json": {"name": "census-of-accounts", "alias": "production", "version": "1"}},
        ),
        ("DELETE", f"{API}/registered-models/delete", {"json": {"name": "census-of-accounts"}}),
        ("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{file}", {"content": b"another model"}),
        ("DELETE", f"/api/2.0/mlflow-artifacts/artifacts/{file}", {}),
        ("PATCH", f"{API}/users/update-password", {"json": {"username": "detector", "password": "x" * 16}}),
        ("PATCH", f"{API}/users/update-admin", {"json": {"username": "detector", "is_admin": True}}),
        ("POST", "/api/3.0/mlflow/traces", {"json": {}}),
        ("POST", "/v1/traces", {"content": b""}),
    ]
    for method, path, more in writes:
        answer = house.ask("detector", method, path, **more)
        assert answer.status_code == 403, (method, path, answer.text)
    assert house.ask("trainer", "GET", f"/api/2.0/mlflow-artifacts/artifacts/{file}").content != b"another model"


_ROUTES = """
import json
from mlflow.server.auth import routes
from mlflow.server.handlers import get_endpoints
named = {(path, method) for path, _, methods in get_endpoints() for method in methods if method != "GET"}
paths = [path for name, path in vars(routes).items() if name.isupper() and str(path).startswith("/")]
print(json.dumps(sorted(named | {(path, method) for path in paths for method in ("POST", "PATCH", "PUT", "DELETE")})))
"""


def every_route() -> list[tuple[str, str]]:
    """Each path of MLflow's own tables with one of its methods that may write, as its own process says it."""
    done = subprocess.run([sys.executable, "-c", _ROUTES], capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(done.stdout.splitlines()[-1])
    return [(path.replace("<", "").replace(">", ""), method) for path, method in found]


def test_no_route_of_mlflow_lets_the_detector_write(house: House) -> None:
    """By the server's own list of routes: one that a later MLflow adds is in this test by itself."""
    routes = every_route()
    assert len(routes) > 200
    said = []
    with httpx.Client(base_url=house.server.uri, auth=("detector", password_of("detector")), timeout=60) as client:
        for path, method in routes:
            if method == "POST" and path.endswith("/search"):
                continue
            answer = client.request(method, path, json={"name": "mine", "run_id": house.census_run})
            if answer.status_code not in {403, 404, 405}:
                said.append((method, path, answer.status_code))
    assert said == []


@pytest.mark.parametrize("account", ["detector", "census"])
def test_only_who_trains_makes_models_and_experiments(house: House, account: str) -> None:
    for what in ("experiments", "registered-models"):
        answer = house.ask(account, "POST", f"{API}/{what}/create", json={"name": f"of-{account}"})
        assert answer.status_code == 403
        assert "only" in answer.json()["message"]


def test_who_counts_neither_moves_an_alias_nor_writes_to_what_is_trained(house: House) -> None:
    alias = {"name": "census-of-accounts", "alias": "production", "version": "1"}
    assert house.ask("census", "POST", f"{API}/registered-models/alias", json=alias).status_code == 403
    run = {"experiment_id": house.training_experiment}
    assert house.ask("census", "POST", f"{API}/runs/create", json=run).status_code == 403
    version = {"name": "census-of-accounts", "source": house.source, "run_id": house.training_run}
    assert house.ask("census", "POST", f"{API}/model-versions/create", json=version).status_code == 403
    promotion = house.ask("admin", "GET", f"{API}/experiments/get-by-name", params={"experiment_name": "promotion"})
    run = {"experiment_id": promotion.json()["experiment"]["experiment_id"]}
    assert house.ask("census", "POST", f"{API}/runs/create", json=run).status_code == 403
    assert house.ask("census", "PATCH", f"{API}/users/update-password", json={}).status_code == 403


def test_a_model_version_or_an_experiment_is_no_way_round(house: House, s3_server: S3Server) -> None:
    """The server reads with its own key: an account names a place, and is given what lies there."""
    places = [
        f"s3://{s3_server.bucket}/artifacts/{house.census_experiment}/{house.census_run}/artifacts",
        f"mlflow-artifacts:/{house.census_experiment}/{house.census_run}/artifacts",
        f"runs:/{house.census_run}",
        f"mlflow-artifacts:/{house.training_experiment}/{house.training_run}/artifacts/model\n",
        "file:///etc",
        "http://169.254.169.254/latest",
    ]
    for place in places:
        for run in ({}, {"run_id": house.training_run}):
            version = {"name": "census-of-accounts", "source": place, **run}
            answer = house.ask("trainer", "POST", f"{API}/model-versions/create", json=version)
            assert answer.status_code in {400, 403}, (place, answer.text)
        for spelling in ("artifact_location", "artifactLocation"):
            experiment = {"name": f"at-{spelling}", spelling: place}
            answer = house.ask("trainer", "POST", f"{API}/experiments/create", json=experiment)
            assert answer.status_code == 403, (place, answer.text)
    # Said twice, in another coding, or as text within text: MLflow's reader of JSON is lenient.
    lenient = [
        json.dumps(json.dumps({"name": "odd", "artifact_location": places[0]})).encode(),
        json.dumps({"name": "odd", "artifact_location": places[0]}).encode("utf-16"),
        f'{{"artifact_location": "", "name": "odd", "artifact_location": "{places[0]}"}}'.encode(),
    ]
    for body in lenient:
        answer = house.ask("trainer", "POST", f"{API}/experiments/create", content=body)
        assert answer.status_code == 403, answer.text


def test_who_reads_the_header_twice_reads_one_name(house: House) -> None:
    uri = f"{house.server.uri}{API}/experiments/create"
    trainer = httpx.BasicAuth("trainer", password_of("trainer"))._auth_header
    detector = httpx.BasicAuth("detector", password_of("detector"))._auth_header
    for values in ([trainer, detector], [detector, trainer], ["Bearer x"], ["Basic"], ["Basic !"], [trainer.upper()]):
        headers = [("Authorization", value) for value in values]
        assert httpx.post(uri, json={"name": "twice"}, headers=headers, timeout=60).status_code == 401, values


def test_a_password_cannot_be_guessed_quickly_and_the_others_go_on(house: House) -> None:
    ask = f"{house.server.uri}{API}/experiments/search"

    def guess(account: str, password: str) -> httpx.Response:
        return httpx.post(ask, json={"max_results": 1}, auth=(account, password), timeout=60)

    codes = [guess("admin-of-old", f"guess {number}").status_code for number in range(MOST_FAILURES + 2)]
    assert codes == [401] * MOST_FAILURES + [429] * 2
    refused = guess("admin-of-old", "another")
    assert 0 < int(refused.headers["Retry-After"]) <= 61
    assert "too many wrong passwords" in refused.json()["message"]
    assert guess("census", password_of("census")).status_code == 200


def test_the_role_of_the_server_reads_and_writes_rows_and_nothing_else(house: House, postgres_uri: str) -> None:
    url = sqlalchemy.make_url(postgres_uri)
    database = psycopg2.connect(host=url.query["host"], user="mlflow_server", dbname=url.database, password="-")
    database.autocommit = True
    with closing(database):
        with database.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM runs")
            assert cursor.fetchone()[0] >= 1
            cursor.execute("SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user")
            assert cursor.fetchone() == (False, False, False)
        forbidden = [
            "COPY runs TO PROGRAM 'cat > /tmp/positions'",
            "COPY runs FROM '/etc/passwd'",
            "SELECT pg_read_file('/etc/passwd')",
            "SELECT rolpassword FROM pg_authid",
            "CREATE ROLE another LOGIN",
            "ALTER ROLE mlflow_server SUPERUSER",
            "CREATE TABLE another (a int)",
            "CREATE SCHEMA another",
            "CREATE DATABASE another",
            "DROP TABLE runs",
            "TRUNCATE runs",
            "ALTER TABLE runs ADD COLUMN another int",
            "ALTER SYSTEM SET log_statement = 'all'",
            f"SET ROLE {url.username}",
        ]
        for statement in forbidden:
            with database.cursor() as cursor, pytest.raises(psycopg2.Error) as caught:
                cursor.execute(statement)
            assert caught.value.pgcode in {"42501", "25006"}, (statement, str(caught.value))


# --- a stack of the version before, in which everybody read everything ----------------------------

_BEFORE = """[mlflow]
default_permission = READ
database_uri = {database}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


@pytest.fixture(scope="module")
def older_database(postgres_uri: str) -> str:
    engine = sqlalchemy.create_engine(postgres_uri, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE DATABASE older"))
    engine.dispose()
    return sqlalchemy.make_url(postgres_uri).set(database="older").render_as_string(hide_password=False)


def test_a_stack_of_the_version_before_is_brought_up_to_date_and_loses_nothing(
    older_database: str, s3_server: S3Server, tmp_path: Path
) -> None:
    config = tmp_path / "before.ini"
    config.write_text(_BEFORE.format(database=older_database.replace("%", "%%")))
    environment = {
        **_s3_environment(s3_server),
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password_of("admin"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "throw-away-key",
    }
    bucket = f"s3://{s3_server.bucket}/artifacts"
    with _mlflow(tmp_path, older_database, bucket, environment, ("--app-name", "basic-auth")) as uri:
        before = MlflowServer(uri, "admin", password_of("admin"))
        admin = ("admin", before.password)
        for name in (*STACK_ACCOUNTS, "ada"):
            new = {"username": name, "password": password_of(name)}
            assert httpx.post(f"{uri}{API}/users/create", json=new, auth=admin).status_code == 200
        trained = register(before.as_account("trainer"), tmp_path / "trainer")
        counted = count(before.as_account("census"), tmp_path / "census")
        # What an account that only reads could do then.
        squatted = connect(
            load_settings(
                {"TRANSECT_HOME": str(tmp_path / "d"), **before.as_account("detector").environment()}, env_file=None
            )
        ).experiment("of the detector")
        house = House(before, *counted, *trained)
        positions = f"/api/2.0/mlflow-artifacts/artifacts/{house.file_of_the_census()}"
        assert house.ask("detector", "GET", positions).text == SECRET
    said = initialise_accounts(older_database)
    assert "account detector: 2 grants, brought in line" in said
    assert "brought in line" not in initialise_accounts(older_database)
    again = tmp_path / "again"
    again.mkdir()
    with served_by_accounts(again, older_database, s3_server) as after:
        house = House(after, *counted, *trained)
        assert house.ask("census", "GET", positions).text == SECRET
        for account in ("detector", "trainer", "ada"):
            assert house.ask(account, "GET", positions).status_code == 403
        # The squatter's is the administrator's now.
        its = {"experiment_id": squatted}
        assert house.ask("detector", "POST", f"{API}/runs/create", json=its).status_code == 403
        assert house.ask("admin", "GET", f"{API}/experiments/get", params=its).status_code == 200
        # Work goes on: the next version, the next census, with the accounts that made the first.
        assert register(after, tmp_path / "next")[0] == trained[0]
        assert count(after.as_account("census"), tmp_path / "census")[0] == counted[0]
        found = house.ask("detector", "GET", f"{API}/registered-models/get", params={"name": "detector"}).json()
        assert {item["version"] for item in found["registered_model"]["latest_versions"]} == {"2"}
