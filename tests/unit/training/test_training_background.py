import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiny_datasets import write_spots_dataset
from transect.datasets import Dataset, load_dataset
from transect.engine import BackgroundCounts
from transect.errors import DatasetError
from transect.settings import load_settings
from transect.training.config.background import find_background
from transect.training.plan import TrainRequest, make_plan
from transect.training.run_metadata import background_metrics


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return load_dataset(write_spots_dataset(tmp_path / "spots", images=2, size=64))


def ground(folder: Path, pictures: int = 2) -> Path:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(1)
    for number in range(pictures):
        Image.fromarray(generator.integers(0, 255, (40, 60, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def find(given: list[str], dataset: Dataset, recipe: Path) -> list[str]:
    return [path.name for path in find_background(given, dataset, recipe)]


def test_none_is_given(dataset: Dataset, tmp_path: Path) -> None:
    assert find([], dataset, tmp_path / "recipe.yaml") == []


def test_a_folder_lies_beside_the_data_or_the_recipe_or_here(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipes" / "recipe.yaml"
    places = {"data": dataset.path.parent, "recipe": recipe.parent, "here": tmp_path / "here"}
    for number, (name, place) in enumerate(places.items()):
        ground(place / name, number + 1)
    monkeypatch.chdir(places["here"])
    for number, name in enumerate(places):
        assert len(find([name], dataset, recipe)) == number + 1
    assert len(find(["data", str(places["here"] / "here")], dataset, recipe)) == 4
    # The first place counts where several have one.
    ground(places["here"] / "data", 3)
    assert len(find(["data"], dataset, recipe)) == 1


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "labelled", "trained"])
def test_ground_that_cannot_serve_is_refused_in_a_sentence(damage: str, dataset: Dataset, tmp_path: Path) -> None:
    folder = ground(tmp_path / "empty" / "images")
    first = folder / "0.png"
    message = ""
    if damage == "missing":
        shutil.rmtree(folder)
        message = r"there is no folder empty/images; looked for .*Give a folder of pictures without any animal"
    elif damage == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
        message = r"the background split is empty; no images in empty/images"
    elif damage == "cut":
        first.write_bytes(first.read_bytes()[:200])
        message = r"a picture that cannot be used: .*0\.png"
    elif damage == "labelled":
        labels = tmp_path / "empty" / "labels" / "0.txt"
        labels.parent.mkdir()
        labels.write_text("0 0.5 0.5 0.1 0.1\n")
        message = r"0\.png has labels in .*0\.txt, and empty ground must hold no animal"
    else:
        shutil.copy(dataset.splits["val"].images[0], folder / "copy.png")
        message = r"copy\.png is the same picture as .* of the val split; empty ground must be neither trained on"
    with pytest.raises(DatasetError, match=message):
        find(["empty/images"], dataset, tmp_path / "recipe.yaml")


@pytest.mark.parametrize("given", [True, False])
def test_a_training_says_what_is_missing_without_it(
    given: bool, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("train: {imgsz: 64, epochs: 1}\n" + ("background: ground\n" if given else ""))
    if given:
        ground(tmp_path / "ground")
    with caplog.at_level(logging.INFO):
        plan = make_plan(
            TrainRequest("yolo11n", recipe, dataset.path),
            load_settings({"TRANSECT_HOME": str(tmp_path / "home"), "TRANSECT_PRETRAINED": "none"}, env_file=None),
        )
    assert len(plan.background) == (2 if given else 0)
    assert sum("No empty ground is given" in record.message for record in caplog.records) == (0 if given else 1)


def test_the_run_tells_alarms_by_class_and_megapixel() -> None:
    counts = BackgroundCounts(conf=0.3, iou=0.5, mpx=(0.5, 1.5), counts={"gnu": ((0, 2), (1, 1)), "a:b": ()})
    assert background_metrics(None) == {}
    assert background_metrics(counts) == {
        "background/images": 2,
        "background/mpx": 2,
        "background/class/gnu/alarms": 3,
        "background/class/gnu/alarms_per_mpx": 1.5,
        "background/class/a_b/alarms": 0,
        "background/class/a_b/alarms_per_mpx": 0,
    }
