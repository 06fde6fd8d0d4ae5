"""Fixtures that make small real model packages, for the tests of all packages.

`dot_package` detects objects: its handmade network reports each 8 x 8 pixel square (on a grid of
8) of pure red, green or blue as a sheep, goat or cow. `make_package` has the layers of a real
architecture with random weights, so its detections mean nothing; `lively=True` spreads its scores
and boxes over their range, so that they can be compared with those of another program.
`random_package` does so with a handmade network that opens in a hundredth of the time. All are
shared by the whole test session: copy one before changing it.
"""

import os
import shutil
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from transect.engine import (
    INT8_FILES,
    MODEL_FILE,
    PROFILE_FILE,
    VARIANT_FILES,
    WEIGHTS_FILE,
    PackageManifest,
    Precision,
    ValidationProfile,
    Variant,
    hash_files,
    read_manifest,
    write_manifest,
    write_profile,
)

NAMES = ("sheep", "goat", "cow")
DOT = 8


def write_package(folder: Path, **fields: Any) -> Path:
    """Write package.json for the model files in `folder`."""
    defaults: dict[str, Any] = {
        "names": NAMES,
        "image_size": 64,
        "head_kind": "anchor-free",
        "architecture": "test",
        "conf": 0.25,
        "iou": 0.5,
        "metrics": {"mAP50": 0.5, "mAP50_95": 0.25},
        "dataset_digest": "0" * 16,
        "created_at": datetime(2026, 1, 2, tzinfo=UTC),
        "files": hash_files(folder, [MODEL_FILE, WEIGHTS_FILE]),
    }
    manifest = PackageManifest(**(defaults | fields))
    write_manifest(folder, manifest)
    return folder


def with_profile(package: Path, target: Path, profile: ValidationProfile, **fields: Any) -> Path:
    """A copy of `package` with a validation profile; `fields` of package.json change too."""
    shutil.copytree(package, target)
    write_profile(target, profile)
    manifest = read_manifest(package)
    files = hash_files(target, [*manifest.files, PROFILE_FILE])
    write_manifest(target, manifest.model_copy(update={**fields, "files": files}))
    return target


def make_variant(precision: str, *, speedup: float = 2.0, **fields: Any) -> Variant:
    """A variant that passed, as package.json describes it."""
    values: dict[str, Any] = {
        "precision": precision,
        "files": VARIANT_FILES.get(cast(Precision, precision), ()),
        "map50_95_change": -0.001,
        "recall_change": 0.0,
        "count_error": 0.002,
        "images": 96,
        "objects": 500,
        "speedup": speedup,
    }
    return Variant(**(values | fields))


def with_variants(package: Path, target: Path, *variants: Variant) -> Path:
    """A copy of `package` that has these variants; their files must be in `target` or in `package`."""
    shutil.copytree(package, target, dirs_exist_ok=True)
    manifest = read_manifest(package)
    names = [*manifest.files, *(name for variant in variants for name in variant.files)]
    fields = {name: getattr(manifest, name) for name in PackageManifest.model_fields}
    write_manifest(target, PackageManifest(**fields | {"variants": variants, "files": hash_files(target, names)}))
    return target


