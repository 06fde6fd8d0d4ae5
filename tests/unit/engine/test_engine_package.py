"""The package on disk: what is written is read back, and any change is noticed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from package_fixtures import make_variant
from transect.engine import (
    MANIFEST_FILE,
    MLMODEL_FILE,
    MODEL_FILE,
    Detector,
    PackageManifest,
    hash_files,
    package_sha256,
    read_manifest,
    verify_package,
    write_manifest,
)
from transect.errors import PackageError


@pytest.fixture
def package(dot_package: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dot_package, tmp_path / "package"))


def edit(package: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = package / MANIFEST_FILE
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_is_written_is_read_back(package: Path) -> None:
    manifest = verify_package(package)
    assert manifest.names == ("sheep", "goat", "cow")
    before = package_sha256(package)
    write_manifest(package, manifest)
    assert read_manifest(package) == manifest
    assert package_sha256(package) == before


def test_a_changed_byte_is_noticed(package: Path) -> None:
    path = package / MODEL_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PackageError, match=r"model\.onnx does not have the SHA-256"):
        verify_package(package)
    with pytest.raises(PackageError, match="SHA-256"):
        Detector.open(package)


def test_a_short_file_is_noticed(package: Path) -> None:
    path = package / MODEL_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(PackageError, match=r"model\.onnx has \d+ bytes and should have \d+"):
        verify_package(package)


def test_a_missing_file_is_noticed(package: Path) -> None:
    (package / "weights.pt").unlink()
    with pytest.raises(PackageError, match=r"no regular file weights\.pt"):
        verify_package(package)
    with pytest.raises(PackageError, match=r"no file weights\.pt"):
        hash_files(package, ["weights.pt"])


def test_a_link_out_of_the_package_is_refused(package: Path, tmp_path: Path) -> None:
    moved = (package / "weights.pt").rename(tmp_path / "elsewhere.pt")
    (package / "weights.pt").symlink_to(moved)
    with pytest.raises(PackageError, match="a link, which a package may not contain"):
        verify_package(package)


@pytest.mark.parametrize("name", ["code.py", ".hidden", "MLmodel", "model.onnx.data", "conda.yaml", "requirements.txt"])
def test_a_file_that_is_not_listed_is_refused(package: Path, name: str) -> None:
    (package / name).write_text("loader_module: evil\n")
    with pytest.raises(PackageError, match=rf"{name} is not listed in package\.json"):
        verify_package(package)
    with pytest.raises(PackageError, match="nothing vouches for it"):
        Detector.open(package)


def _subfolder(package: Path) -> None:
    (package / "code").mkdir()


def _link(package: Path) -> None:
    (package / "code").symlink_to("model.onnx")


def _pipe(package: Path) -> None:
    os.mkfifo(package / "code")


@pytest.mark.parametrize(
    ("plant", "said"), [(_subfolder, "a subfolder"), (_link, "a link"), (_pipe, "not a regular file")]
)
def test_a_package_holds_plain_files_alone(package: Path, plant: Callable[[Path], None], said: str) -> None:
    plant(package)
    with pytest.raises(PackageError, match=f"code is {said}") as caught:
        verify_package(package)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_a_link_or_a_pipe_is_not_read(package: Path, tmp_path: Path) -> None:
    moved = (package / MANIFEST_FILE).rename(tmp_path / "elsewhere.json")
    (package / MANIFEST_FILE).symlink_to(moved)
    with pytest.raises(PackageError, match=r"package\.json is not a regular file"):
        verify_package(package)
    (package / MANIFEST_FILE).unlink()
    os.mkfifo(package / MANIFEST_FILE)
    with pytest.raises(PackageError, match=r"package\.json is not a regular file"):
        read_manifest(package)


def test_a_listed_mlmodel_is_checked_like_every_file(package: Path) -> None:
    (package / MLMODEL_FILE).write_text("flavors: {}\n")
    resealed(package, files=hash_files(package, [*read_manifest(package).files, MLMODEL_FILE]))
    verify_package(package)
    (package / MLMODEL_FILE).write_text("flavors: []\n")
    with pytest.raises(PackageError, match="MLmodel does not have the SHA-256"):
        verify_package(package)


@pytest.mark.parametrize("schema", [1, 2])
def test_packages_from_before_mlmodel_was_listed_stay_usable(package: Path, schema: int) -> None:
    (package / MLMODEL_FILE).write_text("flavors: {}\n")
    edit(as_schema_1(package), lambda content: content.update(schema_version=schema))
    assert verify_package(package).schema_version == 2
    (package / MLMODEL_FILE).unlink()
    (package / MLMODEL_FILE).symlink_to("weights.pt")
    with pytest.raises(PackageError, match="MLmodel is a link"):
        verify_package(package)
    (package / MLMODEL_FILE).unlink()
    (package / "code.py").touch()
    with pytest.raises(PackageError, match=r"code\.py is not listed"):
        verify_package(package)


def test_what_mlflows_client_notes_beside_a_package_does_no_harm(package: Path) -> None:
    """It writes there when it opens a registered version of the embedded store."""
    (package / "registered_model_meta").write_text("model_name: detector\n")
    verify_package(package)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/../../b", "a\\b", "", "./a", "a//b"])
def test_a_path_that_leaves_the_package_is_refused(package: Path, name: str) -> None:
    edit(package, lambda content: content["files"].update({name: content["files"][MODEL_FILE]}))
    with pytest.raises(PackageError, match="not a plain relative file name"):
        read_manifest(package)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(schema_version=4), "schema version 4 and this program reads 1 to 3"),
        (lambda c: c.pop("schema_version"), "schema version None"),
        (lambda c: c.update(names=[]), "names: "),
        (lambda c: c.update(names=["a", "a"]), "class names must be distinct"),
        (lambda c: c.update(image_size=100), "not a multiple of stride 32"),
        (lambda c: c.update(conf=1.5), "conf: "),
        (lambda c: c.update(head_kind="segment"), "head_kind: "),
        (lambda c: c.update(surprise=1), "surprise: "),
        (lambda c: c["files"].pop(MODEL_FILE), r"model\.onnx is missing"),
        (lambda c: c["files"][MODEL_FILE].update(sha256="x"), r"files\.model\.onnx\.sha256"),
        (lambda c: c.pop("created_at"), "created_at: "),
        (lambda c: c["letterbox"].update(pad_value=0), r"letterbox\.pad_value"),
    ],
)
def test_a_bad_manifest_is_one_sentence(package: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    edit(package, change)
    with pytest.raises(PackageError, match=message) as caught:
        read_manifest(package)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00"])
def test_what_is_no_manifest_is_refused(package: Path, text: str) -> None:
    (package / MANIFEST_FILE).write_text(text)
    with pytest.raises(PackageError, match=r"package\.json"):
        read_manifest(package)


def test_an_empty_folder_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="is not a model package"):
        Detector.open(tmp_path)


def resealed(package: Path, **fields: Any) -> Path:
    """Change the manifest and hash the files anew, so that only the model itself can object."""
    manifest = read_manifest(package)
    values = {name: getattr(manifest, name) for name in PackageManifest.model_fields}
    values |= {"files": hash_files(package, manifest.files)} | fields
    write_manifest(package, PackageManifest(**values))
    return package


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_kind": "end-to-end"}, "end-to-end"),
        ({"names": ("one", "two")}, r"has shape \(1, 7, 64\)"),
        ({"image_size": 96}, "1 x 3 x 96 x 96"),
    ],
)
def test_a_model_unlike_its_manifest_is_refused(
    package: Path, backend: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(PackageError, match=message):
        Detector.open(resealed(package, **fields), backend=backend)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("content", [b"", b"this is no model", b"\x08\x07" * 50])
def test_a_file_that_is_no_model_is_refused(package: Path, backend: str, content: bytes) -> None:
    (package / MODEL_FILE).write_bytes(content)
    with pytest.raises(PackageError, match=rf"model\.onnx (cannot be loaded by {backend}|is not a valid ONNX file)"):
        Detector.open(resealed(package), backend=backend)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_model_that_answers_nan_is_refused(package: Path, backend: str) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(package / MODEL_FILE)
    for tensor in model.graph.initializer:
        if tensor.name == "contrast":
            values = numpy_helper.to_array(tensor).copy()
            values[:] = float("nan")
            tensor.CopyFrom(numpy_helper.from_array(values, "contrast"))
    # Clipping would turn NaN into a number on one backend and keep it on the other.
    clip = next(node for node in model.graph.node if node.op_type == "Clip")
    clip.op_type = "Identity"
    del clip.input[1:]
    onnx.save(model, package / MODEL_FILE)
    with pytest.raises(PackageError, match="not finite"):
        Detector.open(resealed(package), backend=backend)


def as_schema_1(package: Path) -> Path:
    """The package as it was written before there were variants."""
    edit(package, lambda content: (content.pop("variants"), content.update(schema_version=1)))
    return package


def test_a_package_of_schema_1_still_loads_and_runs_in_fp32(package: Path) -> None:
    manifest = verify_package(as_schema_1(package))
    assert (manifest.schema_version, manifest.variants, manifest.precisions) == (2, (), ("fp32",))
    with Detector.open(package) as detector:
        assert detector.precision == "fp32"
        # What it was registered with stays its name.
        assert detector.package_sha256 == package_sha256(package)


def test_schema_1_has_no_variants(package: Path) -> None:
    edit(as_schema_1(package), lambda content: content.update(variants=[]))
    with pytest.raises(PackageError, match="schema version 1 has none"):
        read_manifest(package)


def test_variants_are_read_back(int8_package: Path) -> None:
    manifest = verify_package(int8_package)
    assert manifest.precisions == ("fp32", "int8")
    assert manifest.variants == (make_variant("int8"),)
    assert {"model.int8.xml", "model.int8.bin"} < set(manifest.files)


def test_a_changed_byte_of_a_variant_is_noticed(int8_package: Path, tmp_path: Path) -> None:
    package = Path(shutil.copytree(int8_package, tmp_path / "package"))
    path = package / "model.int8.bin"
    path.write_bytes(b"\x01" + path.read_bytes()[1:])
    with pytest.raises(PackageError, match=r"model\.int8\.bin does not have the SHA-256"):
        Detector.open(package, precision="fp32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["files"].pop("model.int8.bin"), r"int8 needs model\.int8\.bin, which is not listed"),
        (lambda c: c["variants"].append(c["variants"][0]), "two variants have the same precision"),
        (lambda c: c["variants"][0].update(files=[]), "variant of int8 has the files"),
        (lambda c: c["variants"][0].update(files=["model.onnx"]), "variant of int8 has the files"),
        (lambda c: c["variants"][0].update(precision="fp32"), r"variants\.0\.precision"),
        (lambda c: c["variants"][0].update(precision="bf16"), r"variant of bf16 has the files \[\]"),
        (lambda c: c["variants"][0].update(speedup=0), r"variants\.0\.speedup"),
        (lambda c: c["variants"][0].pop("count_error"), r"variants\.0\.count_error"),
        (lambda c: c["variants"][0].update(surprise=1), r"variants\.0\.surprise"),
    ],
)
def test_a_variant_that_is_not_whole_is_refused(
    int8_package: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    package = Path(shutil.copytree(int8_package, tmp_path / "package"))
    edit(package, change)
    with pytest.raises(PackageError, match=message):
        read_manifest(package)
