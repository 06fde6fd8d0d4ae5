"""A census with a package that knows what its model gets wrong, from package.json to the files that are handed on."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from test_census_run import Painted, count, paint_survey

from transect.engine import Detector, ValidationCounts, read_manifest, write_manifest

# Of ten boxes in each of forty images nine are right, and of twelve animals nine are found.
ROWS = tuple((image, 9, 1, 3) for image in range(40))


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    return paint_survey(tmp_path_factory.mktemp("painted"))


@pytest.fixture
def package(dot_package: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(dot_package, tmp_path / "package"))
    manifest = read_manifest(folder)
    counts = ValidationCounts(images=40, conf=manifest.conf, iou=manifest.iou, counts={"sheep": ROWS})
    write_manifest(folder, manifest.model_copy(update={"validation_counts": counts}))
    return folder


def test_every_step_is_written_down(painted: Painted, package: Path, tmp_path: Path) -> None:
    with Detector.open(package, threads=1) as detector:
        result = count(painted.folder, tmp_path / "out", detector)
    sheep, goat, _ = result.rows
    # The model makes no mistakes here, so one look shows about what all of them do: animals stand where photos overlap.
    assert sheep.single_look == pytest.approx(sheep.unique, rel=0.1)
    assert sheep.corrected == pytest.approx(sheep.single_look * 1.2)
    assert sheep.estimate == pytest.approx(sheep.corrected / sheep.area_km2 * 1.2)
    assert goat.corrected is None
    assert "found no goat rightly" in goat.note

    with (result.folder / "counts.csv").open(newline="") as stream:
        row = next(csv.DictReader(stream))
    assert float(row["single_look"]) == sheep.single_look
    assert float(row["corrected"]) == sheep.corrected
    with (result.folder / "transects.csv").open(newline="") as stream:
        units = [row for row in csv.DictReader(stream) if row["species"] == "sheep"]
    assert sum(float(unit["single_look"]) for unit in units) == pytest.approx(sheep.single_look)
    assert sum(int(unit["seen"]) for unit in units) == sheep.seen

    written = json.loads((result.folder / "estimate.json").read_text())
    correction = written["corrections"][0]
    assert (correction["species"], correction["precision"], correction["recall"]) == ("sheep", 0.9, 0.75)
    steps = {step["name"]: step["value"] for step in correction["steps"]}
    assert steps["seen"] == sheep.seen
    assert steps["corrected"] == pytest.approx(steps["recall"]) == pytest.approx(sheep.corrected)
    assert steps["estimate"] == sheep.estimate
    assert correction["strata"][0]["unique"] == sheep.unique
    assert written["estimates"][0]["uncorrected"] == pytest.approx(sheep.unique / sheep.area_km2 * 1.2)
    _, metrics, _, _ = result.as_run()
    assert metrics["sheep.corrected"] == sheep.corrected