@pytest.fixture(scope="session")
def int8_package(dot_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`dot_package` with an INT8 variant: the same network as an OpenVINO IR, which needs no calibration to load."""
    from transect.engine.backends.openvino_cpu import import_openvino, openvino_core

    folder = tmp_path_factory.mktemp("int8") / "package"
    import_openvino().save_model(openvino_core().read_model(dot_package / MODEL_FILE), folder / INT8_FILES[0])
    return with_variants(dot_package, folder, make_variant("int8"))


@pytest.fixture
def int8_on_any_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enable INT8 on a CPU whose sums of bytes saturate, for tests of the choice of files."""
    from transect.engine.backends import openvino_cpu

    forbidden = openvino_cpu.forbidden_precisions
    monkeypatch.setattr(openvino_cpu, "has_byte_dot_products", lambda: True)
    monkeypatch.setattr(openvino_cpu, "forbidden_precisions", lambda environ: forbidden(environ) - {"int8"})


@pytest.fixture(scope="session")
def dot_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of image size 64 that finds red, green and blue dots, each with score 1."""
    folder = tmp_path_factory.mktemp("dots")
    onnx.save(_dot_network(64), folder / MODEL_FILE)
    (folder / WEIGHTS_FILE).write_bytes(b"no weights: this network is made by hand")
    return write_package(folder, architecture="dots")


@pytest.fixture(scope="session")
def random_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of image size 64 with 84 anchors, whose scores and boxes vary over the image."""
    folder = tmp_path_factory.mktemp("random")
    onnx.save(_random_network(64), folder / MODEL_FILE)
    (folder / WEIGHTS_FILE).write_bytes(b"no weights: this network is drawn at random")
    return write_package(folder, architecture="random")


@pytest.fixture(scope="session")
def make_package(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_package(architecture, image_size, names, head_kind, lively, **fields of the manifest); all have defaults."""
    made: dict[str, Path] = {}

    def make(
        architecture: str = "yolo11n",
        image_size: int = 64,
        names: tuple[str, ...] = NAMES,
        head_kind: str = "anchor-free",
        lively: bool = False,
        **fields: Any,
    ) -> Path:
        key = repr((architecture, image_size, names, head_kind, lively, sorted(fields.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp(architecture)
            _export(folder, architecture, image_size, names, head_kind, lively)
            made[key] = write_package(
                folder, architecture=architecture, image_size=image_size, names=names, head_kind=head_kind, **fields
            )
        return made[key]

    return make


def _dot_network(size: int) -> onnx.ModelProto:
    cells = size // DOT
    rows, columns = np.indices((cells, cells)).reshape(2, -1)
    side = np.full(cells * cells, DOT)
    boxes = np.stack([(columns + 0.5) * DOT, (rows + 0.5) * DOT, side, side]).astype(np.float32)[None]
    contrast = (2 * np.eye(3) - 1).astype(np.float32).reshape(3, 3, 1, 1)
    constants: dict[str, np.ndarray[Any, Any]] = {
        "contrast": contrast,
        "zero": np.zeros(1, np.float32),
        "one": np.ones(1, np.float32).reshape(()),
        "nought": np.zeros(1, np.float32).reshape(()),
        "boxes": boxes,
        "flat": np.array([0, 3, cells * cells], np.int64),
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("AveragePool", ["images"], ["means"], kernel_shape=[DOT, DOT], strides=[DOT, DOT]),
        helper.make_node("Conv", ["means", "contrast"], ["signal"]),
        helper.make_node("Clip", ["signal", "nought", "one"], ["clipped"]),
        helper.make_node("Reshape", ["clipped", "flat"], ["scores"]),
        helper.make_node("Slice", ["scores", "first", "second", "second"], ["one_score"]),
        helper.make_node("Mul", ["one_score", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "boxes"], ["all_boxes"]),
        helper.make_node("Concat", ["all_boxes", "scores"], ["output0"], axis=1),
    ]
    return _network(nodes, constants, size, cells * cells)


def _random_network(size: int) -> onnx.ModelProto:
    """A random convolution for each stride: boxes lie about their anchors, scores have the logit -2 +- 2."""
    random = np.random.default_rng(0)
    constants: dict[str, np.ndarray[Any, Any]] = {
        "bias": np.array([0, 0, 0, 0, -2, -2, -2], np.float32),
        "flat": np.array([0, 7, -1], np.int64),
    }
    nodes, low, span = [], [], []
    for stride in (8, 16, 32):
        # The sum of 3 stride^2 pixels, evenly from 0 to 1, has the deviation stride / 2 times that of the weights.
        constants[f"kernel{stride}"] = random.normal(0, 4 / stride, (7, 3, stride, stride)).astype(np.float32)
        nodes += [
            helper.make_node("Conv", ["centred", f"kernel{stride}", "bias"], [f"map{stride}"], strides=[stride] * 2),
            helper.make_node("Reshape", [f"map{stride}", "flat"], [f"flat{stride}"]),
        ]
        rows, columns = stride * np.indices((size // stride, size // stride)).reshape(2, -1)
        side, one = np.full_like(rows, stride), np.ones_like(rows)
        low.append(np.stack([columns, rows, side, side, 0 * one, 0 * one, 0 * one]))
        span.append(np.stack([side, side, 3 * side, 3 * side, one, one, one]))
    constants["half"] = np.array(0.5, np.float32)
    constants["low"], constants["span"] = (np.concatenate(part, axis=1).astype(np.float32) for part in (low, span))
    around = [
        helper.make_node("Concat", ["flat8", "flat16", "flat32"], ["logits"], axis=2),
        helper.make_node("Sigmoid", ["logits"], ["share"]),
        helper.make_node("Mul", ["share", "span"], ["spread"]),
        helper.make_node("Add", ["spread", "low"], ["output0"]),
    ]
    centre = helper.make_node("Sub", ["images", "half"], ["centred"])
    return _network([centre, *nodes, *around], constants, size, constants["low"].shape[1])


def _network(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray[Any, Any]], size: int, anchors: int
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "handmade",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 7, anchors])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _export(
    folder: Path, architecture: str, image_size: int, names: tuple[str, ...], head_kind: str, lively: bool
) -> None:
    # Not in the package, which holds nothing but what it lists.
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder.with_name(f"{folder.name}-ultralytics")))
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    with warnings.catch_warnings():
        # Their deprecations are not what our tests are about.
        warnings.simplefilter("ignore")
        import torch
        from ultralytics.models import YOLO
        from ultralytics.nn.tasks import DetectionModel

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # many threads for small layers only wait for one another on a busy machine
        torch.manual_seed(0)
        model = YOLO(f"{architecture}.yaml")
        network = DetectionModel(f"{architecture}.yaml", nc=len(names), verbose=False)
        network.names = dict(enumerate(names))
        if lively:
            _enliven(network, image_size)
        model.model = network  # type: ignore[assignment]  # its class attribute is annotated as a name
        weights = folder / WEIGHTS_FILE
        model.save(weights)
        nms = {"nms": False} if head_kind == "end-to-end" else {}
        exported = YOLO(weights).export(
            format="onnx", imgsz=image_size, dynamic=True, simplify=False, opset=17, verbose=False, **nms
        )
        torch.set_num_threads(threads)
    Path(exported).rename(folder / MODEL_FILE)


def _enliven(network: Any, image_size: int) -> None:
    """Fit the normalisation to a picture, and the head's last layers so that scores and boxes vary over it."""
    import torch
    from PIL import Image
    from ultralytics.utils import ASSETS

    with Image.open(ASSETS / "bus.jpg") as picture:
        pixels = np.array(picture.convert("RGB").resize((image_size, image_size)), dtype=np.float32)
    batch = torch.from_numpy(pixels / 255).permute(2, 0, 1)[None].repeat(2, 1, 1, 1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.9
    head = network.model[-1]
    with torch.no_grad():
        network.train()
        for _ in range(2):
            network(batch)
        network.eval()
        for name in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"):
            for branch in getattr(head, name, None) or ():
                _spread(network, batch, branch[-1], scores=name.endswith("cv3"), bins=head.reg_max)


def _spread(network: Any, batch: Any, layer: Any, *, scores: bool, bins: int) -> None:
    """Scale a last layer to outputs of mean -4 and deviation 2 (scores) or to boxes of some strides."""
    import torch

    seen: list[Any] = []
    torch.nn.init.normal_(layer.weight)
    hook = layer.register_forward_hook(lambda _layer, _input, output: seen.append(output))
    network(batch)
    hook.remove()
    deviation, mean = torch.std_mean(seen[0] - layer.bias[:, None, None], dim=(0, 2, 3))
    wanted = torch.full_like(mean, -4.0 if scores else 2.0)
    if not scores and bins > 1:
        wanted = -0.5 * (torch.arange(len(mean)) % bins)
    scale = (2.0 if scores else 0.7) / deviation
    layer.weight.mul_(scale[:, None, None, None])
    layer.bias.copy_(wanted - scale * mean)
