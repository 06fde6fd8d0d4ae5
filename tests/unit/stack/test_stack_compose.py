"""Which Compose files the stack is made of: the GPUs of this machine only where they are asked for."""

from pathlib import Path
from typing import Any

import compose
import pytest
import yaml

ROOT = Path(__file__).parents[3]


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


def _environment(file: str, service: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["services"][service]
    return dict(read.get("environment", {}))


def test_a_backend_for_gpus_is_not_asked_of_the_trainer_which_has_none() -> None:
    assert _environment("compose.yaml", "trainer")["TRANSECT_BACKEND"] == ""
    for service in ("detector", "census"):
        assert _environment("compose.yaml", service)["TRANSECT_BACKEND"] == "${TRANSECT_BACKEND:-}"


def test_a_training_that_was_given_gpus_does_not_fall_back_to_the_cpu_in_silence() -> None:
    assert _environment("compose.gpu.yaml", "trainer") == {
        "CUDA_VISIBLE_DEVICES": None,
        "TRANSECT_DEVICE": "${TRANSECT_DEVICE:-cuda}",
    }
