import shutil
from pathlib import Path

import pytest
import yaml

from package_fixtures import make_variant
from toy_model import COLOURS, SIZE, build_toy_package, paint, toy_export, write_toy_onnx
from transect.engine import INT8_FILES, Detector, ValidationCounts, read_manifest, verify_package
from transect.engine.backends.openvino_cpu import import_openvino, openvino_core
from transect.errors import PackageError
from transect.registry import ModelMeasurements, PackageOrigin, build_package


def test_a_package_holds_what_the_contract_names(tmp_path: Path) -> None:
    package = build_toy_package(
        tmp_path / "package",
        measured=ModelMeasurements(
            conf=0.25,
            metrics={"mAP50": 0.9},
            class_metrics={"red": {"mAP50": 0.8}},
            validation_counts=ValidationCounts(images=2, conf=0.25, iou=0.5, counts={"red": ((1, 3, 0, 1),)}),
        ),
        origin=PackageOrigin(
            training_gsd_m=0.02,
            dataset_name="squares",
            dataset_digest="0123",
            git_commit="abc",
            git_dirty=True,
            versions={"numpy": "2"},
            run_id="run",
        ),
    )
    assert sorted(path.name for path in package.iterdir()) == ["MLmodel", "model.onnx", "package.json", "weights.pt"]
    manifest = verify_package(package)
    assert manifest.names == tuple(COLOURS)
    assert manifest.image_size == SIZE
    assert manifest.training_gsd_m == 0.02
    assert manifest.class_metrics == {"red": {"mAP50": 0.8}}
    assert manifest.git_dirty
    assert manifest.validation_counts is not None
    assert manifest.validation_counts.counts == {"red": ((1, 3, 0, 1),)}
    assert set(manifest.files) == {"MLmodel", "model.onnx", "weights.pt"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_package_finds_what_it_should(tmp_path: Path) -> None:
    package = build_toy_package(tmp_path / "package")
    with Detector.open(package, threads=1) as detector:
        found = detector.detect(paint([(1, 2, "blue")])).detections
    assert [(item.class_name, item.box) for item in found] == [("blue", (16.0, 32.0, 32.0, 48.0))]


def test_mlflow_reads_flavour_and_signature_and_no_pickle(tmp_path: Path) -> None:
    package = build_toy_package(tmp_path / "package", origin=PackageOrigin(run_id="0123"))
    content = yaml.safe_load((package / "MLmodel").read_text())
    assert list(content["flavors"]) == ["python_function"]
    assert content["flavors"]["python_function"]["loader_module"] == "transect.registry.pyfunc"
    assert content["run_id"] == "0123"
    assert "detections" in content["signature"]["outputs"]
    assert not list(package.rglob("*.pkl"))


def test_a_model_that_does_not_fit_its_description_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="anchor-free with 2 classes"):
        build_toy_package(tmp_path / "package", names=("red", "green"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package.onnx", "package.pt"]


def test_a_file_that_is_no_model_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"w")
    for source in (weights, tmp_path / "missing.onnx"):
        with pytest.raises(PackageError):
            build_package(tmp_path / "package", toy_export(source, weights), ModelMeasurements(conf=0.2))
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


def test_a_value_out_of_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="conf"):
        build_toy_package(tmp_path / "package", measured=ModelMeasurements(conf=1.5))
    assert not (tmp_path / "package").exists()


def test_an_existing_package_is_not_overwritten(tmp_path: Path) -> None:
    package = build_toy_package(tmp_path / "package")
    before = read_manifest(package)
    with pytest.raises(PackageError, match="exists already"):
        build_toy_package(tmp_path / "package", measured=ModelMeasurements(conf=0.5))
    assert read_manifest(package) == before
    shutil.rmtree(package)
    assert build_toy_package(tmp_path / "package", measured=ModelMeasurements(conf=0.5)) == package


def test_the_toy_network_takes_any_batch(tmp_path: Path) -> None:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(write_toy_onnx(tmp_path / "toy.onnx")))
    (output,) = session.run(None, {"images": np.zeros((3, 3, SIZE, SIZE), np.float32)})
    assert output.shape == (3, 7, 16)


def _int8_beside(onnx: Path) -> None:
    """An IR of the same network, as quantisation would leave it beside the ONNX file."""
    import_openvino().save_model(openvino_core().read_model(onnx), onnx.with_name(INT8_FILES[0]))


@pytest.mark.usefixtures("int8_on_any_cpu")
def test_variants_are_copied_hashed_and_run(tmp_path: Path) -> None:
    _int8_beside(write_toy_onnx(tmp_path / "package.onnx"))
    variants = (make_variant("int8"), make_variant("bf16"))
    package = build_toy_package(tmp_path / "package", measured=ModelMeasurements(conf=0.25, variants=variants))
    manifest = verify_package(package)
    assert manifest.variants == variants
    assert set(manifest.files) == {"MLmodel", "model.onnx", "weights.pt", *INT8_FILES}
    with Detector.open(package, precision="int8", threads=1) as detector:
        found = detector.detect(paint([(1, 2, "blue")]))
    assert found.model.precision == "int8"
    assert [item.class_name for item in found.detections] == ["blue"]


def test_a_variant_without_its_files_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"model\.int8\.xml is missing"):
        build_toy_package(tmp_path / "package", measured=ModelMeasurements(conf=0.25, variants=(make_variant("int8"),)))
    assert not (tmp_path / "package").exists()


@pytest.mark.usefixtures("int8_on_any_cpu")
def test_a_variant_that_does_not_run_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    for name in INT8_FILES:
        (tmp_path / name).write_bytes(b"this is no model")
    with pytest.raises(PackageError, match=r"model\.int8\.xml cannot be loaded by openvino"):
        build_toy_package(tmp_path / "package", measured=ModelMeasurements(conf=0.25, variants=(make_variant("int8"),)))
    assert not (tmp_path / "package").exists()
