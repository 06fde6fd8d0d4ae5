"""The choice of the training device, with a stand-in for CUDA."""

import logging
from collections.abc import Callable

import pytest
import torch

from transect.errors import SettingsError
from transect.settings import load_settings
from transect.training.trainer.device import has_code, resolve_device

WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
Gpus = Callable[..., None]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    """Put GPUs into this machine: their names with their compute capabilities."""

    def put(*found: tuple[str, tuple[int, int]], why_none: str = "") -> None:
        def start() -> None:
            raise RuntimeError(why_none)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(found))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(found))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: found[index][0])
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: found[index][1])
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: WHEEL)
        monkeypatch.setattr(torch.cuda, "init", start)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return put


def test_auto_takes_the_first_gpu_that_can_train(gpus: Gpus, caplog: pytest.LogCaptureFixture) -> None:
    gpus(("Tesla V100", (7, 0)), ("NVIDIA A100", (8, 0)))
    with caplog.at_level(logging.INFO):
        assert resolve_device("auto") == "1"
    assert caplog.messages == ["Training on the GPU NVIDIA A100."]
    assert resolve_device("cuda:1") == "1"
    assert resolve_device("cpu") == "cpu"


def test_auto_says_why_a_gpu_that_is_there_does_not_train(gpus: Gpus, caplog: pytest.LogCaptureFixture) -> None:
    gpus(("Tesla V100", (7, 0)))
    with caplog.at_level(logging.INFO):
        assert resolve_device("auto") == "cpu"
    assert caplog.messages == [
        f"The GPU Tesla V100 has compute capability 7.0, for which PyTorch {torch.__version__} has no code. Training "
        "on the CPU."
    ]


def test_a_gpu_without_code_is_refused_where_it_was_named(gpus: Gpus) -> None:
    gpus(("Tesla V100", (7, 0)), ("NVIDIA A100", (8, 0)))
    with pytest.raises(SettingsError, match=r"TRANSECT_DEVICE=cuda: the GPU Tesla V100 .* has no code; use another"):
        resolve_device("cuda")
    with pytest.raises(SettingsError, match=r"TRANSECT_DEVICE=cuda:2, but there are 2 CUDA GPUs here; use auto or cpu"):
        resolve_device("cuda:2")


def test_without_any_gpu_the_reason_is_named(gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(
        why_none="The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver by "
        "downloading a new version."
    )
    with pytest.raises(SettingsError) as caught:
        resolve_device("cuda")
    assert str(caught.value) == (
        "TRANSECT_DEVICE=cuda, but there are 0 CUDA GPUs here (The NVIDIA driver on your system is too old (found "
        "version 12020)); use auto or cpu."
    )
    gpus(why_none="No CUDA GPUs are available")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(
        SettingsError, match=r"\(No CUDA GPUs are available; CUDA_VISIBLE_DEVICES='' hides the others\)"
    ):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("capability", "architectures", "fits"),
    [
        ((8, 9), WHEEL, True),  # RTX 4090: code for 8.6
        ((10, 3), WHEEL, True),  # B300: code for 10.0
        ((12, 1), WHEEL, True),  # DGX Spark: code for 12.0
        ((7, 0), WHEEL, False),
        ((11, 0), WHEEL, False),
        ((8, 7), ["sm_89", "sm_90"], False),
        ((11, 0), ["sm_90", "compute_90"], True),
        ((9, 0), ["sm_90a"], True),
        ((9, 1), ["sm_90a"], False),
        ((9, 0), [], False),
    ],
)
def test_code_serves_its_major_version_and_ptx_what_came_later(
    capability: tuple[int, int], architectures: list[str], fits: bool
) -> None:
    assert has_code(capability, architectures) is fits


def test_several_gpus_are_named_together(gpus: Gpus, caplog: pytest.LogCaptureFixture) -> None:
    gpus(("NVIDIA A100", (8, 0)), ("Tesla V100", (7, 0)), ("NVIDIA H100", (9, 0)))
    with caplog.at_level(logging.INFO):
        assert resolve_device("cuda:0,2") == resolve_device("0,2") == "0,2"
    assert set(caplog.messages) == {"Training on 2 GPUs: NVIDIA A100, NVIDIA H100."}
    assert resolve_device("2") == "2"
    # All that can train.
    assert resolve_device("all") == "0,2"
    with pytest.raises(SettingsError, match=r"TRANSECT_DEVICE=cuda:0,1: the GPU Tesla V100 .* has no code"):
        resolve_device("cuda:0,1")
    with pytest.raises(SettingsError, match=r"TRANSECT_DEVICE=0,3, but there are 3 CUDA GPUs here; use auto or cpu"):
        resolve_device("0,3")
    with pytest.raises(SettingsError, match=r"TRANSECT_DEVICE=cuda:2,0,2 names a GPU twice"):
        resolve_device("cuda:2,0,2")


def test_all_gpus_of_a_machine_without_any_are_refused(gpus: Gpus) -> None:
    gpus(why_none="No NVIDIA driver. See the docs.")
    with pytest.raises(
        SettingsError, match=r"TRANSECT_DEVICE=all, but there are 0 CUDA GPUs here \(No NVIDIA driver\)"
    ):
        resolve_device("all")


@pytest.mark.parametrize("device", ["cuda:", "cuda:0,", "0,,1", "gpu", "cuda:0,cuda:1", "all,0", "-1"])
def test_a_device_that_is_none_is_refused(device: str) -> None:
    with pytest.raises(SettingsError, match="TRANSECT_DEVICE"):
        load_settings({"TRANSECT_DEVICE": device}, env_file=None)
