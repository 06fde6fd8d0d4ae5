"""Every file of a whole census, read by the tools it is for, and byte for byte the same a second time."""

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pytest
from PIL import Image
from pycocotools.coco import COCO
from shapely import from_wkb, get_coordinates

from megadetector_judge import judge
from painted_surveys import COLOURS, HEIGHT, NAMES, SURVEY_YAML, WIDTH, count, counted_boxes, paint_survey, polygon
from transect.census import CensusResult
from transect.census.compare import compare
from transect.census.outputs.writers import unescape_formula
from transect.census.saved_result import read_census
from transect.engine import Detector

FORMULA = '=HYPERLINK("x","y").png'


@pytest.fixture(scope="module")
def detector(dot_package: Path) -> Iterator[Detector]:
    with Detector.open(dot_package, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a photo that shows nothing, one without a place, one that stands there twice, and a broken one."""
    folder = paint_survey(tmp_path_factory.mktemp("survey"), photos=4).folder
    photos = folder / "images"
    placeless = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    placeless[8:16, 8:16] = COLOURS[1]
    Image.fromarray(placeless).save(photos / "placeless.png")
    (photos / "again.png").write_bytes((photos / "T1" / "T1_001.png").read_bytes())
    (photos / FORMULA).write_bytes(b"no photo")
    strata = f"[{{name: west, polygon: {polygon(-200, 600)}}}, {{name: east, polygon: {polygon(600, 1400)}}}]"
    (folder / "survey.yaml").write_text(SURVEY_YAML.replace("[{name: plain, area_km2: 1.2}]", strata))
    return folder


@pytest.fixture(scope="module")
def result(survey: Path, detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> CensusResult:
    return count(survey, tmp_path_factory.mktemp("out"), detector)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_second_census_writes_the_same_bytes(
    survey: Path, result: CensusResult, detector: Detector, tmp_path: Path
) -> None:
    again = count(survey, tmp_path, detector)
    assert again.folder.name == result.folder.name
    names = {path.name for path in result.files}
    assert {path.name for path in again.files} == names
    for name in names - {"manifest.json", "report.html"}:
        assert (again.folder / name).read_bytes() == (result.folder / name).read_bytes(), name
    assert again.manifest | {"created_at": ""} == result.manifest | {"created_at": ""}
    reports = [
        one.report.read_text().replace(one.manifest["created_at"], "").replace(one.manifest["created_at"][:10], "")
        for one in (result, again)
    ]
    assert reports[0] == reports[1]
    assert not compare(read_census(result.folder), read_census(again.folder)).changes


def test_manifest_names_every_file_with_its_hash(result: CensusResult) -> None:
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert set(manifest["files"]) == {path.name for path in result.files} - {"manifest.json", "report.html"}
    for name, told in manifest["files"].items():
        content = (result.folder / name).read_bytes()
        assert told == {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}, name


def test_estimates_are_the_same_in_json_and_csv(result: CensusResult) -> None:
    content = json.loads((result.folder / "estimate.json").read_text())["estimates"]
    rows = rows_of(result.folder / "estimate.csv")
    assert len(content) == len(rows) == 9
    for one, row in zip(content, rows, strict=True):
        limits = one.pop("ci95")
        assert [row.pop("ci95_low"), row.pop("ci95_high")] == (["", ""] if limits is None else [str(n) for n in limits])
        assert {name: row[name] for name in one} == {
            name: "" if value is None else str(value) for name, value in one.items()
        }
    assert any(row["se"] for row in rows)


def test_coco_holds_every_photo_that_was_searched(result: CensusResult) -> None:
    coco = COCO(result.folder / "coco.json")
    boxes = counted_boxes(result.folder)
    assert len(coco.getAnnIds()) == boxes.num_rows
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == list(NAMES)
    images = {one["id"]: one for one in coco.loadImgs(coco.getImgIds())}
    files = {one["file_name"] for one in images.values()}
    assert len(images) == 17
    assert "placeless.png" in files
    assert not files & {"again.png", FORMULA}
    for box, one in zip(boxes.to_pylist(), coco.loadAnns(coco.getAnnIds()), strict=True):
        image = images[one["image_id"]]
        assert (image["file_name"], one["score"], one["animal"]) == (box["image"], box["score"], box["animal"])
        assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
        assert one["bbox"][:2] == [box["x1"], box["y1"]]
        assert NAMES[one["category_id"] - 1] == box["species"]


def test_megadetector_tells_failures_from_empty_photos(result: CensusResult) -> None:
    path = result.folder / "megadetector.json"
    judged = judge(path)
    assert (judged["errors"], judged["warnings"]) == ([], [])
    images = {one["file"]: one for one in json.loads(path.read_text())["images"]}
    assert len(images) == 19
    assert {name for name, one in images.items() if "failure" in one} == {"again.png", FORMULA}
    assert all(images[name]["detections"] is None for name in ("again.png", FORMULA))
    assert len(images["placeless.png"]["detections"]) == 1
    boxes = sum(len(one["detections"] or ()) for one in images.values())
    assert boxes == counted_boxes(result.folder).num_rows


def test_geopackage_agrees_with_the_tables(result: CensusResult) -> None:
    path = result.folder / "animals.gpkg"
    counts = {name: pyogrio.read_info(path, layer=name)["features"] for name, _ in pyogrio.list_layers(path)}
    animals = rows_of(result.folder / "animals.csv")
    assert counts == {"animals": len(animals), "photos": 16, "transects": 4, "strata": 2}
    _, _, geometry, _ = pyogrio.raw.read(path, layer="animals")
    places = [[float(row["easting"]), float(row["northing"])] for row in animals]
    assert get_coordinates(from_wkb(geometry)).tolist() == places
    about, _, _, columns = pyogrio.raw.read(path, layer="transects")
    layer = dict(zip(about["fields"], columns, strict=True))
    for row in rows_of(result.folder / "transects.csv"):
        (at,) = np.flatnonzero((layer["transect"] == row["transect"]) & (layer["stratum"] == row["stratum"]))
        assert layer[f"unique_{row['species']}"][at] == int(row["count"])
        assert layer["area_km2"][at] == float(row["area_km2"])


def test_detections_say_how_often_their_place_was_looked_at(result: CensusResult) -> None:
    boxes = counted_boxes(result.folder).to_pylist()
    assert pq.read_schema(result.folder / "detections.parquet").metadata[b"crs"] == b"EPSG:32736"
    assert {box["looks"] for box in boxes if box["image"] != "placeless.png"} == {1, 2}
    (placeless,) = [box for box in boxes if box["image"] == "placeless.png"]
    assert (placeless["looks"], placeless["animal"], placeless["easting"]) == (0, None, None)


def test_no_csv_holds_a_formula_that_a_stranger_named(result: CensusResult) -> None:
    files = {unescape_formula(row["file"]): row["file"] for row in rows_of(result.folder / "failures.csv")}
    assert files[FORMULA] == f"'{FORMULA}"
    for path in result.folder.glob("*.csv"):
        for row in rows_of(path):
            for cell in row.values():
                if cell[:1] in tuple("=+-@\t\r") and cell:
                    float(cell)
