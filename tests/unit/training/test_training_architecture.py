from pathlib import Path

import pytest

from transect.errors import InputError
from transect.training.config.architecture import resolve_architecture, shipped_architectures

_KNOWN = ["yolov8n", "yolo11n", "yolo26n", "yolo11x", "yolov9c", "yolov10n", "yolov8n-p2", "yolov5s"]
_OFFERED = [name for name, shipped in shipped_architectures().items() if shipped.head == "Detect"]


@pytest.mark.parametrize("name", _KNOWN)
def test_names_of_the_field_are_known(name: str) -> None:
    assert resolve_architecture(name).name == name
    assert resolve_architecture(f"{name}.pt").source == f"{name}.yaml"


def test_ultralytics_finds_every_name_that_we_offer() -> None:
    from ultralytics.nn.tasks import yaml_model_load

    assert {yaml_model_load(f"{name}.yaml")["head"][-1][2] for name in _OFFERED} == {"Detect"}


def test_end_to_end_heads_are_known() -> None:
    ends = {name: resolve_architecture(name).end_to_end for name in ("yolov8n", "yolo11n", "yolo26n", "yolov10s")}
    assert ends == {"yolov8n": False, "yolo11n": False, "yolo26n": True, "yolov10s": True}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("yolo11", "did you mean yolo11"),
        ("yolov11n", "did you mean yolo11n"),
        ("zebra", "try yolo11n"),
        ("yolo11n-seg", "a segmentation architecture; Transect trains detectors; did you mean yolo11n?"),
        ("yolo11n-cls", "a classification architecture"),
        ("yolov8n-pose.pt", "a pose architecture"),
        ("rtdetr-l", "which Transect cannot decode"),
        ("yolov8s-world", "which Transect cannot decode"),
        ("weights/gone.pt", "neither a file nor"),
        ("", "neither a file nor"),
    ],
)
def test_other_names_are_refused_with_near_ones(model: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve_architecture(model)
    assert message in str(caught.value)


def test_an_architecture_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("nc: 2\nbackbone: [[-1, 1, Conv, [16, 3, 2]]]\nhead: [[[0], 1, Detect, [nc]]]\n")
    assert resolve_architecture(str(path)).source == str(path)
    assert resolve_architecture(str(path)).name == "mine"


@pytest.mark.parametrize("content", ["[", "- 1", "head: []", "head: [[[0], 1, Segment, [nc]]]", "head: 3"])
def test_a_file_that_is_no_detection_architecture_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"mine\.yaml"):
        resolve_architecture(str(path))


def test_a_checkpoint_holds_its_architecture(checkpoint: Path) -> None:
    found = resolve_architecture(str(checkpoint))
    assert found.name == "yolo11n"
    assert found.checkpoint == checkpoint
