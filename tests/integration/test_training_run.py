"""A training from data.yaml to a registered, promoted version, with the real Ultralytics and a real store."""

import hashlib
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cli_process import start
from tiny_datasets import write_spots_dataset
from transect.datasets import dataset_digest, load_dataset
from transect.engine import Detector
from transect.engine.backends import native_precisions, open_backend
from transect.errors import DatasetError, InputError, RegistryError
from transect.imagery import decode_image, letterbox
from transect.registry import CensusBasis, GateConfig, LossLimits, Registry, connect, promote, version_details
from transect.settings import Settings, load_settings
from transect.training import TrainOutcome, TrainRequest, train

# A model of one epoch finds nothing, so that no variant of it loses anything.
_RECIPE = (
    "train: {epochs: 1, imgsz: 64, batch: 4, optimizer: AdamW, lr0: 0.002, plots: false}\n"
    "precision: {calibration_images: 4}\ntags: {purpose: test}\n"
)

_OPEN_GATE = GateConfig(
    min_map50=0.0,
    min_gain=-1.0,
    significant_gain=False,
    max_class_loss=LossLimits(map50_95=None, recall=None, count_error=None),
    max_latency_ratio=None,
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    return load_settings(
        {"TRANSECT_HOME": str(home), "TRANSECT_PRETRAINED": "none", "TRANSECT_THREADS": "2"}, env_file=None
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spots_dataset(tmp_path_factory.mktemp("spots"), images=4, size=64)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "configs" / "tiny.yaml"
    path.parent.mkdir()
    path.write_text(_RECIPE)
    return path


def _content(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("model", "head"), [("yolov8n", "anchor-free"), ("yolo11n", "anchor-free"), ("yolo26n", "end-to-end")]
)
def test_the_whole_way(model: str, head: str, recipe: Path, data: Path, settings: Settings) -> None:
    before = _content(data.parent)
    plots = "plots=true" if model == "yolo11n" else "plots=false"
    ground = _empty_ground(recipe.parent / "ground")
    outcome = train(TrainRequest(model, recipe, data, (plots, f"head={head}", "background=ground")), settings)
    # The user's own files are as they were: no caches, no repaired pictures.
    assert _content(data.parent) == before

    registry = connect(settings)
    _check_run(registry, outcome.run_id, data, plots="true" in plots)
    resolved = registry.resolve("@candidate")
    assert (resolved.name, resolved.version, resolved.run_id) == ("detector", outcome.version, outcome.run_id)
    assert resolved.tags["transect.data"] == str(data)
    assert resolved.tags["transect.dataset_digest"] == dataset_digest(load_dataset(data))
    with Detector.open(registry.fetch(resolved), threads=2) as detector:
        manifest = detector.manifest
        assert (manifest.architecture, manifest.head_kind, manifest.image_size) == (model, head, 64)
        assert manifest.names == ("pale", "dark")
        assert manifest.run_id == outcome.run_id
        assert manifest.metrics["mAP50"] == outcome.metrics["mAP50"]
        assert set(manifest.class_metrics) == {"pale", "dark"}
        counts = manifest.validation_counts
        assert counts is not None
        assert (counts.conf, counts.iou, set(counts.counts)) == (manifest.conf, manifest.iou, {"pale", "dark"})
        alarms = manifest.background_counts
        assert alarms is not None
        assert (alarms.conf, alarms.iou, set(alarms.counts)) == (manifest.conf, manifest.iou, {"pale", "dark"})
        # The one is as large as the input, the other is cut into tiles of its size.
        assert sorted(alarms.mpx) == pytest.approx([64 * 64 / 1e6, 200 * 100 / 1e6])
        image = decode_image(next((data.parent / "images" / "test").glob("*.png")), max_pixels=10**6)
        assert detector.detect(image).failure is None
    _check_variants(registry, outcome, image)
    run = registry.client.get_run(outcome.run_id).data
    assert (run.params["background"], run.params["background_images"]) == ("ground", str(len(ground)))
    assert run.metrics["background/mpx"] == pytest.approx(alarms.area_mpx)
    assert run.metrics["background/class/pale/alarms"] == alarms.alarms(["pale"]).sum()

    verdict = promote(registry, gate=_OPEN_GATE, actor="test", reason="test")
    assert verdict.promoted
    assert registry.resolve("@production").version == outcome.version


def _empty_ground(folder: Path) -> list[Path]:
    folder.mkdir()
    generator = np.random.default_rng(5)
    paths = [folder / name for name in ("small.png", "large.png")]
    for path, (width, height) in zip(paths, ((64, 64), (200, 100)), strict=True):
        Image.fromarray(generator.integers(90, 130, (height, width, 3), np.uint8)).save(path)
    return paths


def _check_variants(registry: Registry, outcome: TrainOutcome, image: NDArray[np.uint8]) -> None:
    """Each variant that this machine can run was really measured, and the INT8 files in the package run."""
    resolved = registry.resolve("@candidate")
    package = registry.fetch(resolved)
    variants = {variant.precision: variant for variant in registry.manifest(resolved).variants}
    native = native_precisions("openvino")
    assert set(variants) == native - {"fp32"}
    metrics = registry.client.get_run(outcome.run_id).data.metrics
    for precision, variant in variants.items():
        assert (variant.images, variant.objects) == (4, 8)
        assert metrics[f"{precision}/speedup"] == pytest.approx(variant.speedup)
        assert metrics[f"{precision}/mAP50-95_change"] == pytest.approx(variant.map50_95_change)
        assert f"{precision} is in the package" in " ".join(outcome.variants)
        assert variant.summary in version_details(registry, "candidate")[f"variant {precision}"]
    assert set(resolved.tags["transect.precisions"].split(", ")) == {"fp32", *variants}
    assert registry.list_versions()[0].precisions == resolved.tags["transect.precisions"]
    assert registry.list_versions()[0].census_basis == str(CensusBasis.of(registry.manifest(resolved)))
    if "int8" in variants:
        square = letterbox(image, 64)[0]
        reference = open_backend(package / "model.onnx", 64, backend="openvino").infer(square)
        found = open_backend(package / "model.int8.xml", 64, backend="openvino", precision="int8").infer(square)
        assert found.shape == reference.shape
        assert not np.array_equal(found, reference)
        with Detector.open(package, precision="int8", threads=2) as detector:
            assert detector.detect(image).model.precision == "int8"


def _check_run(registry: Registry, run_id: str, data: Path, *, plots: bool) -> None:
    client = registry.client
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "configs_tiny"
    assert {"train/loss", "train/box_loss", "val/loss", "lr/pg0", "metrics/mAP50", "metrics/mAP50-95"} <= set(
        run.data.metrics
    )
    assert {"metrics/precision", "metrics/recall", "best/mAP50", "test/mAP50", "test/class/dark/instances"} <= set(
        run.data.metrics
    )
    assert (run.data.params["lr0"], run.data.params["optimizer_used"]) == ("0.002", "AdamW")
    assert (run.data.params["epochs"], run.data.params["data"]) == ("1", str(data))
    assert run.data.tags["purpose"] == "test"
    assert {"mlflow.source.git.commit", "transect.git_dirty", "version.torch", "transect.host"} <= set(run.data.tags)
    assert run.inputs is not None
    assert {given.tags[0].value for given in run.inputs.dataset_inputs} == {"train", "val", "test"}
    files = set()
    for folder in (None, "config", "training", "plots", "model"):
        files |= {file.path for file in client.list_artifacts(run_id, folder)}
    assert {"dataset_summary.csv", "config/recipe.yaml", "training/results.csv", "model/model.onnx"} <= files
    if plots:
        assert {"plots/results.png", "plots/confusion_matrix.png", "plots/BoxPR_curve.png"} <= files


def _traces(settings: Settings) -> tuple[int, int]:
    """Runs and versions in the store."""
    client = connect(settings).client
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return len(client.search_runs(experiments)), len(client.search_model_versions())


def _spoil(data: Path, name: str, content: bytes) -> None:
    (data.parent / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data.yaml", b"train: [", "YAML"),
        ("data.yaml", b"train: images/train\nval: gone\nnames: [a, b]\n", "does not exist"),
        ("labels/train/0.txt", b"7 0.5 0.5 0.1 0.1\n", "0.txt, line 1: class 7 is out of range"),
        ("images/val/0.png", b"", "0.png is empty (0 bytes)"),
    ],
)
def test_bad_data_is_refused_before_anything_exists(
    name: str, content: bytes, said: str, recipe: Path, tmp_path: Path
) -> None:
    data = write_spots_dataset(tmp_path / "spots", images=2, size=64)
    _spoil(data, name, content)
    home = tmp_path / "home"
    with pytest.raises(DatasetError) as caught:
        train(TrainRequest("yolo11n", recipe, data), load_settings({"TRANSECT_HOME": str(home)}, env_file=None))
    assert said in str(caught.value)
    # Ultralytics may have been given a folder there for its settings.
    assert not (home / "train").exists()
    assert not list(home.rglob("*.db"))


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (TrainRequest("yolo99n"), "neither a file nor an Ultralytics architecture"),
        (TrainRequest("yolo11n-seg"), "segmentation"),
        (TrainRequest("yolo11n", overrides=("epoch=3",)), "did you mean epochs?"),
        (TrainRequest("yolo11n", overrides=("head=end-to-end",)), "does not fit yolo11n"),
        (TrainRequest("yolo11n", overrides=("epochs=many",)), "Ultralytics refuses"),
        (TrainRequest("yolo11n", overrides=("optimizer=Magic",)), "optimizer='Magic'"),
        (TrainRequest("yolo11n", config=Path("gone.yaml")), "gone.yaml cannot be read"),
    ],
    ids=lambda value: value.model if isinstance(value, TrainRequest) else "",
)
def test_a_bad_request_is_refused_before_anything_exists(
    request_: TrainRequest, said: str, recipe: Path, data: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    config = request_.config if request_.config.name == "gone.yaml" else recipe
    with pytest.raises(InputError) as caught:
        train(
            TrainRequest(request_.model, config, data, request_.overrides),
            load_settings({"TRANSECT_HOME": str(home)}, env_file=None),
        )
    assert said in str(caught.value)
    assert not (home / "mlflow.db").exists()
    assert not (home / "train").exists()


def test_a_backend_that_could_not_evaluate_is_refused_before_training(recipe: Path, data: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = {"TRANSECT_HOME": str(home), "TRANSECT_BACKEND": "cuda"}
    with pytest.raises(InputError, match="Backend cuda needs the ONNX Runtime that is built for NVIDIA GPUs"):
        train(TrainRequest("yolo11n", recipe, data), load_settings(environ, env_file=None))
    assert not (home / "train").exists()


def test_no_data_is_refused(recipe: Path, settings: Settings) -> None:
    with pytest.raises(InputError, match="names no data"):
        train(TrainRequest("yolo11n", recipe), settings)


def test_an_address_that_is_none_of_mlflow_is_refused_before_training(recipe: Path, data: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {"TRANSECT_HOME": str(home), "TRANSECT_PRETRAINED": "none", "MLFLOW_TRACKING_URI": "ftp://127.0.0.1"}
    with pytest.raises(RegistryError, match=r"ftp://127\.0\.0\.1 is not usable"):
        train(TrainRequest("yolo11n", recipe, data), load_settings(environment, env_file=None))
    assert not (home / "train").exists()


def test_a_truncated_picture_is_refused(recipe: Path, tmp_path: Path, settings: Settings) -> None:
    data = write_spots_dataset(tmp_path / "spots", images=2, size=64)
    picture = data.parent / "images" / "train" / "1.png"
    picture.write_bytes(picture.read_bytes()[:-100])
    before = _traces(settings)
    with pytest.raises(DatasetError, match=r"1\.png is truncated"):
        train(TrainRequest("yolo11n", recipe, data), settings)
    assert _traces(settings) == before


def test_a_stopped_training_is_killed_in_the_log_and_registers_nothing(
    recipe: Path, data: Path, settings: Settings
) -> None:
    _, versions = _traces(settings)
    known = set((settings.home / "train").glob("*"))
    environment = {
        **os.environ,
        "TRANSECT_HOME": str(settings.home),
        "TRANSECT_PRETRAINED": "none",
        "OMP_NUM_THREADS": "2",
    }
    arguments = ["--model", "yolo11n", "--config", str(recipe), "--data", str(data), "epochs=5000", "patience=0"]
    with start("train", *arguments, env=environment) as process:
        deadline = time.monotonic() + 300
        while not _trained_two_epochs(settings, known) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 130
    client = connect(settings).client
    experiment = client.get_experiment_by_name("configs_tiny")
    assert experiment is not None
    run = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]
    assert run.info.status == "KILLED"
    assert run.data.metrics["train/loss"] > 0
    assert _traces(settings)[1] == versions


def _trained_two_epochs(settings: Settings, known: set[Path]) -> bool:
    """Whether a new run has two lines of results; then the first epoch has been logged."""
    tables = (folder / "results.csv" for folder in set((settings.home / "train").glob("*")) - known)
    return any(table.exists() and len(table.read_text().splitlines()) > 2 for table in tables)
