"""`transect census run` on surveys that are wrong: one sentence and exit code 2, or a listed file and a sound rest."""

import csv
import json
import logging
import os
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from transect.census.ground.geometry import Grid
from transect.cli import main

# A small copy of a Phantom 4 RTK's picture: at 64 m a photo shows 96 m by 64 m.
WIDTH, HEIGHT = 96, 64
START = datetime(2026, 7, 14, 9, 30)  # noqa: DTZ001 - camera clocks have no zone
GRID = Grid(32736)
ORIGIN = (500_000.0, 9_830_000.0)
YAML = "strata: [{name: plain, area_km2: 1}]\n"
COLUMNS = "image,transect,lat,lon,height_agl_m,yaw_deg,time\n"
Mutate = Callable[[Path], object]


def degrees(east: float, north: float) -> tuple[float, float]:
    lon, lat = GRID.inverse(np.array([[ORIGIN[0] + east, ORIGIN[1] + north]]))[0]
    return float(lon), float(lat)


def sexagesimal(value: float) -> tuple[IFDRational, ...]:
    micro = round(abs(value) * 3_600_000_000)
    parts = (micro // 3_600_000_000, micro // 60_000_000 % 60, micro % 60_000_000)
    return tuple(IFDRational(part, 1 if index < 2 else 1_000_000) for index, part in enumerate(parts))


def photo(path: Path, east: float, north: float, **told: Any) -> Path:
    """A photo as a drone writes it, of its own noise; `told`: model, time, place, focal, and XMP's names."""
    lon, lat = told.pop("place", None) or degrees(east, north)
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = told.pop("make", "DJI"), told.pop("model", "FC6310R")
    exif.get_ifd(IFD.Exif).update(
        {
            Base.DateTimeOriginal: told.pop("time", START + timedelta(seconds=north / 8)).strftime("%Y:%m:%d %H:%M:%S"),
            Base.FocalLength: IFDRational(round(told.pop("focal", 8.8) * 100), 100),
        }
    )
    if lon is not None:
        gps: dict[int, Any] = {GPS.GPSLatitude: sexagesimal(lat), GPS.GPSLongitude: sexagesimal(lon)}
        gps |= {GPS.GPSLatitudeRef: "S" if lat < 0 else "N", GPS.GPSLongitudeRef: "W" if lon < 0 else "E"}
        exif.get_ifd(IFD.GPSInfo).update(gps)
    xmp = {"RelativeAltitude": "+64.00", "GimbalYawDegree": "0.0", "GimbalPitchDegree": "-90.0"} | told
    attributes = " ".join(f'drone-dji:{name}="{value}"' for name, value in xmp.items())
    pixels = np.random.default_rng(zlib.crc32(str(path.name).encode()) + int(east)).integers(0, 255, (HEIGHT, WIDTH, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, exif=exif, xmp=f"<rdf:Description {attributes}/>".encode())
    return path


@dataclass(frozen=True)
class Census:
    """What the command said and wrote."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def results(self) -> Path:
        (manifest,) = self.folder.glob("*/manifest.json")
        return manifest.parent

    def listed(self) -> dict[str, tuple[str, str]]:
        """Kind and reason of each file in failures.csv."""
        with (self.results / "failures.csv").open(newline="", encoding="utf-8") as stream:
            return {row["file"]: (row["kind"], row["reason"]) for row in csv.DictReader(stream)}


Run = Callable[..., Census]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def flown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two transects of four photos that overlap by half, 600 m apart."""
    folder = tmp_path_factory.mktemp("flown") / "survey"
    for transect in range(2):
        for number in range(4):
            photo(folder / "images" / f"T{transect + 1}" / f"{number:03}.jpg", 600.0 * transect, 32.0 * number)
    (folder / "survey.yaml").write_text(YAML)
    return folder


@pytest.fixture
def survey(flown: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(flown, tmp_path / "survey"))


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, home: Path, dot_package: Path
) -> Iterator[Run]:
    """Run `transect census run FOLDER ...` as the command line does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRANSECT_HOME", str(home))
    handlers = list(logging.getLogger().handlers)

    def invoke(folder: Path, *options: str) -> Census:
        out = tmp_path / "out"
        given = ["--model", str(dot_package), *([] if "--out" in options else ["--out", str(out)]), *options]
        monkeypatch.setattr(sys, "argv", ["transect", "census", "run", str(folder), *given])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return Census(int(caught.value.code or 0), said.out, said.err, out)

    yield invoke
    logging.getLogger().handlers[:] = handlers


def flights(*rows: str) -> Mutate:
    return lambda folder: (folder / "flights.csv").write_text(COLUMNS + "".join(f"{row}\n" for row in rows))


def yaml(text: str) -> Mutate:
    return lambda folder: (folder / "survey.yaml").write_text(text)


def polygon(west: float, south: float, east: float, north: float) -> str:
    corners = ((west, south), (east, south), (east, north), (west, north))
    return str([[round(value, 8) for value in degrees(*corner)] for corner in corners])


def each(change: Callable[[Path], object]) -> Mutate:
    return lambda folder: [change(path) for path in sorted((folder / "images").rglob("*.jpg"))]


# Nine to the power of eight strings, if each anchor were written out.
BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED: dict[str, tuple[Mutate, str]] = {
    "survey.yaml is missing": (lambda folder: (folder / "survey.yaml").unlink(), "survey.yaml is missing"),
    "images are missing": (lambda folder: shutil.rmtree(folder / "images"), "images is missing"),
    "an unknown key": (yaml("stratum: []\n"), "survey.yaml: stratum is not a key"),
    "a bomb of anchors": (
        yaml(BOMB),
        "survey.yaml holds more than 200,000 values when its aliases are written out",
    ),
    "an area that is no number": (yaml(YAML.replace("1}", ".nan}")), "area_km2"),
    "an area without end": (yaml(YAML.replace("1}", ".inf}")), "area_km2"),
    "a factor that is no number": (
        yaml(YAML + "corrections: {sheep: {availability: .nan, availability_se: 0.1}}\n"),
        "corrections.sheep.availability",
    ),
    "a factor for what is not counted": (
        yaml(YAML + "corrections: {zebra: {availability: 0.9, availability_se: 0.1}}\n"),
        "corrects 'zebra', which is not reported",
    ),
    "a stratum smaller than what was flown": (yaml(YAML.replace("1}", "0.01}")), "stratum plain"),
    "strata that overlap": (
        yaml(
            f"strata: [{{name: a, polygon: {polygon(-100, -50, 100, 200)}}}, "
            f"{{name: b, polygon: {polygon(50, -50, 300, 200)}}}]\n"
        ),
        "overlap",
    ),
    "every transect outside the strata": (
        yaml(f"strata: [{{name: a, polygon: {polygon(5000, 0, 6000, 1000)}}}]\n"),
        # The second transect is 600 m east, and the stratum begins 5 km east.
        "lies 4.4 km from stratum a",
    ),
    "one camera for two models": (
        lambda folder: (
            yaml(YAML + "camera: {sensor_width_mm: 13.2, focal_mm: 8.8}\n")(folder),
            photo(folder / "images" / "T1" / "000.jpg", 0, 0, model="FC3411"),
        ),
        "they come from several (DJI FC3411, DJI FC6310R)",
    ),
    "photos and a map": (
        lambda folder: write_map(folder / "images" / "T1" / "map.tif"),
        "mixes orthomosaics (T1/map.tif) and photos",
    ),
    "no photo with a place": (
        each(lambda path: photo(path, 0, 0, place=(None, None))),
        "has a usable position (T1/000.jpg: no position",
    ),
    "no photo that can be read": (each(lambda path: path.write_bytes(b"")), "that cannot be read: "),
    "no photo that can be searched": (
        each(lambda path: path.write_bytes(path.read_bytes()[:-200])),
        "could be searched; the first: T1/000.jpg is truncated or damaged",
    ),
    "flights at 0, 0": (flights("T1/000.jpg,,0,0,64,0,"), "flights.csv line 2: lat 0, lon 0"),
    "flights below the ground": (flights("T1/000.jpg,,,,-3,0,"), "flights.csv line 2, column height_agl_m: -3 is"),
    "flights without number": (flights("T1/000.jpg,,nan,35,64,0,"), "flights.csv line 2, column lat: 'nan'"),
    "flights without end": (flights("T1/000.jpg,,,,inf,0,"), "flights.csv line 2, column height_agl_m: 'inf'"),
    "flights in 1980": (
        flights("T1/000.jpg,,,,64,0,1980-01-01T00:00:00"),
        "flights.csv line 2, column time: 1980-01-01T00:00:00 is of a clock",
    ),
    "a photo twice in flights": (flights("T1/000.jpg,,,,64,0,", "T1/000.jpg,,,,65,0,"), "in line 2 and in line 3"),
    "a row for two photos of one name": (flights("000.jpg,,,,64,0,"), "line 2: 000.jpg fits 2 photos"),
    "a DEM that is gone": (yaml(YAML + "height: {source: dem, dem: terrain.tif}\n"), "terrain.tif"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_survey_that_cannot_be_counted_is_refused(run: Run, survey: Path, case: str) -> None:
    mutate, words = REFUSED[case]
    mutate(survey)
    assert_refused(run(survey), words)


def assert_refused(census: Census, words: str) -> None:
    assert census.code == 2, census.err
    assert words in census.err
    assert sum(line.startswith("transect: ") for line in census.err.splitlines()) == 1
    assert "Traceback" not in census.err
    assert not list(census.folder.glob("*/manifest.json"))


OPTIONS: dict[str, tuple[str, str, str]] = {
    "an unknown key": ("gps_eror_m: 1\n", "", "census.yaml: gps_eror_m is not a key"),
    "no number": ("gps_error_m: .nan\n", "", "census.yaml: gps_error_m"),
    "a file for a folder": ("", "survey/survey.yaml", "Results cannot be written to survey/survey.yaml"),
    "below a file": ("", "survey/survey.yaml/out", "Not a directory"),
    "where nobody may write": ("", "/sys/results", "Results cannot be written to /sys/results"),
    "a name that is too long": ("", "a" * 10_000, "File name too long"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_cannot_be_used_are_refused(run: Run, survey: Path, tmp_path: Path, case: str) -> None:
    config, out, words = OPTIONS[case]
    (tmp_path / "census.yaml").write_text(config)
    options = ["--config", "census.yaml", *(["--out", out] if out else [])]
    assert_refused(run(survey, *options), words)


def test_what_is_no_survey_is_refused(run: Run, survey: Path, tmp_path: Path) -> None:
    assert_refused(run(tmp_path / "nowhere"), "nowhere does not exist")
    assert_refused(run(tmp_path / ("s" * 10_000)), "File name too long")
    assert run(survey).code == 0
    results = run(survey)
    assert results.code == 0
    again = run(results.results, "--out", str(tmp_path / "other"))
    assert again.code == 2
    assert "survey.yaml is missing: a survey folder holds survey.yaml and images/" in again.err


def write_map(path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.Affine(1, 0, ORIGIN[0], 0, -1, ORIGIN[1])
    profile = {"driver": "GTiff", "dtype": "uint8", "width": 64, "height": 64, "count": 3}
    with rasterio.open(path, "w", crs="EPSG:32736", transform=transform, **profile) as target:
        target.write(np.full((3, 64, 64), 90, np.uint8))


def write_bomb(path: Path) -> None:
    """A PNG of 2.5 thousand million pixels in a file of some kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def at_first(**told: Any) -> Callable[[Path], object]:
    """Write the first photo of T1 anew."""
    return lambda images: photo(images / "T1" / "000.jpg", told.pop("east", 0), 0, **told)


def add(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda images: (images / name).write_bytes(content)


# What is done to the photos, which file is listed, how, why, and how many of the eight photos still count.
LISTED: dict[str, tuple[Callable[[Path], object], str, str, str, int]] = {
    "EXIF at 0, 0": (at_first(place=(0.0, 0.0)), "T1/000.jpg", "unplaced", "no position", 7),
    "no position": (at_first(place=(None, None)), "T1/000.jpg", "unplaced", "no position", 7),
    "a continent away": (at_first(place=(-60.0, -1.5)), "T1/000.jpg", "unplaced", "T1/000.jpg", 7),
    "below the ground": (at_first(RelativeAltitude="-5.0"), "T1/000.jpg", "unplaced", "-5 m is impossible", 7),
    "a height that is no number": (at_first(RelativeAltitude="nan"), "T1/000.jpg", "unplaced", "no height", 7),
    "no heading": (at_first(GimbalYawDegree="nan"), "T1/000.jpg", "unplaced", "no heading", 7),
    "ten times as high": (at_first(RelativeAltitude="+640.0"), "T1/000.jpg", "suspect", "640 m above ground", 8),
    "to the horizon": (at_first(GimbalPitchDegree="-20"), "T1/000.jpg", "unplaced", "tilted camera", 7),
    "a camera that nobody knows": (at_first(make="Acme", model="X1"), "T1/000.jpg", "unplaced", "no camera", 7),
    "1980": (at_first(time=datetime(1980, 1, 6)), "T1/000.jpg", "remark", "clock was not set", 8),  # noqa: DTZ001
    "time backwards": (
        at_first(time=START + timedelta(seconds=5)), "T1/001.jpg", "suspect", "time runs backwards", 8,
    ),
    "faster than any aircraft": (
        lambda images: photo(images / "T1" / "003.jpg", 0, 3000, time=START + timedelta(seconds=14)),
        "T1/003.jpg", "suspect", "one of their positions or times is wrong", 8,
    ),
    "flights against EXIF": (
        lambda images: flights("T1/000.jpg,,-1.0,35.0,64,0,")(images.parent),
        "T1/000.jpg", "unplaced", "contradictory positions: EXIF and flights.csv line 2", 7,
    ),
    "a row without photo": (
        lambda images: flights(f"{'T9/' + 'x' * 9_000}.jpg,,-1.5,33,64,0,")(images.parent),
        "T9/" + "x" * 9_000 + ".jpg", "unused", "line 2 names a photo that is not below images/", 8,
    ),
    "a photo under two names": (
        lambda images: shutil.copy(images / "T1" / "000.jpg", images / "T2" / "copy.jpg"),
        "T2/copy.jpg", "duplicate", "the same photo as T1/000.jpg", 8,
    ),
    "an empty photo": (add("T1/empty.jpg", b""), "T1/empty.jpg", "unreadable", "0 bytes", 8),
    "a text": (add("T1/text.JPG", b"no photo"), "T1/text.JPG", "unreadable", "not an image", 8),
    "a truncated photo": (
        lambda images: (images / "T1" / "000.jpg").write_bytes((images / "T1" / "001.jpg").read_bytes()[:-200]),
        "T1/000.jpg", "unreadable", "truncated or damaged", 7,
    ),
    "a bomb": (lambda images: write_bomb(images / "T1" / "bomb.png"), "T1/bomb.png", "unreadable", "50000 x 50000", 8),
    "a link to nowhere": (
        lambda images: (images / "T1" / "gone.jpg").symlink_to("nowhere.jpg"),
        "T1/gone.jpg", "unreadable", "is a link to", 8,
    ),
    "a pipe": (lambda images: os.mkfifo(images / "T1" / "pipe.jpg"), "T1/pipe.jpg", "unreadable", "no regular file", 8),
    "a name with a line break": (
        add("T1/one\ntwo,\"three\".jpg", b""), "T1/one\ntwo,\"three\".jpg", "unreadable", "0 bytes", 8,
    ),
    "a name that is no UTF-8": (
        lambda images: Path(os.fsdecode(bytes(images) + b"/T1/caf\xe9.jpg")).write_bytes(b""),
        "T1/caf\\xe9.jpg", "unreadable", "0 bytes", 8,
    ),
    "the same ground twice": (
        lambda images: [
            photo(images / "T3" / f"{n}.jpg", 0, 32.0 * n, time=START + timedelta(hours=1, seconds=n)) for n in range(4)
        ],
        "T3", "transect", "no sample of its own", 12,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LISTED)
def test_what_cannot_be_used_is_listed_and_the_rest_is_counted(run: Run, survey: Path, case: str) -> None:
    mutate, file, kind, words, counted = LISTED[case]
    mutate(survey / "images")
    census = run(survey)
    assert census.code == 0, census.err
    listed = census.listed()
    assert list(listed) == [file]
    assert listed[file][0] == kind
    assert words in listed[file][1]
    manifest = json.loads((census.results / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["images"]["counted"] == counted
    estimates = json.loads((census.results / "estimate.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert {one["n"] for one in estimates["estimates"]} == {2}
    assert "1 file or row to check" in census.out
    report = (census.results / "report.html").read_text(encoding="utf-8")
    assert words.split("'")[0] in report


def test_a_transect_outside_the_strata_is_listed_and_in_no_estimate(run: Run, survey: Path) -> None:
    yaml(f"strata: [{{name: west, polygon: {polygon(-100, -50, 100, 200)}}}]\n")(survey)
    census = run(survey)
    assert census.listed() == {
        "T2": ("transect", "Transect T2 (4 photos) lies in no stratum; its animals are in no estimate.")
    }
    estimates = json.loads((census.results / "estimate.json").read_text())["estimates"]
    assert {one["n"] for one in estimates} == {1}
    assert all(one["ci95"] is None for one in estimates)


def test_a_transect_whose_photos_cannot_be_searched_is_listed(run: Run, survey: Path) -> None:
    for path in (survey / "images" / "T1").glob("*.jpg"):
        path.write_bytes(path.read_bytes()[:-200])
    census = run(survey)
    listed = census.listed()
    assert listed.pop("T1")[1].startswith("Transect T1 is no sample of stratum plain, since its photos there could not")
    assert [kind for kind, _ in listed.values()] == ["unreadable"] * 4
    estimates = json.loads((census.results / "estimate.json").read_text())["estimates"]
    assert all((one["n"], one["ci95"]) == (1, None) for one in estimates)


def test_photos_that_only_touch_share_no_ground(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "touching"
    for number in range(3):
        photo(folder / "images" / "T1" / f"{number}.jpg", 0, 64.0 * number)
        photo(folder / "images" / "T2" / f"{number}.jpg", 96.0, 64.0 * number)
    (folder / "survey.yaml").write_text(YAML + "camera: {sensor_width_mm: 13.2, focal_mm: 8.8}\n")
    census = run(folder)
    assert census.code == 0, census.err
    assert census.listed() == {}
    manifest = json.loads((census.results / "manifest.json").read_text())
    # Positions are written to a hundred-thousandth of a second of arc; the grid's scale is taken out.
    assert manifest["area_km2"] == pytest.approx(6 * 96 * 64 / 1e6, rel=1e-3)


def test_photos_of_one_name_in_two_folders_are_two(run: Run, survey: Path) -> None:
    census = run(survey)
    assert census.listed() == {}
    manifest = json.loads((census.results / "manifest.json").read_text())
    assert (manifest["images"]["found"], manifest["images"]["counted"]) == (8, 8)


@pytest.mark.parametrize(
    ("transects", "strata", "words"),
    [
        ("plain,T1,zebra,nan,3", "plain,180", "line 2"),
        ("plain,T1,zebra,4,inf", "plain,180", "line 2"),
        ("plain,T1,zebra,4,3", "plain,-inf", "line 2"),
        ("hill,T1,zebra,4,3", "plain,180", "'hill' is not a stratum"),
        ("plain,T1,zebra,400,3", "plain,180", "less than the 400 km2 of its transects"),
    ],
)
def test_tables_that_cannot_be_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    transects: str,
    strata: str,
    words: str,
) -> None:
    (tmp_path / "transects.csv").write_text(f"stratum,transect,species,area_km2,count\n{transects}\n")
    (tmp_path / "strata.csv").write_text(f"stratum,area_km2\n{strata}\n")
    arguments = [str(tmp_path / "transects.csv"), "--strata", str(tmp_path / "strata.csv")]
    monkeypatch.setattr(sys, "argv", ["transect", "census", "estimate", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
