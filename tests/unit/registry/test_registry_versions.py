import shutil
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from toy_model import build_toy_package
from transect.engine import Detector, package_sha256
from transect.errors import NotRegisteredError, PackageError, RegistryError
from transect.registry import CensusRun, ModelMeasurements, PackageOrigin, Registry, version_details


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_toy_package(
        tmp_path_factory.mktemp("built") / "package",
        measured=ModelMeasurements(conf=0.25, metrics={"mAP50": 0.5}),
        origin=PackageOrigin(dataset_name="squares"),
    )


@pytest.fixture
def package(built: Path, tmp_path: Path) -> Path:
    """A package that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "package"))


@pytest.fixture
def run_id(registry: Registry) -> str:
    return str(registry.client.create_run(registry.experiment("test")).info.run_id)


def _is_empty(registry: Registry) -> bool:
    return registry.list_versions() == [] and not registry.client.search_registered_models()


def test_register_resolve_fetch_open(registry: Registry, package: Path, run_id: str) -> None:
    made = registry.register(package, run_id, tags={"transect.architecture": "toy"})
    assert (made.name, made.version, made.run_id) == ("detector", "1", run_id)
    resolved = registry.resolve("candidate")
    assert resolved == registry.resolve("models:/detector@candidate")
    assert (resolved.version, resolved.run_id, resolved.alias) == ("1", run_id, "candidate")
    assert resolved.package_sha256 == package_sha256(package)
    assert resolved.tags["transect.architecture"] == "toy"
    folder = registry.fetch(resolved)
    assert folder.is_relative_to(registry.settings.cache_dir)
    assert registry.fetch(registry.resolve("1")) == folder
    with Detector.open(folder, threads=1) as detector:
        assert detector.manifest.architecture == "toy"


def test_the_candidate_is_the_newest(registry: Registry, package: Path, run_id: str) -> None:
    registry.register(package, run_id, tags={})
    registry.register(package, run_id, tags={})
    assert registry.resolve("candidate").version == "2"
    assert [(row.version, row.aliases) for row in registry.list_versions()] == [("2", ("candidate",)), ("1", ())]


def test_the_list_shows_what_the_tags_say(registry: Registry, package: Path, run_id: str) -> None:
    tags = {"transect.architecture": "yolo11n", "transect.map50": "0.91", "transect.map50_95": "nonsense"}
    registry.register(package, run_id, tags=tags)
    (row,) = registry.list_versions()
    assert (row.architecture, row.map50, row.map50_95, row.run_id) == ("yolo11n", 0.91, None, run_id)
    assert row.created.tzinfo is not None


def test_show_reads_the_manifest_without_the_model(registry: Registry, package: Path, run_id: str) -> None:
    registry.register(package, run_id, tags={"transect.note": "hello"})
    shown = version_details(registry, "candidate")
    assert shown["classes"] == "red, green, blue"
    assert shown["metric mAP50"] == "0.5000"
    assert shown["transect.note"] == "hello"
    assert registry.cache.get(registry.resolve("candidate")) is None


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("production", "make promote"),
        ("previous", "second promotion"),
        ("stable", "it has candidate"),
        ("7", "has no version 7; it has 1"),
        ("other@production", "no model named other.*make train"),
        ("models:/detector/Production", "does not name a model version"),
    ],
)
def test_what_is_not_registered_is_named_with_the_next_step(
    registry: Registry, package: Path, run_id: str, reference: str, said: str
) -> None:
    registry.register(package, run_id, tags={})
    with pytest.raises(RegistryError, match=said):
        registry.resolve(reference)


def test_a_version_that_was_not_made_here_is_refused(registry: Registry, run_id: str) -> None:
    registry.client.create_registered_model("detector")
    source = registry.client.get_run(run_id).info.artifact_uri + "/model"
    registry.client.create_model_version("detector", source, run_id)
    with pytest.raises(RegistryError, match=r"transect\.package_sha256"):
        registry.resolve("1")


def test_a_damaged_package_is_not_registered(registry: Registry, package: Path, run_id: str) -> None:
    (package / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(PackageError, match=r"model\.onnx"):
        registry.register(package, run_id, tags={})
    assert _is_empty(registry)


def test_a_run_that_does_not_exist_registers_nothing(registry: Registry, package: Path) -> None:
    with pytest.raises(RegistryError, match="not found"):
        registry.register(package, "0" * 32, tags={})
    assert _is_empty(registry)


@pytest.mark.parametrize("failure", [MlflowException("the server is gone"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["create_model_version", "set_registered_model_alias"])
def test_a_registration_that_breaks_off_leaves_nothing(
    registry: Registry, package: Path, run_id: str, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(registry.client, step, fail)
        with pytest.raises((RegistryError, KeyboardInterrupt)):
            registry.register(package, run_id, tags={})
    assert _is_empty(registry)
    assert registry.register(package, run_id, tags={}).version == "1"


def test_a_registration_that_breaks_off_keeps_earlier_versions(
    registry: Registry, package: Path, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(package, run_id, tags={})

    def fail(*_: object, **__: object) -> None:
        raise MlflowException("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(registry.client, "set_registered_model_alias", fail)
        with pytest.raises(RegistryError, match="the server is gone"):
            registry.register(package, run_id, tags={})
    assert [(row.version, row.aliases) for row in registry.list_versions()] == [("1", ("candidate",))]


def test_an_upload_that_lost_bytes_is_not_registered(
    registry: Registry, package: Path, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = registry.client.log_artifact

    def upload_half(run: str, file: str, folder: str) -> None:
        upload(run, file, folder)
        stored = Path(registry.client.get_run(run).info.artifact_uri.removeprefix("file://")) / folder / Path(file).name
        if stored.name == "model.onnx":
            stored.write_bytes(stored.read_bytes()[:100])

    monkeypatch.setattr(registry.client, "log_artifact", upload_half)
    with pytest.raises(RegistryError, match=r"stored 100 of the \d+ bytes of .*model\.onnx"):
        registry.register(package, run_id, tags={})
    assert _is_empty(registry)


def _artifacts(registry: Registry) -> Path:
    return Path(registry.resolve("candidate").source.removeprefix("file://"))


def test_files_that_were_changed_in_the_store_are_refused(registry: Registry, package: Path, run_id: str) -> None:
    registry.register(package, run_id, tags={})
    manifest = _artifacts(registry) / "package.json"
    manifest.write_text(manifest.read_text().replace('"conf": 0.25', '"conf": 0.01'))
    resolved = registry.resolve("candidate")
    with pytest.raises(PackageError, match=r"detector version 1 are not the ones that were registered"):
        registry.fetch(resolved)
    with pytest.raises(PackageError, match=r"detector version 1 are not the ones that were registered"):
        registry.manifest(resolved)
    assert registry.cache.get(resolved) is None


def test_missing_files_are_named(registry: Registry, package: Path, run_id: str) -> None:
    registry.register(package, run_id, tags={})
    resolved = registry.resolve("candidate")
    _artifacts(registry).rename(package.parent / "elsewhere")
    with pytest.raises(RegistryError, match="files of detector version 1 are not in the artifact store") as caught:
        registry.fetch(resolved)
    assert "\n" not in str(caught.value)


def test_a_deleted_version_is_not_found(registry: Registry, package: Path, run_id: str) -> None:
    registry.register(package, run_id, tags={})
    registry.client.delete_model_version("detector", "1")
    with pytest.raises(NotRegisteredError, match="make train"):
        registry.resolve("candidate")


def test_a_census_is_a_run(registry: Registry, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<html></html>")
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "estimate.csv").write_text("a,b\n")
    params = {f"setting {number}": "x" * 7000 for number in range(150)}
    metrics = {"unique (sheep)": 12.0, "estimate_sheep": 470.0}
    run_id = registry.log_census_run(
        CensusRun(name="my-flight", params=params, metrics=metrics, tags={"survey": "abc"}, artifacts=(report, tables))
    )
    run = registry.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "my-flight"
    assert run.data.metrics == {"unique _sheep_": 12.0, "estimate_sheep": 470.0}
    assert len(run.data.params) == 150
    assert run.data.tags["survey"] == "abc"
    assert {item.path for item in registry.client.list_artifacts(run_id)} == {"report.html", "tables"}


def _my_flight(*artifacts: Path, unique: int = 3, **tags: str) -> CensusRun:
    named = {f"transect.{name}": value for name, value in tags.items()}
    return CensusRun(name="my-flight", params={"seed": 1}, metrics={"unique": unique}, tags=named, artifacts=artifacts)


def _census_runs(registry: Registry) -> dict[str, str]:
    """Id and status of the census runs."""
    runs = registry.client.search_runs([registry.experiment("census")])
    return {run.info.run_id: run.info.status for run in runs}


def test_a_finished_census_is_logged_once(registry: Registry, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<html></html>")
    experiment = registry.experiment("census")
    killed = registry.client.create_run(experiment, tags={"transect.census_run": "abc"}).info.run_id
    other = registry.client.create_run(experiment, tags={"transect.census_run": "xyz"}).info.run_id
    first = registry.log_census_run(_my_flight(report, census_run="abc", census_results="1"))
    assert registry.log_census_run(_my_flight(report, census_run="abc", census_results="1")) == first
    # The same survey and settings with other results, by a newer program, is another run.
    changed = registry.log_census_run(_my_flight(report, unique=4, census_run="abc", census_results="2"))
    assert _census_runs(registry) == {killed: "KILLED", other: "RUNNING", first: "FINISHED", changed: "FINISHED"}


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "KILLED"])
def test_a_census_that_was_cut_off_is_completed(registry: Registry, tmp_path: Path, status: str) -> None:
    files = [tmp_path / name for name in ("counts.csv", "estimate.csv", "report.html")]
    for file in files:
        file.write_text(f"whole {file.name}")
    run = _my_flight(*files, census_run="abc", census_results="1")
    client = registry.client
    begun = client.create_run(registry.experiment("census"), tags=dict(run.tags)).info.run_id
    # An older version may have written a value in another way: MLflow takes no second one.
    client.log_param(begun, "seed", "1.0")
    client.log_metric(begun, "unique", 3)
    for name, text in (("counts.csv", "WHOLE counts.csv"), ("estimate.csv", "whole")):
        (tmp_path / "before").mkdir(exist_ok=True)
        (tmp_path / "before" / name).write_text(text)
        client.log_artifact(begun, str(tmp_path / "before" / name))
    client.update_run(begun, status=status)

    assert registry.log_census_run(run) == begun
    assert _census_runs(registry) == {begun: "FINISHED"}
    assert len(client.get_metric_history(begun, "unique")) == 1
    (tmp_path / "after").mkdir()
    stored = {
        item.path: Path(client.download_artifacts(begun, item.path, str(tmp_path / "after"))).read_text()
        for item in client.list_artifacts(begun)
    }
    # What arrived whole is not sent again.
    assert stored == {
        "counts.csv": "WHOLE counts.csv",
        "estimate.csv": "whole estimate.csv",
        "report.html": "whole report.html",
    }


def test_a_census_that_cannot_be_logged_in_full_is_marked(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="my-flight"):
        registry.log_census_run(_my_flight(tmp_path / "missing.html"))
    assert list(_census_runs(registry).values()) == ["FAILED"]
