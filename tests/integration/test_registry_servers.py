"""Register, alias, fetch, verify, predict, promote: on the embedded store and on real servers."""

import multiprocessing
import warnings
from pathlib import Path

import pytest

from integration.servers import MlflowServer, S3Server
from toy_model import build_toy_package, paint, write_toy_dataset
from transect.datasets import dataset_digest, load_dataset
from transect.engine import Detector
from transect.errors import PromotionRefusedError, RegistryError
from transect.registry import CensusRun, GateConfig, Registry, connect, promote, rollback, version_details
from transect.settings import Settings, load_settings

with warnings.catch_warnings():
    # MLflow warns about its own type hints when this part of it is imported.
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    import mlflow.pyfunc

_STORES = ["embedded", "mlflow_on_sqlite", "mlflow_on_postgres"]


def _settings(home: Path, model: str, environment: dict[str, str]) -> Settings:
    values = {"TRANSECT_HOME": str(home), "TRANSECT_MODEL_NAME": model, "TRANSECT_THREADS": "1", **environment}
    return load_settings(values, env_file=None)


@pytest.fixture(params=_STORES)
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    server = None if request.param == "embedded" else request.getfixturevalue(request.param)
    # The servers live as long as the session, so each test has a model of its own.
    environment = {} if server is None else server.environment()
    return connect(_settings(tmp_path / "home", f"m-{tmp_path.name.replace('[', '-').strip(']')}", environment))


def _register(registry: Registry, package: Path, data: Path | None = None) -> str:
    run = registry.client.create_run(registry.experiment("integration"))
    tags = {"transect.architecture": "toy", "transect.map50": "0.99"}
    if data is not None:
        digest = dataset_digest(load_dataset(data))
        tags |= {"transect.data": str(data), "transect.dataset_digest": digest}
    return registry.register(package, run.info.run_id, tags=tags).version


def test_from_package_to_prediction(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = registry.settings.model_name
    data = write_toy_dataset(tmp_path / "data")
    # A shift of 2 px finds everything, and places it a little less well.
    _register(registry, build_toy_package(tmp_path / "good", shift=2.0), data)
    assert promote(registry, actor="ada").promoted
    resolved = registry.resolve("production")
    assert resolved.aliases == ("candidate", "production")
    folder = registry.fetch(resolved)
    registry.cache.remember(resolved)
    assert registry.cache.last_known(name, "production") == (resolved, folder)
    with Detector.open(folder, threads=1) as detector:
        assert [found.class_name for found in detector.detect(paint([(1, 1, "red")])).detections] == ["red"]

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", registry.uri)
    model = mlflow.pyfunc.load_model(f"models:/{name}@production")
    images = sorted((data.parent / "test" / "images").glob("*.png"))
    records = model.predict([str(path) for path in images])
    assert [len(record["detections"]) for record in records] == [3] * len(images)

    _register(registry, build_toy_package(tmp_path / "worse", shift=4.0), data)
    with pytest.raises(PromotionRefusedError):
        promote(registry, actor="ada")
    better = _register(registry, build_toy_package(tmp_path / "better"), data)
    verdict = promote(registry, gate=GateConfig(max_latency_ratio=None), actor="ada")
    assert verdict.version == better
    run = registry.client.get_run(verdict.run_id)
    assert (run.data.tags["transect.verdict"], run.data.tags["transect.actor"]) == ("promoted", "ada")
    assert {item.path for item in registry.client.list_artifacts(verdict.run_id)} == {"verdict.html", "verdict.json"}
    assert rollback(registry, actor="bob").version == resolved.version
    listed = {row.version: row.aliases for row in registry.list_versions()}
    assert listed == {"1": ("production",), "2": (), "3": ("candidate", "previous")}
    assert version_details(registry, "production")["transect.promoted_by"] == "ada"


def test_files_that_the_store_lost_are_named_in_one_line(registry: Registry, tmp_path: Path) -> None:
    _register(registry, build_toy_package(tmp_path / "package"))
    resolved = registry.resolve("candidate")
    repository = registry.client.get_run(resolved.run_id).info.artifact_uri
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    get_artifact_repository(repository, tracking_uri=registry.uri).delete_artifacts("model")
    with pytest.raises(RegistryError, match=r"are not in the artifact store.*train again") as caught:
        registry.fetch(resolved)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_told_apart_from_what_failed(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="make train"):
        registry.resolve("production")
    _register(registry, build_toy_package(tmp_path / "package"))
    with pytest.raises(RegistryError, match="make promote"):
        registry.resolve("production")
    with pytest.raises(RegistryError, match="has no version 99; it has 1"):
        registry.resolve("99")


def _fetch(settings: Settings) -> str:
    registry = connect(settings)
    return str(registry.fetch(registry.resolve("candidate")))


def test_two_processes_fetch_one_version_at_once(mlflow_on_sqlite: MlflowServer, tmp_path: Path) -> None:
    settings = _settings(tmp_path / "home", "two-processes", mlflow_on_sqlite.environment())
    registry = connect(settings)
    _register(registry, build_toy_package(tmp_path / "package"))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        folders = set(pool.map(_fetch, [settings] * 2))
    assert folders == {str(registry.cache.get(registry.resolve("candidate")))}


def test_metadata_is_in_postgres_and_files_are_in_s3(
    mlflow_on_postgres: MlflowServer, s3_server: S3Server, postgres_uri: str, tmp_path: Path
) -> None:
    import sqlalchemy

    registry = connect(_settings(tmp_path / "home", "in-postgres", mlflow_on_postgres.environment()))
    _register(registry, build_toy_package(tmp_path / "package"))
    run_id = registry.resolve("candidate").run_id
    keys = {key.rpartition("/")[2] for key in s3_server.list_keys() if f"/{run_id}/" in key}
    assert keys == {"MLmodel", "model.onnx", "package.json", "weights.pt"}
    engine = sqlalchemy.create_engine(postgres_uri)
    try:
        with engine.connect() as connection:
            query = sqlalchemy.text("SELECT version FROM registered_model_aliases WHERE name = 'in-postgres'")
            assert connection.execute(query).scalars().all() == [1]
    finally:
        engine.dispose()


def test_a_census_is_a_run_with_its_files_and_nothing_is_printed(
    mlflow_on_postgres: MlflowServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    census = mlflow_on_postgres.as_account("census")
    registry = connect(_settings(tmp_path / "home", "x", census.environment()))
    report = tmp_path / "report.html"
    report.write_text("<html></html>")
    run_id = registry.log_census_run(
        CensusRun(
            name="flight", params={"sampling": "strip"}, metrics={"unique_sheep": 12}, tags={}, artifacts=(report,)
        )
    )
    assert registry.client.get_run(run_id).info.status == "FINISHED"
    assert [item.path for item in registry.client.list_artifacts(run_id)] == ["report.html"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("wrong", [{"MLFLOW_TRACKING_PASSWORD": "wrong"}, {"MLFLOW_TRACKING_USERNAME": "nobody"}])
def test_a_wrong_key_is_one_clear_sentence(
    mlflow_on_postgres: MlflowServer, tmp_path: Path, wrong: dict[str, str]
) -> None:
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD") as caught:
        connect(_settings(tmp_path, "x", {**mlflow_on_postgres.environment(), **wrong}))
    assert mlflow_on_postgres.password not in str(caught.value)


def test_no_key_is_one_clear_sentence(mlflow_on_postgres: MlflowServer, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
        connect(_settings(tmp_path, "x", {"MLFLOW_TRACKING_URI": mlflow_on_postgres.uri}))
