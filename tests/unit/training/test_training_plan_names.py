"""Names that MLflow or a folder cannot hold are refused before anything is started."""

from pathlib import Path

import pytest

from transect.errors import InputError
from transect.settings import load_settings
from transect.training.plan import TrainRequest, make_plan

_ARCHITECTURE = "nc: 2\nbackbone: []\nhead:\n  - [[1], 1, Detect, [nc]]\n"


def _plan(tmp_path: Path, request: TrainRequest) -> None:
    make_plan(request, load_settings({"TRANSECT_HOME": str(tmp_path / "home")}, env_file=None))


def test_an_experiment_that_is_too_long_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 140) / ("b" * 140)
    folder.mkdir(parents=True)
    recipe = folder / "r.yaml"
    recipe.write_text("")
    with pytest.raises(InputError, match=r"has \d{3} characters: MLflow takes 1 to 256"):
        _plan(tmp_path, TrainRequest("yolo11n", recipe, tmp_path / "data.yaml"))
    assert not (tmp_path / "home" / "mlflow.db").exists()


def test_an_architecture_that_names_no_folder_is_refused(tmp_path: Path) -> None:
    recipe, model = tmp_path / "r.yaml", tmp_path / f"{'m' * 151}.yaml"
    recipe.write_text("")
    model.write_text(_ARCHITECTURE)
    request = TrainRequest(str(model), recipe, tmp_path / "data.yaml", experiment="short")
    with pytest.raises(InputError, match="is longer than 150 bytes; rename the file"):
        _plan(tmp_path, request)


@pytest.mark.parametrize("override", ["epochs=many", "lr0=fast"])
def test_what_ultralytics_refuses_has_its_place(tmp_path: Path, override: str) -> None:
    from tiny_datasets import write_spots_dataset

    data = write_spots_dataset(tmp_path / "spots", images=2, size=64)
    recipe = tmp_path / "r.yaml"
    key, _, value = override.partition("=")
    recipe.write_text(f"train:\n  imgsz: 64\n  {key}: {value}\n")
    with pytest.raises(InputError, match=r"r\.yaml, line 3, column 3\)\.$"):
        _plan(tmp_path, TrainRequest("yolo11n", recipe, data))
    recipe.write_text("")
    with pytest.raises(InputError, match=rf"\(override '{override}'\)\.$"):
        _plan(tmp_path, TrainRequest("yolo11n", recipe, data, (override,)))
