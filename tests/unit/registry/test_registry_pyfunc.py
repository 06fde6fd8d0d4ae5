import base64
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from toy_model import build_toy_package, paint
from transect.registry import PackageOrigin

with warnings.catch_warnings():
    # MLflow warns about its own type hints when this part of it is imported.
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    import mlflow.pyfunc

_SCENE = [(0, 0, "red"), (2, 3, "green")]
_FOUND = [("red", [0.0, 0.0, 16.0, 16.0]), ("green", [32.0, 48.0, 48.0, 64.0])]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    package = build_toy_package(tmp_path_factory.mktemp("toy") / "package", origin=PackageOrigin(run_id="0123"))
    return mlflow.pyfunc.load_model(str(package))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    Image.fromarray(paint(_SCENE)).save(path)
    return path


def _found(record: dict[str, Any]) -> list[tuple[str, list[float]]]:
    ordered = sorted(record["detections"], key=lambda item: item["box"])
    return [(item["class_name"], item["box"]) for item in ordered]


def test_every_way_to_hand_over_an_image_finds_the_same(model: Any, picture: Path) -> None:
    encoded = picture.read_bytes()
    text = base64.b64encode(encoded).decode()
    images = [str(picture), text, f"data:image/png;base64,{text}", encoded, paint(_SCENE)]
    records = model.predict(pd.DataFrame({"image": images}))
    assert [_found(record) for record in records] == [_FOUND] * len(images)
    assert records[0]["image"] == str(picture)
    assert records[1]["image"] == "image 1"
    assert records[0]["model"] == {"name": "detector", "version": "", "run_id": "0123", "precision": "fp32"}


def test_a_plain_list_of_paths_works(model: Any, picture: Path) -> None:
    assert [_found(record) for record in model.predict([str(picture)] * 2)] == [_FOUND] * 2


def test_an_image_that_cannot_be_read_is_a_failure_and_the_others_have_results(
    model: Any, picture: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "text.jpg"
    broken.write_text("this is text")
    bad = [str(broken), str(tmp_path / "nowhere.jpg"), 3, np.zeros((4, 4), np.uint8), b""]
    records = model.predict(pd.DataFrame({"image": [*bad, str(picture)]}))
    assert all(record["failure"] and not record["detections"] for record in records[:-1])
    assert records[-1]["failure"] is None
    assert _found(records[-1]) == _FOUND


def test_an_empty_scene_is_no_failure(model: Any) -> None:
    stream = io.BytesIO()
    Image.fromarray(paint([])).save(stream, "png")
    (record,) = model.predict(pd.DataFrame({"image": [stream.getvalue()]}))
    assert record["failure"] is None
    assert record["detections"] == []


def test_records_are_plain_json(model: Any, picture: Path) -> None:
    import json

    records = model.predict([str(picture)])
    assert json.loads(json.dumps(records)) == records
