from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from transect.training.trainer import cpu_bf16 as cpu


@pytest.mark.parametrize(
    ("cpuinfo", "native"), [("avx2 avx512_bf16", True), ("amx_bf16", True), ("avx2 avx512f", False), ("", False)]
)
def test_native_bfloat16_is_read_from_the_flags(cpuinfo: str, native: bool) -> None:
    assert cpu.has_native_bf16(cpuinfo) is native


class _Network(torch.nn.Module):
    """One layer, with the method that Ultralytics' models have and outputs nested as theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 8, 3)

    def _predict_once(self, images: torch.Tensor) -> Any:
        features = self.layer(images)
        return {"boxes": features, "feats": [features, (features, features.argmax(1))]}


def test_the_fast_forward_pass_is_close_and_ends_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "has_native_bf16", lambda: True)
    torch.manual_seed(0)
    model = _Network()
    images = torch.rand(2, 3, 16, 16)
    exact = model._predict_once(images)["boxes"]
    trainer = SimpleNamespace(device=torch.device("cpu"), world_size=0, args=SimpleNamespace(amp=True), model=model)
    assert cpu.enable_bf16_forward(trainer)
    fast = model._predict_once(images)
    assert not torch.equal(fast["boxes"], exact)
    torch.testing.assert_close(fast["boxes"], exact, rtol=0.02, atol=0.02, check_stride=False)
    first, (second, places) = fast["feats"]
    assert first.dtype == second.dtype == torch.float32
    assert places.dtype == torch.int64


_ELSEWHERE = [("cuda", True, True), ("cpu", False, True), ("cpu", True, False)]


@pytest.mark.parametrize(("device", "amp", "native"), _ELSEWHERE)
def test_it_keeps_out_where_it_does_not_belong(
    device: str, amp: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "has_native_bf16", lambda: native)
    trainer = SimpleNamespace(device=SimpleNamespace(type=device), world_size=0, args=SimpleNamespace(amp=amp))
    assert not cpu.enable_bf16_forward(trainer)


def test_a_copy_computes_by_itself_once_it_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "has_native_bf16", lambda: True)
    model = _Network()
    cpu.enable_bf16_forward(
        SimpleNamespace(device=torch.device("cpu"), world_size=0, args=SimpleNamespace(amp=True), model=model)
    )
    average = deepcopy(model)
    cpu.restore_forward(average)
    cpu.restore_forward(_Network())
    with torch.no_grad():
        average.layer.weight.zero_()
        average.layer.bias.zero_()  # type: ignore[union-attr]  # it has one
    images = torch.rand(1, 3, 16, 16)
    assert not average._predict_once(images)["boxes"].any()
    assert model._predict_once(images)["boxes"].any()
