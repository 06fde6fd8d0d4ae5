"""Everything that the documentation says of a run is read back from a real MLflow on PostgreSQL and S3."""

import csv
import io
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from integration.servers import MlflowServer
from tiny_datasets import write_spots_dataset
from transect.datasets import dataset_digest, load_dataset
from transect.registry import connect, find_run, list_runs, run_lineage
from transect.settings import Settings, load_settings
from transect.training import TrainRequest, train

_EPOCHS = 2
_RECIPE = (
    f"train: {{epochs: {_EPOCHS}, imgsz: 64, batch: 4, optimizer: AdamW, lr0: 0.002, seed: 3, fliplr: 0.25}}\n"
    "precision: {int8: false, bf16: false}\ntags: {purpose: test}\n"
)
_EVERY_EPOCH = (
    *(f"train/{name}" for name in ("loss", "box_loss", "cls_loss", "dfl_loss")),
    *(f"val/{name}" for name in ("loss", "box_loss", "cls_loss", "dfl_loss")),
    *(f"metrics/{name}" for name in ("precision", "recall", "mAP50", "mAP50-95")),
    "lr/pg0",
    "lr/pg1",
    "lr/pg2",
)
_AT_THE_END = (
    *(f"best/{name}" for name in ("precision", "recall", "mAP50", "mAP50-95")),
    *(f"test/{name}" for name in ("precision", "recall", "mAP50", "mAP50-95")),
    *(f"test/class/{species}/{name}" for species in ("pale", "dark") for name in ("mAP50", "mAP50-95", "instances")),
)
_SYSTEM = ("cpu_utilization_percentage", "system_memory_usage_megabytes", "disk_usage_percentage")
_TAGS = (
    *("mlflow.user", "mlflow.source.name", "mlflow.source.git.commit", "transect.git_dirty", "transect.command"),
    *(f"transect.{name}" for name in ("host", "cpu", "cpu_cores", "memory_gb", "gpu", "os", "container_image")),
    *("transect.device", "transect.version", "transect.weights_used", "transect.dataset_digest"),
    *(f"version.{name}" for name in ("python", "torch", "ultralytics", "mlflow", "onnx", "openvino", "numpy")),
)
_FILES = (
    *("dataset_summary.csv", "config/recipe.yaml", "config/data.yaml", "source/requirements.txt"),
    *("source/changes.patch", "training/results.csv", "training/args.yaml", "training/ultralytics.log"),
    *(f"plots/{name}.png" for name in ("confusion_matrix", "confusion_matrix_normalized", "BoxPR_curve", "results")),
    *(f"plots/val_batch0_{name}.jpg" for name in ("labels", "pred", "compare")),
    *(f"model/{name}" for name in ("MLmodel", "model.onnx", "weights.pt", "package.json")),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spots_dataset(tmp_path_factory.mktemp("spots"), images=4, size=64)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a recipe that was changed since it was committed."""
    recipe = tmp_path / "configs" / "tiny.yaml"
    recipe.parent.mkdir()
    recipe.write_text("train: {}\n")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init"], ["add", "."], ["commit", "-m", "recipe"]):
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)
    recipe.write_text(_RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _settings(server: MlflowServer, home: Path, model: str) -> Settings:
    values = {"TRANSECT_HOME": str(home), "TRANSECT_PRETRAINED": "none", "TRANSECT_MODEL_NAME": f"record-{model}"}
    return load_settings({**values, "TRANSECT_THREADS": "2", **server.environment()}, env_file=None)


@pytest.mark.parametrize("model", ["yolov8n", "yolo11n", "yolo26n"])
def test_everything_is_there(model: str, mlflow_on_postgres: MlflowServer, repository: Path, data: Path) -> None:
    settings = _settings(mlflow_on_postgres, repository / "home", model)
    request = TrainRequest(model, Path("configs/tiny.yaml"), data, ("+tags.experiment=ablation_study",))
    outcome = train(request, settings)
    registry = connect(settings)
    client = registry.client
    run = client.get_run(outcome.run_id)
    assert run.info.status == "FINISHED"
    assert (run.info.run_name or "").endswith(model)
    assert client.get_experiment(run.info.experiment_id).name == "configs_tiny"
    _check_metrics(client, run)
    _check_configuration(run, model, data)
    _check_source(client, run, repository)
    _check_data(client, run, data)

    (found,) = list_runs(
        registry,
        experiment="configs_tiny",
        search=f"metrics.`val/loss` < 1000 and tags.experiment = 'ablation_study' and run_id = '{outcome.run_id}'",
        order="metrics.`val/loss` ASC",
    )
    assert found == find_run(registry, outcome.run_id)
    lineage = run_lineage(registry, found)
    assert lineage[f"record-{model} version {outcome.version}"] == "candidate"
    shown = registry.show("candidate")
    assert outcome.run_id in shown["trained by"]
    assert shown["dataset digest"] == lineage["dataset digest"] == dataset_digest(load_dataset(data))
    assert shown["commit"] == lineage["commit"] == f"{run.data.tags['mlflow.source.git.commit']} with local changes"


def _check_metrics(client: MlflowClient, run: Run) -> None:
    for name in _EVERY_EPOCH:
        history = client.get_metric_history(run.info.run_id, name)
        assert [metric.step for metric in history] == list(range(1, _EPOCHS + 1)), name
    missing = {*_AT_THE_END, *(f"system/{name}" for name in _SYSTEM)} - set(run.data.metrics)
    assert not missing
    for split in ("train", "val"):
        parts = [run.data.metrics[f"{split}/{name}_loss"] for name in ("box", "cls", "dfl")]
        assert run.data.metrics[f"{split}/loss"] == pytest.approx(sum(parts))


def _check_configuration(run: Run, model: str, data: Path) -> None:
    wanted = {
        "architecture": model,
        "optimizer_used": "AdamW",
        "lr0": "0.002",
        "seed": "3",
        "fliplr": "0.25",
        "epochs": str(_EPOCHS),
        "imgsz": "64",
        "data": str(data),
        "mosaic": "1.0",
        "momentum": "0.937",
    }
    assert {name: run.data.params.get(name) for name in wanted} == wanted
    assert "initial_lr" in run.data.params
    assert not set(_TAGS) - set(run.data.tags)
    assert (run.data.tags["purpose"], run.data.tags["experiment"]) == ("test", "ablation_study")


def _check_source(client: MlflowClient, run: Run, repository: Path) -> None:
    stored = set(_stored(client, run.info.run_id))
    assert not set(_FILES) - stored
    patch = Path(client.download_artifacts(run.info.run_id, "source/changes.patch", str(repository)))
    assert "+tags: {purpose: test}" in patch.read_text()
    assert run.data.tags["transect.git_dirty"] == "true"
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True)
    assert run.data.tags["mlflow.source.git.commit"] == head.stdout.strip()


def _check_data(client: MlflowClient, run: Run, data: Path) -> None:
    assert run.inputs is not None
    given = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
    assert set(given) == {"train", "val", "test"}
    assert len({dataset.digest for dataset in given.values()}) == 3
    table = client.download_artifacts(run.info.run_id, "dataset_summary.csv", str(data.parent))
    rows = {(row["split"], row["class"]): row for row in csv.DictReader(io.StringIO(Path(table).read_text()))}
    assert set(rows) == {(split, name) for split in given for name in ("all", "pale", "dark")}
    assert (rows["train", "all"]["images"], rows["train", "all"]["boxes"]) == ("8", "16")
    assert rows["val", "dark"]["empty_images"] == "0"
    assert float(rows["test", "pale"]["box_px_50"]) > 0


def _stored(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    found = []
    for info in client.list_artifacts(run_id, folder):
        found += _stored(client, run_id, info.path) if info.is_dir else [info.path]
    return found
