"""What somebody puts into the artifact store beside or instead of a package's files is neither run nor opened."""

import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import onnx
import pandas as pd
import pytest
import yaml

import transect
from toy_model import build_toy_package, paint
from transect.api import open_detector
from transect.datasets import dataset_digest, load_dataset
from transect.engine import MODEL_FILE, Detector, hash_files, read_manifest, tensorrt_folder, write_manifest
from transect.errors import NotRegisteredError, PackageError, TransectError
from transect.registry import PackageOrigin, Registry, promote

with warnings.catch_warnings():
    # MLflow warns about its own type hints when this part of it is imported.
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    import mlflow.pyfunc

_CODE = "import os\nopen(os.environ['MARKER'], 'w').close()\nfrom transect.registry.pyfunc import _load_pyfunc\n"


@pytest.fixture
def mine(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The registry that `transect.open_model` and MLflow's own client find too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRANSECT_HOME", str(registry.settings.home))
    monkeypatch.setenv("TRANSECT_THREADS", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", registry.uri)
    monkeypatch.setenv("MARKER", str(tmp_path / "ran"))
    # MLflow puts a model's code folder there.
    monkeypatch.setattr(sys, "path", list(sys.path))
    return registry


def _register(registry: Registry, package: Path, **tags: str) -> Path:
    """Register the package; gives where the store keeps its files."""
    run_id = registry.client.create_run(registry.experiment("test")).info.run_id
    registry.register(package, run_id, tags=tags)
    return Path(unquote(urlsplit(registry.resolve("candidate").source).path))


def _as_schema_2(package: Path) -> Path:
    """The package as it was made before MLmodel was listed."""
    path = package / "package.json"
    content = json.loads(path.read_text())
    del content["files"]["MLmodel"]
    path.write_text(json.dumps(content | {"schema_version": 2}))
    return package


def _run_code(stored: Path) -> None:
    """Let MLmodel import a module that lies beside it, as MLflow's format allows."""
    content = yaml.safe_load((stored / "MLmodel").read_text())
    content["flavors"]["python_function"] |= {"loader_module": "planted_loader", "code": "code"}
    (stored / "MLmodel").write_text(yaml.safe_dump(content))
    (stored / "code").mkdir()
    (stored / "code" / "planted_loader.py").write_text(_CODE)


def _change_mlmodel(stored: Path) -> None:
    path = stored / "MLmodel"
    path.write_text(path.read_text().replace("transect.registry.pyfunc", "transect.registry.other!"))


def _add_file(stored: Path) -> None:
    (stored / "sitecustomize.py").write_text(_CODE)


def _add_link(stored: Path) -> None:
    shutil.move(stored / "weights.pt", stored.parent / "weights.pt")
    (stored / "weights.pt").symlink_to(stored.parent / "weights.pt")
    (stored / "second.pt").symlink_to(stored.parent / "weights.pt")


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (_run_code, "code is a subfolder"),
        (_change_mlmodel, "MLmodel does not have the SHA-256"),
        (_add_file, r"sitecustomize\.py is not listed"),
        # What MLflow downloads of a link is a copy of the file.
        (_add_link, r"second\.pt is not listed"),
    ],
)
def test_an_altered_version_is_refused_by_everyone_who_opens_one(
    mine: Registry, data: Path, tmp_path: Path, alter: Callable[[Path], None], said: str
) -> None:
    known = {"transect.data": str(data), "transect.dataset_digest": dataset_digest(load_dataset(data))}
    stored = _register(mine, build_toy_package(tmp_path / "package"), **known)
    alter(stored)
    for opening in (
        lambda: mine.fetch(mine.resolve("candidate")),  # the detector
        lambda: open_detector("models:/detector@candidate", mine.settings),  # census, detect
        lambda: transect.open_model("models:/detector@candidate"),
        lambda: promote(mine, actor="ada"),  # the gate
    ):
        with pytest.raises(TransectError, match=said) as caught:
            opening()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert list(mine.settings.cache_dir.rglob("model.onnx")) == []
    with pytest.raises(NotRegisteredError):
        mine.resolve("production")


