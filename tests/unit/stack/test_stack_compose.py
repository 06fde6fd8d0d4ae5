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
    for name in ("GPU", "ACCELERATOR", "TRANSECT_GPUS", "CUDA_VISIBLE_DEVICES"):
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


UUID = "GPU-1f0c6a52-9d3b-4e7a-8c11-0a5b7e2d9f34"
MIG = "MIG-7c9e2b10-55aa-5d01-b7c3-3e8f6a4d2c90"


@pytest.fixture
def gpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The project's own file with GPUs in that checkout, and GPU=1."""
    (folder / "compose.gpu.yaml").write_bytes((ROOT / "compose.gpu.yaml").read_bytes())
    monkeypatch.setenv("GPU", "1")
    return monkeypatch


@pytest.mark.parametrize(
    ("given", "reserved"), [("1", ["1"]), (" 2, 0 ", ["2", "0"]), ("10", ["10"]), (f"{UUID},{MIG}", [UUID, MIG])]
)
def test_named_gpus_are_reserved_instead_of_all(
    folder: Path, gpus: pytest.MonkeyPatch, given: str, reserved: list[str]
) -> None:
    gpus.setenv("TRANSECT_GPUS", given)
    command = compose.compose("up")
    assert command[:5] == ["docker", "compose", "--file", "compose.yaml", "--file"]
    file = command[5]
    assert file.startswith("runs/stack/gpus-")
    written, ours = (yaml.safe_load((folder / name).read_text(encoding="utf-8")) for name in (file, "compose.gpu.yaml"))
    for service in ("detector", "census", "trainer"):
        (device,) = written["services"][service]["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "device_ids": reserved, "capabilities": ["gpu"]}
        # Nothing else differs.
        for read in (written, ours):
            del read["services"][service]["deploy"]
        assert written["services"][service] == ours["services"][service]
    assert compose.compose("up") == command
    assert [path.name for path in (folder / "runs" / "stack").iterdir()] == [Path(file).name]


def test_each_choice_of_gpus_has_a_file_of_its_own(gpus: pytest.MonkeyPatch) -> None:
    files = set()
    for given in ("0", "1", "0,1"):
        gpus.setenv("TRANSECT_GPUS", given)
        files.add(compose.gpu_file())
    assert len(files) == 3


def test_the_gpus_can_stand_in_the_env_file(folder: Path, gpus: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("TRANSECT_GPUS=3\n", encoding="utf-8")
    assert compose.named_gpus() == ("3",)
    gpus.setenv("TRANSECT_GPUS", "1")
    assert compose.named_gpus() == ("1",)


def test_empty_means_all_gpus(gpus: pytest.MonkeyPatch) -> None:
    gpus.setenv("TRANSECT_GPUS", " ")
    assert compose.gpu_file() == "compose.gpu.yaml"


def test_without_gpus_their_choice_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSECT_GPUS", "0")
    assert compose.compose("up") == ["docker", "compose", "up"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("0,,1", "TRANSECT_GPUS=0,,1 has an empty item"),
        ("0,", "TRANSECT_GPUS=0, has an empty item"),
        ("all", "all is no index or UUID of a GPU; `nvidia-smi -L` lists them"),
        ("0 1", "0 1 is no index or UUID"),
        ("-1", "-1 is no index or UUID"),
        ("01", "01 is no index or UUID"),
        ("\u0661", "\u0661 is no index or UUID"),
        (UUID[:-1], f"{UUID[:-1]} is no index or UUID"),
        ('0"]', r'0"\] is no index or UUID'),
        ("0,1,0", "TRANSECT_GPUS=0,1,0 names 0 twice"),
    ],
)
def test_gpus_that_cannot_be_meant_are_one_sentence(gpus: pytest.MonkeyPatch, given: str, said: str) -> None:
    gpus.setenv("TRANSECT_GPUS", given)
    with pytest.raises(compose.StackError, match=said):
        compose.compose("up")


def test_two_choices_of_gpus_are_refused(gpus: pytest.MonkeyPatch) -> None:
    gpus.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert compose.gpu_file() == "compose.gpu.yaml"
    gpus.setenv("TRANSECT_GPUS", "1")
    with pytest.raises(compose.StackError, match="TRANSECT_GPUS and CUDA_VISIBLE_DEVICES both choose GPUs"):
        compose.compose("up")


def test_a_file_without_the_line_to_replace_is_refused(folder: Path, gpus: pytest.MonkeyPatch) -> None:
    gpus.setenv("TRANSECT_GPUS", "1")
    (folder / "compose.gpu.yaml").write_text("services: {}\n", encoding="utf-8")
    with pytest.raises(
        compose.StackError, match=r"the line `count: all` of compose\.gpu\.yaml, which must be there once"
    ):
        compose.compose("up")


def test_a_folder_that_takes_no_file_is_one_sentence(folder: Path, gpus: pytest.MonkeyPatch) -> None:
    gpus.setenv("TRANSECT_GPUS", "1")
    (folder / "runs").write_text("in the way", encoding="utf-8")
    with pytest.raises(
        compose.StackError, match=r"TRANSECT_GPUS needs a file in .*runs/stack, which cannot be written"
    ):
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
