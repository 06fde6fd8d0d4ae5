"""The half-precision check compares the model itself, without files and without a network."""

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ultralytics.engine import trainer as ultralytics_trainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import SETTINGS

from transect.training.trainer import amp, dataset


@pytest.fixture(scope="module")
def model() -> Any:
    """A network in training mode; the check leaves it as it was."""
    torch.manual_seed(0)
    return DetectionModel("yolo11n.yaml", verbose=False)


class _OnGpu:
    """A model that reports a GPU as its device, and computes on the CPU."""

    def __init__(self, model: Any) -> None:
        self.network = model

    def parameters(self) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(device=torch.device("cuda", 0))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of the GPU that is there, to be changed."""
    names = ["NVIDIA A100-SXM4-80GB"]
    real = amp.half_precision_difference
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: names[0])
    # The arithmetic of a GPU cannot be had; the CPU rounds more coarsely.
    monkeypatch.setattr(amp, "half_precision_difference", lambda model, *_: real(model.network, "cpu", torch.bfloat16))
    return names


def test_training_uses_our_check() -> None:
    assert vars(ultralytics_trainer)["check_amp"] is amp.check_amp
    assert vars(dataset)["check_amp"] is amp.check_amp


def test_a_gpu_that_computes_alike_trains_in_half_precision_without_files_or_network(
    model: Any, gpu: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o500)
    assert vars(ultralytics_trainer)["check_amp"](_OnGpu(model)) is True
    assert not list(tmp_path.iterdir())


def test_a_model_comes_back_as_it_was(model: Any) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = dict(model.model[-1]._forward_pre_hooks)
    assert model.training
    assert 0 < amp.half_precision_difference(model, "cpu", torch.bfloat16) < 0.03
    assert model.training
    assert model.model[-1]._forward_pre_hooks == hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    amp.half_precision_difference(model, "cpu", torch.bfloat16)
    assert not model.training
    model.train()


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo26n.yaml"])
def test_rounding_is_no_difference_whatever_the_head(name: str) -> None:
    assert amp.half_precision_difference(DetectionModel(name, verbose=False), "cpu", torch.bfloat16) < 0.03


@pytest.mark.parametrize("fault", ["nan", "zero"])
def test_a_gpu_that_computes_otherwise_trains_in_float32(
    model: Any, gpu: list[str], fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = torch.nn.functional.silu

    def faulty(value: torch.Tensor, **options: Any) -> torch.Tensor:
        if not torch.is_autocast_enabled("cpu"):
            return real(value, **options)
        return torch.full_like(value, float("nan")) if fault == "nan" else torch.zeros_like(value)

    monkeypatch.setattr(torch.nn.functional, "silu", faulty)
    assert not amp.check_amp(_OnGpu(model))
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "The GPU NVIDIA A100-SXM4-80GB computes this model in half precision otherwise than in float32"
    )


@pytest.mark.parametrize(
    ("name", "faulty"),
    [
        ("NVIDIA GeForce GTX 1660 Ti", True),
        ("NVIDIA GeForce GTX 1650 SUPER", True),
        ("Quadro T2000 with Max-Q Design", True),
        ("NVIDIA T400 4GB", True),
        ("Tesla K40m", True),
        ("NVIDIA T4", False),
        ("Tesla T40", False),
        ("NVIDIA GeForce RTX 4060", False),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", False),
    ],
)
def test_gpus_that_are_known_for_faults_train_in_float32(
    model: Any, gpu: list[str], name: str, faulty: bool, caplog: pytest.LogCaptureFixture
) -> None:
    gpu[:] = [name]
    assert amp.check_amp(_OnGpu(model)) is not faulty
    assert [record.getMessage() for record in caplog.records] == (
        [f"The GPU {name} is known for faults in half precision: training in float32."] if faulty else []
    )


def test_on_a_cpu_there_is_nothing_to_check(model: Any) -> None:
    assert not amp.check_amp(model)


def test_weights_of_ultralytics_lie_under_the_home(ultralytics_home: Path) -> None:
    assert SETTINGS["weights_dir"] == str(ultralytics_home / "ultralytics" / "weights")