def test_the_attack_works_without_verification(mine: Registry, tmp_path: Path) -> None:
    """Why MLflow's own client is no safe way to open what another may have written: it obeys MLmodel first."""
    _run_code(_register(mine, build_toy_package(tmp_path / "package")))
    with pytest.raises(PackageError):
        mlflow.pyfunc.load_model("models:/detector@candidate")
    assert (tmp_path / "ran").exists()


def test_a_model_with_tensors_elsewhere_is_not_registered(registry: Registry, tmp_path: Path) -> None:
    package = build_toy_package(tmp_path / "package")
    model = onnx.load(package / MODEL_FILE)
    onnx.save(model, package / MODEL_FILE, save_as_external_data=True, location="more.bin", size_threshold=0)
    manifest = read_manifest(package)
    files = hash_files(package, [*manifest.files, "more.bin"])
    write_manifest(package, manifest.model_copy(update={"files": files}))
    with pytest.raises(PackageError, match="keeps tensors in another file"):
        _register(registry, package)
    assert registry.list_versions() == []


def test_open_model_finds_what_is_registered(mine: Registry, tmp_path: Path) -> None:
    _register(mine, build_toy_package(tmp_path / "package", origin=PackageOrigin(run_id="0123")))
    mine.client.set_registered_model_alias("detector", "production", "1")
    for reference in ("", "models:/detector@production", "models:/detector/1", "candidate"):
        with transect.open_model(reference) as detector:
            found = detector.detect(paint([(1, 2, "blue")])).detections
        assert [item.class_name for item in found] == ["blue"]
        assert (detector.ref.name, detector.ref.version) == ("detector", "1")
    with pytest.raises(NotRegisteredError, match="no version 2"):
        transect.open_model("2")


def test_mlflows_own_client_still_opens_a_version_and_leaves_it_usable(mine: Registry, tmp_path: Path) -> None:
    stored = _register(mine, build_toy_package(tmp_path / "package"))
    model = mlflow.pyfunc.load_model("models:/detector@candidate")
    (record,) = model.predict(pd.DataFrame({"image": [paint([(1, 2, "blue")])]}))
    assert [item["class_name"] for item in record["detections"]] == ["blue"]
    # In the embedded store it writes beside the package; the cache takes over what package.json lists alone.
    assert (stored / "registered_model_meta").is_file()
    folder = mine.fetch(mine.resolve("candidate"))
    assert {path.name for path in folder.iterdir()} == {*read_manifest(folder).files, "package.json"}
    Detector.open(stored, threads=1).close()


def test_a_version_from_before_mlmodel_was_listed_stays_usable_and_its_mlmodel_unused(
    mine: Registry, tmp_path: Path
) -> None:
    stored = _register(mine, _as_schema_2(build_toy_package(tmp_path / "package")))
    with transect.open_model("candidate") as detector:
        assert detector.manifest.schema_version == 2
    folder = mine.fetch(mine.resolve("candidate"))
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "weights.pt", "package.json"}
    # Of a version that was in the cache already, MLmodel lies there too.
    shutil.copy(stored / "MLmodel", folder)
    assert mine.fetch(mine.resolve("candidate")) == folder
    shutil.rmtree(folder)
    _change_mlmodel(stored)
    transect.open_model("candidate").close()
    _run_code(stored)
    shutil.rmtree(folder)
    with pytest.raises(PackageError, match="code is a subfolder"):
        transect.open_model("candidate")
    assert not (tmp_path / "ran").exists()


def test_what_tensorrt_builds_lies_beside_the_package_and_goes_with_it(registry: Registry, tmp_path: Path) -> None:
    _register(registry, build_toy_package(tmp_path / "one"))
    _register(registry, build_toy_package(tmp_path / "two", shift=1.0))
    old = registry.fetch(registry.resolve("1"))
    engines = tensorrt_folder(old)
    assert engines.parent == old.parent
    (engines / "0123").mkdir(parents=True)
    # Where it was kept until then, in a version that was fetched by an older release.
    (old / "tensorrt").mkdir()
    assert registry.fetch(registry.resolve("1")) == old
    assert not (old / "tensorrt").exists()
    os.utime(old, (1000, 1000))
    registry.fetch(registry.resolve("2"))
    assert registry.cache.prune("detector", 1) == [old]
    assert not engines.exists()
