"""Everything that the documentation says of a run is read back from a real MLflow on PostgreSQL and S3."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest

from integration.run_record import missing, read_items, wanted_items
from integration.servers import MlflowServer
from tiny_datasets import write_spots_dataset
from transect.datasets import dataset_digest, load_dataset
from transect.registry import connect, find_run, run_lineage, version_details
from transect.settings import Settings, load_settings
from transect.tracking.run_log import RunLog
from transect.training import TrainRequest, train

_EPOCHS = 2
_RECIPE = (
    f"train: {{epochs: {_EPOCHS}, imgsz: 64, batch: 4, optimizer: auto, lr0: 0.5, seed: 3, fliplr: 0.25}}\n"
    "precision: {int8: false, bf16: false}\ntags: {purpose: test}\n"
)
_IMAGE = "transect-trainer@sha256:0123"


@dataclass(frozen=True)
class Recorded:
    """A run, and all that MLflow gives back of it."""

    run_id: str
    version: str
    settings: Settings
    data: Path
    wanted: dict[str, Any]
    items: dict[str, Any]


def _repository(folder: Path) -> str:
    """Make a repository with a recipe that was changed since it was committed; its commit."""
    recipe = folder / "configs" / "tiny.yaml"
    recipe.parent.mkdir()
    recipe.write_text("train: {}\n")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init"], ["add", "."], ["commit", "-m", "recipe"]):
        subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)
    recipe.write_text(_RECIPE)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return head.stdout.strip()


@pytest.fixture(scope="module", params=["yolov8n", "yolo11n", "yolo26n"])
def recorded(
    request: pytest.FixtureRequest, mlflow_on_postgres: MlflowServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    model: str = request.param
    folder = tmp_path_factory.mktemp(model)
    commit = _repository(folder)
    data = write_spots_dataset(tmp_path_factory.mktemp("spots"), images=4, size=64)
    environment = {"TRANSECT_HOME": str(folder / "home"), "TRANSECT_PRETRAINED": "none", "TRANSECT_THREADS": "2"}
    environment["TRANSECT_SOURCE_DIFF"] = "always"
    settings = load_settings(
        {**environment, "TRANSECT_MODEL_NAME": f"record-{model}", **mlflow_on_postgres.environment()}, env_file=None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CONTAINER_IMAGE", _IMAGE)
        overrides = ("+tags.experiment=ablation_study",)
        outcome = train(TrainRequest(model, Path("configs/tiny.yaml"), data, overrides), settings)
        # What was asked for is 0.5; two classes make it this, says Ultralytics' rule for optimizer=auto.
        params = {
            "architecture": model,
            "optimizer": "AdamW",
            "optimizer_used": "AdamW",
            "lr0": "0.001667",
            "momentum": "0.9",
            "warmup_bias_lr": "0.0",
            "seed": "3",
            "fliplr": "0.25",
            "mosaic": "1.0",
            "epochs": str(_EPOCHS),
            "imgsz": "64",
            "batch": "4",
            "workers": "0",
            "device": "cpu",
            "data": str(data),
            "dataset_digest": dataset_digest(load_dataset(data)),
        }
        tags = {
            "purpose": "test",
            "experiment": "ablation_study",
            "mlflow.source.git.commit": commit,
            "transect.git_dirty": "true",
            "transect.container_image": _IMAGE,
            "transect.weights_sha256": "none",
            "transect.model_version": f"record-{model}/{outcome.version}",
        }
        known = {f"param {name}": value for name, value in params.items()}
        known |= {f"tag {name}": value for name, value in tags.items()}
        wanted = wanted_items(model, data, _EPOCHS, experiment="configs_tiny", **known)
        items = read_items(connect(settings), outcome.run_id, folder)
        yield Recorded(outcome.run_id, outcome.version, settings, data, wanted, items)


def test_nothing_is_missing(recorded: Recorded) -> None:
    assert missing(recorded.items, recorded.wanted) == []


def test_whatever_is_missing_or_wrong_is_named(recorded: Recorded) -> None:
    assert len(recorded.wanted) > 250
    for name in recorded.wanted:
        left = {item: value for item, value in recorded.items.items() if item != name}
        assert missing(left, recorded.wanted) == [name]
        nothing = type(recorded.items[name])()
        assert missing({**left, name: nothing}, recorded.wanted) == [name]


def test_totals_are_the_sums_of_their_parts(recorded: Recorded) -> None:
    for split in ("train", "val"):
        parts = [f"metric {split}/{name}_loss" for name in ("box", "cls", "dfl", "l1")]
        histories = [recorded.items[part] for part in parts if part in recorded.items]
        assert len(histories) == 3
        sums = [sum(value for _, value in values) for values in zip(*histories, strict=True)]
        assert [value for _, value in recorded.items[f"metric {split}/loss"]] == pytest.approx(sums)


def test_the_table_counts_what_is_there(recorded: Recorded) -> None:
    def cell(column: str, row: str) -> str:
        return str(recorded.items[f"{column} of {row} in dataset_summary.csv"])

    assert (cell("images", "train all"), cell("boxes", "train all")) == ("8", "16")
    assert (cell("images", "val dark"), cell("empty_images", "val dark")) == ("4", "0")
    assert float(cell("box_px_05", "test pale")) <= float(cell("box_px_95", "test pale"))
    assert len({recorded.items[f"data set {split}"] for split in ("train", "val", "test")}) == 3


def test_the_sources_can_be_had_again(recorded: Recorded, tmp_path: Path) -> None:
    client = connect(recorded.settings).client
    patch = Path(client.download_artifacts(recorded.run_id, "source/changes.patch", str(tmp_path)))
    assert "+tags: {purpose: test}" in patch.read_text()
    packages = Path(client.download_artifacts(recorded.run_id, "source/requirements.txt", str(tmp_path)))
    assert f"\ntorch=={recorded.items['tag version.torch']}".partition("+")[0] in packages.read_text()
    recipe = Path(client.download_artifacts(recorded.run_id, "config/recipe.yaml", str(tmp_path)))
    assert "experiment: ablation_study" in recipe.read_text()


def test_mlflow_finds_it_as_the_documentation_says(recorded: Recorded) -> None:
    connect(recorded.settings)  # gives MLflow's own functions the address and the password
    search: dict[str, Any] = {"experiment_names": ["configs_tiny"], "order_by": ["metrics.`val/loss` ASC"]}
    filters = "metrics.`val/loss` < 1000 and tags.experiment = 'ablation_study'"
    found = mlflow.search_runs(filter_string=filters, **search)
    assert recorded.run_id in set(found["run_id"])
    assert list(found["metrics.val/loss"]) == sorted(found["metrics.val/loss"])
    assert set(found["params.lr0"]) == {"0.001667"}
    assert mlflow.search_runs(filter_string="metrics.`val/loss` < 0", **search).empty


def test_version_run_data_and_commit_lead_to_each_other(recorded: Recorded) -> None:
    registry = connect(recorded.settings)
    lineage = run_lineage(registry, find_run(registry, recorded.run_id))
    assert lineage[f"{recorded.settings.model_name} version {recorded.version}"] == "candidate"
    shown = version_details(registry, "candidate")
    assert recorded.run_id in shown["trained by"]
    assert shown["dataset digest"] == lineage["dataset digest"] == dataset_digest(load_dataset(recorded.data))
    commit = recorded.items["tag mlflow.source.git.commit"]
    assert shown["commit"] == lineage["commit"] == f"{commit} with local changes"


def test_an_empty_file_is_delivered_as_one(mlflow_on_postgres: MlflowServer, tmp_path: Path) -> None:
    settings = load_settings({"TRANSECT_HOME": str(tmp_path), **mlflow_on_postgres.environment()}, env_file=None)
    log = RunLog.start(tmp_path / "run", settings, "configs_empty", {}, {}, registry=connect(settings))
    for name, content in (("an empty log.txt", ""), ("after it.txt", "1")):
        (tmp_path / name).write_text(content)
        log.artifact(tmp_path / name, "training")
    undelivered = log.finish("FINISHED", 60)
    assert (undelivered.left, undelivered.rejected) == ((), ())
    client = connect(settings).client
    for name, content in (("an empty log.txt", ""), ("after it.txt", "1")):
        found = client.download_artifacts(log.run_id, f"training/{name}", str(tmp_path / "run"))
        assert Path(found).read_text() == content
