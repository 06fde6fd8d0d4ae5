"""The report as its reader sees it: a real browser without a network, a screen, a telephone, and paper."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page

from painted_surveys import COLOURS, HEIGHT, SURVEY_YAML, WIDTH, count, paint_survey, polygon
from report_pages import (
    assert_a_reader_without_eyes_finds_the_way,
    assert_every_picture_is_there,
    assert_nothing_is_wider,
    opened,
    print_on_a4,
)
from transect.census import CensusResult
from transect.engine import Detector, PackageManifest, ValidationCounts, read_manifest, write_manifest

# Names of strangers: markup, script, quotes, other alphabets, right to left.
GOAT = "</title><script>document.hacked = 1</script>"
COW = '"><img src=x onerror="document.hacked = 2"> Équidé'
EAST = "شرق </svg><script>document.hacked = 3</script>"
FOLDER = "<img src=x onerror=document.hacked=4>"
PHOTO = "平原 <b>&amp;.png"


@pytest.fixture(scope="module")
def package(dot_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that knows its errors, so that the report shows a correction."""
    target = tmp_path_factory.mktemp("package") / "known"
    shutil.copytree(dot_package, target)
    rows = tuple((image, 9, image % 2, (image + 1) % 2) for image in range(12))
    counts = ValidationCounts(images=12, conf=0.25, iou=0.5, counts={"sheep": rows, "goat": rows, "cow": rows})
    manifest = read_manifest(dot_package)
    fields = {name: getattr(manifest, name) for name in PackageManifest.model_fields}
    write_manifest(target, PackageManifest(**fields | {"validation_counts": counts}))
    return target


@pytest.fixture(scope="module")
def result(package: Path, tmp_path_factory: pytest.TempPathFactory) -> CensusResult:
    folder = paint_survey(tmp_path_factory.mktemp("survey"), photos=4).folder
    (folder / "images" / "T2").rename(folder / "images" / FOLDER)
    flights = (folder / "flights.csv").read_text().replace("T2/", f"{FOLDER}/")
    (folder / "flights.csv").write_text(flights)
    placeless = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    placeless[8:16, 8:16] = COLOURS[1]
    Image.fromarray(placeless).save(folder / "images" / PHOTO)
    (folder / "images" / "broken.png").write_bytes(b"no photo")
    strata = [{"name": "west", "polygon": polygon(-200, 600)}, {"name": EAST, "polygon": polygon(600, 1400)}]
    drawn = ", ".join(f"{{name: {json.dumps(one['name'])}, polygon: {one['polygon']}}}" for one in strata)
    text = re.sub("strata: .*", lambda _: f"strata: [{drawn}]", SURVEY_YAML)
    species = {"goat": GOAT, "cow": COW}
    factors = {GOAT: {"availability": 0.9, "availability_se": 0.02}}
    text += f"species: {json.dumps(species)}\ncorrections: {json.dumps(factors)}\n"
    (folder / "survey.yaml").write_text(text, encoding="utf-8")
    with Detector.open(package, threads=1) as detector:
        return count(folder, tmp_path_factory.mktemp("out"), detector)


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext, result: CensusResult) -> Iterator[Page]:
    """The report, opened; fails where it asked for anything but itself or said anything on the console."""
    with opened(context, result.report) as shown:
        yield shown


def test_every_picture_is_there(page: Page, result: CensusResult) -> None:
    assert_every_picture_is_there(page)
    marks = page.eval_on_selector_all("#map .animals path", "all => all.length")
    assert marks == sum(row.unique for row in result.rows)


def test_the_numbers_are_those_of_the_estimate(page: Page, result: CensusResult) -> None:
    told = json.loads((result.folder / "estimate.json").read_text())["estimates"]
    whole = {one["species"]: one for one in told if one["stratum"] == "all"}
    assert set(whole) == {"sheep", GOAT, COW}
    shown = page.locator(".estimates tbody tr").all()
    assert len(shown) == 3
    for row, (species, one) in zip(shown, whole.items(), strict=True):
        cells = [cell.inner_text().replace("\u202f", "").strip() for cell in row.locator("th, td").all()]
        assert cells[:3] == [
            species,
            f"{one['estimate']:.0f}",
            f"{one['ci95'][0]:.0f} – {one['ci95'][1]:.0f}",
        ]
        sentence = page.locator(".sentence", has_text=f"An estimated {one['estimate']:.0f} {species}")
        assert f"{one['ci95'][0]:.0f} to {one['ci95'][1]:.0f}" in sentence.inner_text().replace("\u202f", "")
    text = page.locator("main").inner_text()
    assert "Single look" in text
    assert "Sirken" in text
    assert "Marsh" in text
    assert result.manifest["survey"]["digest"] in text


def test_names_of_strangers_are_only_text(page: Page) -> None:
    assert page.title() == "Census painted"
    assert page.evaluate("document.hacked") is None
    assert page.locator("script").count() == 1
    assert page.locator("img:not([src^='data:image/jpeg'])").count() == 0
    text = page.locator("main").inner_text()
    assert all(name in text for name in (GOAT, COW, EAST, FOLDER, PHOTO))


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(page: Page, width: int) -> None:
    assert_nothing_is_wider(page, width)


def test_a_reader_without_eyes_finds_the_way(page: Page) -> None:
    assert_a_reader_without_eyes_finds_the_way(page)


def test_the_map_zooms_by_its_buttons(page: Page) -> None:
    sheet = page.locator("#map .view")
    whole = sheet.get_attribute("viewBox")
    page.get_by_role("button", name="Zoom in").click()
    assert sheet.get_attribute("viewBox") != whole
    page.get_by_role("button", name="Whole map").click()
    view = [float(value) for value in (sheet.get_attribute("viewBox") or "").split()]
    assert view == pytest.approx([float(value) for value in (whole or "").split()])


def test_it_prints_on_several_pages_of_a4(page: Page, tmp_path: Path) -> None:
    paper = tmp_path / "report.pdf"
    pages = print_on_a4(page, paper)
    reader = shutil.which("pdftotext")
    if reader is None:
        return
    text = subprocess.run([reader, "-layout", paper, "-"], check=True, capture_output=True, text=True).stdout
    assert "sheep" in text
    assert "document.hacked = 1" in text
    assert f"{pages} / {pages}" in text
