"""Which Compose files the stack is made of: the GPUs of this machine only where they are asked for."""

from pathlib import Path

import compose
import pytest


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A checkout of its own, and nothing asked for yet."""
    monkeypatch.setattr(compose, "ROOT", tmp_path)
    for name in ("GPU", "ACCELERATOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_without_a_wish_compose_finds_its_files_itself() -> None:
    assert compose.accelerator() == "cpu"
    assert compose.compose("ps", "--all") == ["docker", "compose", "ps", "--all"]


@pytest.mark.parametrize("gpu", ["1", "true", "yes"])
def test_gpu_adds_the_file_with_the_gpus(monkeypatch: pytest.MonkeyPatch, gpu: str) -> None:
    monkeypatch.setenv("GPU", gpu)
    assert compose.compose("up") == ["docker", "compose", "--file", "compose.yaml", "--file", "compose.gpu.yaml", "up"]


def test_the_accelerator_can_stand_in_the_env_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("# what the images are for\nACCELERATOR=cuda\n", encoding="utf-8")
    assert compose.accelerator() == "cuda"
    # A real environment variable wins.
    monkeypatch.setenv("ACCELERATOR", "cpu")
    assert compose.accelerator() == "cpu"


def test_an_override_of_ones_own_is_kept_beside_the_gpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU", "1")
    (folder / "compose.override.yaml").touch()
    assert compose.compose()[-1] == "compose.override.yaml"


def test_an_unknown_accelerator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATOR", "rocm")
    with pytest.raises(compose.StackError, match="ACCELERATOR=rocm is not one of cpu, cuda"):
        compose.compose("up")
