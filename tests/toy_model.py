"""A model without training, and images for it: squares of red, green and blue.

The model is a real ONNX network with a YOLO head of 16 boxes over a 64 px image; it finds a square
of 16 px in each cell of a 4 x 4 grid by its colour. With `shift` its boxes are beside the squares,
which makes a worse model for comparisons; it does not detect the colours in `blind`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from transect.registry import ExportedModel, ModelMeasurements, PackageOrigin, build_package

COLOURS = {"red": (255, 20, 20), "green": (20, 255, 20), "blue": (20, 20, 255)}
SIZE = 64
CELL = 16
TOY_MEASUREMENTS = ModelMeasurements(conf=0.25)


def write_toy_onnx(path: Path, shift: float = 0.0, blind: Sequence[str] = ()) -> Path:
    """Write the network; its boxes are `shift` pixels to the right of the objects."""
    kernel = np.full((3, 3, CELL, CELL), -0.5 / CELL**2, np.float32)
    kernel[np.arange(3), np.arange(3)] = 1 / CELL**2
    kernel[[list(COLOURS).index(colour) for colour in blind]] = 0
    middles = np.arange(CELL / 2, SIZE, CELL, dtype=np.float32)
    y, x = np.meshgrid(middles, middles, indexing="ij")
    side = np.full(16, CELL, np.float32)
    boxes = np.stack([x.ravel() + shift, y.ravel(), side, side])[None].astype(np.float32)
    constants = {
        "kernel": kernel,
        "boxes": boxes,
        "low": np.float32(0),
        "high": np.float32(1),
        "rows": np.array([0, 3, 16], np.int64),
        "axis": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["colour"], strides=[CELL, CELL]),
        helper.make_node("Clip", ["colour", "low", "high"], ["clipped"]),
        helper.make_node("Reshape", ["clipped", "rows"], ["scores"]),
        # Zero times something of the batch's size carries the batch into the constant boxes.
        helper.make_node("ReduceSum", ["scores", "axis"], ["total"]),
        helper.make_node("Mul", ["total", "low"], ["zero"]),
        helper.make_node("Add", ["zero", "boxes"], ["placed"]),
        helper.make_node("Concat", ["placed", "scores"], ["output0"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "squares",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 7, 16])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def build_toy_package(
    out: Path,
    *,
    shift: float = 0.0,
    blind: Sequence[str] = (),
    weights: bytes = b"weights",
    names: Sequence[str] = tuple(COLOURS),
    measured: ModelMeasurements = TOY_MEASUREMENTS,
    origin: PackageOrigin | None = None,
) -> Path:
    """A model package around the network."""
    onnx_path = write_toy_onnx(out.with_name(f"{out.name}.onnx"), shift, blind)
    weights_path = out.with_name(f"{out.name}.pt")
    weights_path.write_bytes(weights)
    return build_package(out, toy_export(onnx_path, weights_path, names), measured, origin)


def toy_export(onnx_path: Path, weights: Path, names: Sequence[str] = tuple(COLOURS)) -> ExportedModel:
    """The network as an export leaves it."""
    return ExportedModel(
        onnx=onnx_path,
        weights=weights,
        names=tuple(names),
        image_size=SIZE,
        stride=CELL,
        head_kind="anchor-free",
        architecture="toy",
        iou=0.5,
    )


def paint(cells: Sequence[tuple[int, int, str]], size: int = SIZE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A grey RGB image of (size, size, 3) with a square of the named colour in each (column, row)."""
    image = np.full((size, size, 3), 60, np.uint8)
    for column, row, colour in cells:
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = COLOURS[colour]
    return image


def write_toy_dataset(root: Path, *, seed: int = 0, images: int = 8, names: Sequence[str] = tuple(COLOURS)) -> Path:
    """A training set of such images in Ultralytics' format; returns its data.yaml."""
    random = np.random.default_rng(seed)
    for split in ("train", "val", "test"):
        for number in range(images):
            places = random.choice(16, 3, replace=False)
            cells = [(int(place % 4), int(place // 4), colour) for place, colour in zip(places, COLOURS, strict=True)]
            image = root / split / "images" / f"{number}.png"
            label = root / split / "labels" / f"{number}.txt"
            for path in (image, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(paint(cells)).save(image)
            rows = [
                f"{list(COLOURS).index(colour)} {(column + 0.5) / 4} {(row + 0.5) / 4} 0.25 0.25"
                for column, row, colour in cells
            ]
            label.write_text("\n".join(rows) + "\n")
    data = root / "data.yaml"
    content = {"path": str(root), "train": "train/images", "val": "val/images", "test": "test/images"}
    data.write_text(yaml.safe_dump({**content, "names": list(names)}))
    return data
