from types import SimpleNamespace

import pytest

from transect.training import cpu


@pytest.mark.parametrize(
    ("cpuinfo", "native"),
    [("flags: avx2 avx512_bf16", True), ("flags: amx_bf16", True), ("flags: avx2 avx512f", False)],
)
def test_native_bfloat16_is_read_from_the_flags(cpuinfo: str, native: bool) -> None:
    assert cpu.has_native_bf16(cpuinfo) is native


def test_the_fast_forward_pass_is_close_and_ends_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    monkeypatch.setattr(cpu, "has_native_bf16", lambda: True)
    torch.manual_seed(0)
    model = DetectionModel("yolo11n.yaml", nc=2, verbose=False).train()
    images = torch.rand(2, 3, 64, 64)
    exact = model(images)
    trainer = SimpleNamespace(device=torch.device("cpu"), args=SimpleNamespace(amp=True), model=model)
    assert cpu.speed_up_forward(trainer)
    fast = model(images)
    for name in ("boxes", "scores"):
        assert fast[name].dtype == torch.float32
        # bfloat16 has 8 bits; untrained normalisation over few pixels makes much of the rest.
        assert (fast[name] - exact[name]).abs().mean() < 0.1 * exact[name].std()


@pytest.mark.parametrize(
    ("device", "amp", "native"), [("cuda", True, True), ("cpu", False, True), ("cpu", True, False)]
)
def test_it_keeps_out_where_it_does_not_belong(
    device: str, amp: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "has_native_bf16", lambda: native)
    trainer = SimpleNamespace(device=SimpleNamespace(type=device), args=SimpleNamespace(amp=amp))
    assert not cpu.speed_up_forward(trainer)
