"""The fp16 copy of a model: nearly equal outputs, and boxes without fp16's rounding."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image
from ultralytics.utils import ASSETS

from transect.training.packaging.half_precision import convert_to_fp16, split_off_decoding

SIZE = 640


def answers(model: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"images": images})
    assert output.dtype == np.float32
    return np.asarray(output)


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    with Image.open(ASSETS / "bus.jpg") as picture:
        pixels = np.array(picture.convert("RGB").resize((SIZE, SIZE)), np.float32) / 255
    planes = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(np.stack([planes, planes[:, ::-1]]))


@pytest.mark.parametrize(("architecture", "head_kind"), [("yolo11n", "anchor-free"), ("yolo26n", "end-to-end")])
def test_it_answers_nearly_the_same_in_half_the_bytes(
    make_package: Callable[..., Path], tmp_path: Path, images: NDArray[np.float32], architecture: str, head_kind: str
) -> None:
    source = make_package(architecture, image_size=SIZE, head_kind=head_kind, lively=True) / "model.onnx"
    target = tmp_path / "model.fp16.onnx"
    convert_to_fp16(source, target)
    assert target.stat().st_size < 0.6 * source.stat().st_size
    onnx.checker.check_model(str(target))
    assert set(tmp_path.iterdir()) == {target}
    exact, half = answers(source, images), answers(target, images)
    assert not np.array_equal(exact, half)
    if head_kind == "end-to-end":
        # Its rows are sorted by a score that is rounded.
        assert np.abs(exact[:, :20, 4] - half[:, :20, 4]).max() < 0.02
        boxes = half[:, :, :4]
    else:
        seen = exact[:, 4:].max(axis=1) > 0.05
        assert seen.sum() > 50
        scores, places = np.abs(exact[:, 4:] - half[:, 4:]), np.abs(exact[:, :4] - half[:, :4])
        assert scores.max() < 0.02
        assert places.transpose(0, 2, 1)[seen].max() < 1
        boxes = half[:, :4]
    large = boxes[boxes > 512]
    # fp16 would hold these as multiples of a half, all of them.
    assert np.mean(large * 2 % 1 == 0) < 0.1


def test_what_decodes_has_no_learned_layer(make_package: Callable[..., Path]) -> None:
    model = onnx.load(make_package("yolo11n") / "model.onnx")
    network, decoding = split_off_decoding(model)
    assert len(network.graph.node) + len(decoding.graph.node) == len(model.graph.node)
    # The sum over the bins of distribution focal loss is a convolution with the weights 0, 1, 2, ...
    assert [node.op_type for node in decoding.graph.node].count("Conv") == 1
    assert "Softmax" in {node.op_type for node in decoding.graph.node}
    assert {value.name for value in network.graph.output} == {value.name for value in decoding.graph.input}


def test_one_class_is_a_learned_layer_too(make_package: Callable[..., Path], tmp_path: Path) -> None:
    source = make_package("yolo11n", names=("elk",)) / "model.onnx"
    _, decoding = split_off_decoding(onnx.load(source))
    assert [node.op_type for node in decoding.graph.node].count("Conv") == 1
    convert_to_fp16(source, tmp_path / "half.onnx")
    assert answers(tmp_path / "half.onnx", np.zeros((1, 3, 64, 64), np.float32)).shape == (1, 5, 84)
