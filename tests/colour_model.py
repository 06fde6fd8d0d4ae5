"""A real model package of a few kilobytes whose answers are known: it finds red, green and blue.

The network looks at the four quarters of its input and gives each quarter's mean red, green and
blue as the scores of three classes, with the quarter as the box. So a test can say what must come
out for a picture that it painted, without weights and in milliseconds. Needs only numpy and onnx.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from transect.engine import MODEL_FILE, WEIGHTS_FILE, PackageManifest, hash_files, write_manifest

NAMES = ("red", "green", "blue")
SIZE = 64
CONF = 0.6


def write_colour_package(
    folder: Path, *, names: Sequence[str] = NAMES, size: int = SIZE, run_id: str = "", gain: float = 1.0
) -> Path:
    """Write the package into `folder`, which is made, and return it.

    `gain` multiplies the scores; with nan the hashes hold and the probe inference does not.
    """
    folder.mkdir(parents=True)
    write_colour_onnx(folder / MODEL_FILE, size=size, gain=gain)
    (folder / WEIGHTS_FILE).write_bytes(b"not trained")
    manifest = PackageManifest(
        names=tuple(names),
        image_size=size,
        stride=32,
        training_gsd_m=None,
        head_kind="anchor-free",
        architecture="colours",
        conf=CONF,
        iou=0.5,
        metrics={"map50": 0.5, "map50_95": 0.25},
        run_id=run_id,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        files=hash_files(folder, (MODEL_FILE, WEIGHTS_FILE)),
    )
    write_manifest(folder, manifest)
    return folder


def write_colour_onnx(path: Path, *, size: int = SIZE, gain: float = 1.0) -> None:
    """Write the network: float32 (n, 3, size, size) in, (n, 4 + 3, 4) out, as an anchor-free head gives it."""
    half = size // 2
    centres = [(x, y) for y in (half / 2, 3 * half / 2) for x in (half / 2, 3 * half / 2)]
    boxes = np.array([[x, y, half, half] for x, y in centres], dtype=np.float32).T[None]
    constants: dict[str, NDArray[Any]] = {
        "boxes": boxes,
        "zero": np.zeros(1, np.float32),
        "gain": np.full(1, gain, np.float32),
        "shape": np.array([0, 3, 4], np.int64),
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("AveragePool", ["images"], ["pooled"], kernel_shape=[half, half], strides=[half, half]),
        helper.make_node("Reshape", ["pooled", "shape"], ["means"]),
        helper.make_node("Mul", ["means", "gain"], ["scores"]),
        # One row of zeros for each image of the batch carries the constant boxes through a dynamic batch.
        helper.make_node("Slice", ["means", "first", "second", "second"], ["row"]),
        helper.make_node("Mul", ["row", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "boxes"], ["placed"]),
        helper.make_node("Concat", ["placed", "scores"], ["output0"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["n", 7, 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
