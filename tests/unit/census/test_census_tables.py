"""Tables as spreadsheets of every language save them, and rows that find their photos all the same."""

import unicodedata
from pathlib import Path

import pytest

from transect.census.inputs.flights import FlightRow, match_flights, read_flights
from transect.census.transect_table import read_count_table
from transect.errors import InputError, SurveyError

COMMAS = "image,lat,lon,height_agl_m\na.jpg,-1.4971,35.1052,60\n"
SEMICOLONS = "image;lat;lon;height_agl_m\na.jpg;-1,4971;35,1052;60\n"


@pytest.mark.parametrize(
    "content",
    [
        COMMAS.encode(),
        SEMICOLONS.encode(),
        SEMICOLONS.replace(",", ".").encode(),
        SEMICOLONS.replace(";", "\t").encode(),
        b"sep=;\r\n" + SEMICOLONS.replace("\n", "\r\n").encode(),
        b"sep=,\n" + COMMAS.encode(),
        b'image,lat,lon,height_agl_m\n"a.jpg","-1,4971","35,1052","60,0"\n',
        b"\xef\xbb\xbfImage, lat,Lon ,HEIGHT_AGL_M\na.jpg, -1.4971 ,35.1052,60\n",
        "image\u00a0,lat,lon,height_agl_m\na.jpg,\u22121.4971,35.1052\u00a0,60\n".encode(),
        COMMAS.encode("utf-16"),
        SEMICOLONS.encode("utf-16-le"),
        SEMICOLONS.encode("utf-16-be"),
        SEMICOLONS.replace("\n", "\r").encode(),
        b"image,lat,lon,height_agl_m,,\n,,,,,\n\na.jpg,-1.4971,35.1052,60,,\n,,,,,\n",
        b"image,latitude,Longitude,height_agl_m\na.jpg,-1.4971,35.1052,60\n",
    ],
)
def test_a_table_says_the_same_in_every_form(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "flights.csv"
    path.write_bytes(content)
    (row,) = read_flights(path)
    assert (row.image, row.height_agl_m) == ("a.jpg", 60)
    assert [row.lat, row.lon] == pytest.approx([-1.4971, 35.1052], abs=1e-9)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\3\4rest", "is a spreadsheet and no text"),
        (b"image,lat,lon\na.jpg,-1,497,35,105\n", "line 2 has 5 cells, and the header line 3 columns; .* semicolons"),
        (b'image,lat,lon\na.jpg,"-1,497","35,105"\n', "line 2, column lat: '-1,497' could be thousands"),
        (b"image;height_agl_m\na.jpg;1.234,5\n", "line 2, column height_agl_m: '1.234,5' has a mark between thousands"),
        (b"image;height_agl_m\na.jpg;1 234\n", "has a mark between thousands"),
        ("image,lat\na.jpg,1.5°\n".encode(), "line 2, column lat: '1.5°' is not a number; write digits alone"),
        (b"image,height_agl\na.jpg,60\n", "unknown column 'height_agl'; did you mean height_agl_m"),
        (b"image,lat,latitude\na.jpg,1,1\n", "names the column lat twice"),
        (b"image,,lat\na.jpg,x,1\n", "'x' stands in column 2, which has no name"),
        (b"sep=;\nimage;lat\n\na.jpg;north\n", "line 4, column lat"),
        (b"", "is empty"),
        (b'image,lat\n"a.jpg,1\n', "is not CSV"),
    ],
)
def test_what_cannot_be_read_names_line_and_column(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "flights.csv"
    path.write_bytes(content)
    with pytest.raises(SurveyError, match=words):
        read_flights(path)


def test_names_in_windows_letters_are_read(tmp_path: Path) -> None:
    path = tmp_path / "flights.csv"
    path.write_bytes("image;transect\nsüd.jpg;Fläche 1\n".encode("cp1252"))
    (row,) = read_flights(path)
    assert (row.image, row.transect) == ("süd.jpg", "Fläche 1")


def matched(rows: list[str], images: list[str]) -> tuple[dict[str, str], list[str]]:
    table = [FlightRow(line=line, image=image) for line, image in enumerate(rows, start=2)]
    found, unused = match_flights(Path("flights.csv"), table, images)
    return {name: row.image for name, row in found.items()}, [row.image for row in unused]


@pytest.mark.parametrize("written", ["a1.JPG", "A1.jpg", "a1", "A1.jpeg", "T1/A1", "t1\\a1.JPG", "images/T1/a1"])
def test_a_row_finds_its_photo_in_another_case_or_suffix(written: str) -> None:
    assert matched([written], ["T1/a1.jpg", "T1/a2.jpg"]) == ({"T1/a1.jpg": written}, [])


def test_both_forms_of_unicode_are_one_name() -> None:
    composed, parts = "Süd/ä.jpg", unicodedata.normalize("NFD", "Süd/ä.jpg")
    assert matched([composed], [parts]) == ({parts: composed}, [])
    assert matched([parts], [composed]) == ({composed: parts}, [])


def test_what_could_be_several_photos_is_no_match() -> None:
    assert matched(["a"], ["a.jpg", "a.tif"]) == ({}, ["a"])
    assert matched(["A.JPG"], ["T1/a.jpg", "T2/a.jpg"]) == ({}, ["A.JPG"])
    assert matched(["a.jpg", "A.jpg"], ["a.jpg", "A.jpg"]) == ({"a.jpg": "a.jpg", "A.jpg": "A.jpg"}, [])
    assert matched(["a.jpg", "a.tif"], ["a.jpg"]) == ({"a.jpg": "a.jpg"}, ["a.tif"])
    assert matched(["IMG.2025"], ["IMG.jpg"]) == ({}, ["IMG.2025"])
    with pytest.raises(SurveyError, match="line 2 and in line 3"):
        matched(["a.JPG", "A.jpg"], ["a.jpg"])


def test_counts_and_strata_are_read_by_the_same_rules(tmp_path: Path) -> None:
    transects, strata = tmp_path / "t.csv", tmp_path / "s.csv"
    transects.write_bytes("sep=;\nStratum;Transect;Species;Area_km2;Count\nSüd;1;zebra;4,5;12\n;;;;\n".encode("cp1252"))
    strata.write_text("stratum\tAREA_KM2\nSüd\t180,25\n", encoding="utf-16")
    (sample,) = read_count_table(transects, strata).samples["zebra"]
    assert (sample.stratum, sample.stratum_km2) == ("Süd", 180.25)
    strata.write_text("stratum;area_km2\nSüd;1.234,5\n")
    with pytest.raises(InputError, match=r"line 2, column area_km2: '1\.234,5' has a mark between thousands"):
        read_count_table(transects, strata)
