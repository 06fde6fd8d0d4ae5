"""INT8 by the real NNCF, on a small network with the layers of a real one."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich
from PIL import Image

from tiny_datasets import write_spots_dataset
from transect.datasets import Split, load_dataset
from transect.engine.backends import open_backend
from transect.engine.backends.openvino_cpu import openvino_core
from transect.imagery import decode_image, letterbox
from transect.synth import make_dataset
from transect.training.config.pretrained import STARTER
from transect.training.packaging.int8 import (
    calibration_images,
    calibration_square,
    floating_point_operations,
    quantize_int8,
)
from transect.training.packaging.onnx_export import export_onnx

MAX_PIXELS = 10**7


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    data = write_spots_dataset(tmp_path_factory.mktemp("spots"), images=4, size=64)
    return load_dataset(data).splits["train"]


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter weights as ONNX: a network that learned something, at its own image size."""
    onnx = tmp_path_factory.mktemp("starter") / "model.onnx"
    export_onnx(STARTER, onnx, 320, "anchor-free")
    return onnx


@pytest.mark.usefixtures("int8_on_any_cpu")
def test_an_int8_copy_finds_what_the_network_finds_and_is_the_same_every_time(
    starter: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = load_dataset(make_dataset(tmp_path / "tiles", train=6, val=3, test=3, tile=320))
    images = calibration_images(data.splits["train"], 300)
    assert len(images) == 6
    capfd.readouterr()
    before, stack = logging.getLoggerClass(), _signal_stack()
    # A handler of ours that hears NNCF too must go on hearing what it heard.
    ours = logging.NullHandler(logging.INFO)
    logging.getLogger("nncf").addHandler(ours)
    for name in ("one", "two"):
        quantize_int8(starter, tmp_path / f"{name}.xml", 320, images, max_pixels=MAX_PIXELS)
    assert logging.getLoggerClass() is before
    assert _signal_stack() == stack
    assert ours.level == logging.INFO
    logging.getLogger("nncf").removeHandler(ours)
    assert not rich.get_console().quiet
    out, err = capfd.readouterr()
    assert out == ""
    assert {line.split(":")[0] for line in err.splitlines()} == {"Calibrating INT8"}
    assert (tmp_path / "one.bin").read_bytes() == (tmp_path / "two.bin").read_bytes()
    # A quarter of the bytes, and a little for what stays in floating point.
    assert (tmp_path / "one.bin").stat().st_size < 0.35 * starter.stat().st_size

    reference = open_backend(starter, 320, backend="openvino")
    quantized = open_backend(tmp_path / "one.xml", 320, backend="openvino", precision="int8")
    squares = [calibration_square(path, 0, 320, max_pixels=MAX_PIXELS) for path in images]
    wanted = np.concatenate([reference.infer(square)[0].copy() for square in squares], axis=1)
    found = np.concatenate([quantized.infer(square)[0].copy() for square in squares], axis=1)
    assert not np.array_equal(found, wanted)
    assert np.corrcoef(found[4:].ravel(), wanted[4:].ravel())[0, 1] > 0.95
    sure = wanted[4:].max(axis=0) > 0.3
    assert sure.sum() > 10
    assert np.median(np.abs(found[:4, sure] - wanted[:4, sure])) < 1


class _Interrupting(Sequence[Path]):
    """Pictures, of which the third one's reader presses Ctrl-C."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.read = 0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: Any) -> Any:
        self.read += 1
        if self.read == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return self.paths[number]


def test_ctrl_c_ends_a_calibration_and_later_signals_have_a_stack(starter: Path, split: Split, tmp_path: Path) -> None:
    images = _Interrupting(split.images * 20)
    before = _signal_stack()
    with pytest.raises(KeyboardInterrupt):
        quantize_int8(starter, tmp_path / "one.xml", 320, images, max_pixels=MAX_PIXELS)
    assert images.read < 60
    assert not (tmp_path / "one.xml").exists()
    assert _signal_stack() == before


class _Stack(ctypes.Structure):
    """stack_t of Linux (sigaltstack(2))."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def _signal_stack() -> int | None:
    """Where this thread handles signals."""
    found = _Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
    address: int | None = found.address
    return address


def test_the_first_and_last_layers_and_the_boxes_stay_in_floating_point(make_package: Callable[..., Path]) -> None:
    network = openvino_core().read_model(make_package(lively=True) / "model.onnx")
    names = set(floating_point_operations(network))
    kinds = [node.get_type_name() for node in network.get_ordered_ops() if node.get_friendly_name() in names]
    assert {"Softmax", "Sigmoid", "Concat"} <= set(kinds)
    # The first one, boxes and classes at three scales, and the sum of distribution focal loss.
    assert kinds.count("Convolution") == 1 + 2 * 3 + 1
    learned = [node for node in network.get_ordered_ops() if node.get_type_name() == "Convolution"]
    assert sum(node.get_friendly_name() not in names for node in learned) > 50


def test_images_are_drawn_the_same_every_time_and_not_from_the_front(split: Split) -> None:
    drawn = calibration_images(split, 3)
    assert drawn == calibration_images(split, 3)
    assert len(set(drawn)) == 3
    assert drawn != list(split.images[:3])


def test_calibration_sees_what_the_engine_sees(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    path = tmp_path / "large.png"
    Image.fromarray(pixels).save(path)
    whole = calibration_square(path, 0, 64, max_pixels=MAX_PIXELS)
    np.testing.assert_array_equal(whole, letterbox(decode_image(path, max_pixels=MAX_PIXELS), 64)[0])
    tile = calibration_square(path, 1, 64, max_pixels=MAX_PIXELS)
    np.testing.assert_array_equal(tile, calibration_square(path, 1, 64, max_pixels=MAX_PIXELS))
    # An unscaled window of the picture.
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (64, 64, 3))[:, :, 0]
    corner = np.argwhere((windows[:, :, 0, 0] == tile[0, 0]).all(axis=2))
    assert any((windows[y, x] == tile).all() for y, x in corner)


_PRIVATE = """
import socket, sys

def refuse(*_):
    raise SystemExit("somebody opened a connection")

socket.socket.connect = refuse
socket.getaddrinfo = refuse
from pathlib import Path
from typing import Any
from transect.training.packaging.int8 import quantize_int8

quantize_int8(Path(sys.argv[1]), Path(sys.argv[2]), 64, [Path(sys.argv[3])], max_pixels=10**7)
assert sys.modules["openvino_telemetry"] is None
"""


def test_nncf_reports_to_nobody(make_package: Callable[..., Path], split: Split, tmp_path: Path) -> None:
    arguments = [make_package(lively=True) / "model.onnx", tmp_path / "model.xml", split.images[0]]
    done = subprocess.run([sys.executable, "-c", _PRIVATE, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
