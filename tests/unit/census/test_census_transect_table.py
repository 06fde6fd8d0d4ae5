from collections.abc import Callable
from pathlib import Path

import pytest

from transect.census.transect_table import read_count_table
from transect.errors import InputError

HEADER = "stratum,transect,species,area_km2,count\n"
STRATA = "stratum,area_km2\nplain,180\nhill,40\n"

Write = Callable[..., tuple[Path, Path]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(transects: str | bytes, strata: str | bytes = STRATA) -> tuple[Path, Path]:
        paths = tmp_path / "transects.csv", tmp_path / "strata.csv"
        for path, content in zip(paths, (transects, strata), strict=True):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return paths

    return written


def test_a_transect_without_a_row_counts_none(write: Write) -> None:
    table = read_count_table(
        *write(HEADER + "plain,1,zebra,4,12\nplain,2,zebra,3,5\nplain,2,gnu,3,1\nplain,3,,2.5,\nhill,1,gnu,1,0\n")
    )
    assert list(table.samples) == ["zebra", "gnu"]
    plain, hill = table.samples["gnu"]
    assert (plain.stratum, plain.counts, plain.areas) == ("plain", (0, 1, 0), (4, 3, 2.5))
    assert (hill.stratum, hill.counts, hill.stratum_km2, hill.transects_possible) == ("hill", (0,), 40, None)
    assert table.samples["zebra"][0].counts == (12, 5, 0)


def test_transects_possible_may_be_given_for_some(write: Write) -> None:
    strata = "area_km2,stratum,transects_possible,remark\n180,plain,40,\n40,hill,,steep\n"
    table = read_count_table(*write(HEADER + "plain,1,zebra,4,12\n", strata))
    assert [sample.transects_possible for sample in table.samples["zebra"]] == [40, None]
    assert table.samples["zebra"][1].areas == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_write_is_read(write: Write, encoding: str) -> None:
    text = "stratum;transect;species;area_km2;count\r\nplain; 1 ;Böhm's zebra;4.5;12\r\n\r\n"
    table = read_count_table(*write(text.encode(encoding)))
    assert table.samples["Böhm's zebra"][0].areas == (4.5,)


def test_quoted_cells_and_whole_floats_are_read(write: Write) -> None:
    table = read_count_table(*write(HEADER + 'plain,"1, north",zebra,4,12.0\n'))
    assert table.samples["zebra"][0].counts == (12,)


def test_names_that_differ_in_spelling_alone_are_one(write: Write) -> None:
    rows = "plain,T1,Bu\u0308ffel,4,12\nPLAIN,t 2,b\u00fcffel,3,5\nPlain,T  2,gnu,3,1\nhill,1,GNU,1,2\n"
    table = read_count_table(*write(HEADER + rows, "stratum,area_km2\nPlain,180\nHill ,40\n"))
    assert list(table.samples) == ["Bu\u0308ffel", "gnu"]
    assert [(one.stratum, one.counts, one.areas) for one in table.samples["gnu"]] == [
        ("Plain", (0, 1), (4, 3)),
        ("Hill", (2,), (1,)),
    ]
    assert table.samples["Bu\u0308ffel"][0].counts == (12, 5)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("plain,9,zebra,4,-1", "line 3, column count: -1 animals are fewer than none"),
        ("plain,9,zebra,4,2.5", "line 3, column count: 2.5 is not a whole number"),
        ("plain,9,zebra,4,", "line 3, column count: the cell is empty"),
        ("plain,9,zebra,4,nan", "line 3, column count: 'nan' is not a finite number"),
        ("plain,9,zebra,4,1e999", "line 3, column count: '1e999' is not a finite number"),
        ("plain,9,zebra,4,many", "line 3, column count: 'many' is not a number"),
        ("plain,9,zebra,0,4", "line 3, column area_km2: an area of 0 km2 is not above zero"),
        ("plain,9,zebra,-2,4", "line 3, column area_km2: an area of -2 km2"),
        ("plain,9,zebra,inf,4", "line 3, column area_km2: 'inf' is not a finite number"),
        ('plain,9,zebra,"4,500",4', "could be thousands or a decimal comma"),
        ("plian,9,zebra,4,4", "did you mean 'plain'"),
        ("sea,9,zebra,4,4", "which has plain, hill"),
        (",9,zebra,4,4", "line 3, column stratum: the cell is empty"),
        ("plain,,zebra,4,4", "line 3, column transect: the cell is empty"),
        ("plain,9,,4,4", "line 3, column species: 4 animals of no species"),
        ("plain,1,zebra,4,4", "line 3, column species: 'zebra' on transect '1' is also on line 2"),
        ("plain,1,Zebra,4,4", "line 3, column species: 'Zebra' on transect '1' is also on line 2"),
        ("plain,1,gnu,5,4", "line 3, column area_km2: transect '1' has 5 km2 here and 4 km2 on line 2"),
        ("plain,9,zebra,4", "line 3 has 4 cells, and the header line 5 columns"),
        ("plain,9,zebra,4,4,4", "line 3 has 6 cells"),
        ('plain,9,"zebra,4,4', "is not CSV"),
    ],
)
def test_a_bad_row_is_named(write: Write, row: str, said: str) -> None:
    with pytest.raises(InputError, match=r"transects\.csv line") as caught:
        read_count_table(*write(f"{HEADER}plain,1,zebra,4,12\n{row}\n"))
    assert said in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("strata", "said"),
    [
        ("stratum,area_km2\nplain,180\nplain,40\n", "line 3, column stratum: 'plain' is also on line 2"),
        ("stratum,area_km2\nplain,180\nPlain,40\n", "line 3, column stratum: 'Plain' is also on line 2"),
        ("stratum,area_km2\nplain,0\n", "line 2, column area_km2: an area of 0 km2"),
        ("stratum,area_km2\nplain,x\n", "line 2, column area_km2: 'x' is not a number"),
        ("stratum,area_km2\nplain,3\n", "line 2, column area_km2: stratum 'plain' has 3 km2, less than the 4 km2"),
        ("stratum,area_km2,transects_possible\nplain,180,0\n", "line 2, column transects_possible: 0 is less than"),
        ("stratum,area_km2,transects_possible\nplain,180,nan\n", "column transects_possible: 'nan' is not a finite"),
        ("stratum,area\nplain,180\n", "line 1 lacks the column area_km2"),
        ("stratum,area_km2,stratum\nplain,180,x\n", "line 1 names the column stratum twice"),
        ("stratum,area_km2\n", "names no stratum"),
        ("", "strata.csv is empty"),
    ],
)
def test_a_bad_stratum_is_named(write: Write, strata: str, said: str) -> None:
    with pytest.raises(InputError, match=r"strata\.csv") as caught:
        read_count_table(*write(HEADER + "plain,1,zebra,4,12\n", strata))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (HEADER.encode(), "names no species"),
        (HEADER.encode() + b"plain,1,,4,\n", "names no species"),
        (b"PK\x03\x04\x00\x00", "is a spreadsheet and no text"),
        (b"stratum,transect,species,count\nplain,1,zebra,4\n", "lacks the column area_km2"),
    ],
)
def test_a_bad_file_is_named(write: Write, content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=r"transects\.csv") as caught:
        read_count_table(*write(content))
    assert said in str(caught.value)


def test_a_missing_file_is_named(write: Write, tmp_path: Path) -> None:
    _, strata = write(HEADER)
    with pytest.raises(InputError, match=r"nowhere\.csv cannot be read"):
        read_count_table(tmp_path / "nowhere.csv", strata)
