"""JSON and CSV that are written record by record."""

import csv
import json
import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transect.census.outputs.writers import encode, escape_formula, unescape_formula, write_csv, write_json

TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams") / "file"


@given(head=st.dictionaries(st.text("abc", max_size=3), VALUES, max_size=3), items=st.lists(VALUES, max_size=5))
def test_json_reads_back_as_it_was(path: Path, head: dict[str, object], items: list[object]) -> None:
    write_json(path, head, {"first": (encode(item) for item in items), "second": iter(())})
    assert json.loads(path.read_text(encoding="utf-8")) == head | {"first": items, "second": []}


def test_json_has_an_item_a_line(path: Path) -> None:
    write_json(path, {"kind": "é"}, {"items": ("1", '{"a":2}')})
    assert path.read_text(encoding="utf-8") == '{\n"kind":"é",\n"items":[\n1,\n{"a":2}\n]\n}\n'


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_json_has_no_nan(path: Path, number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode({"score": number})


def test_a_file_that_fails_halfway_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    write_json(path, {}, {"items": ["1"]})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {}, {"items": (encode(number) for number in (1.0, math.nan))})
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["list.json"]


@given(st.lists(st.tuples(TEXT, TEXT), max_size=4))
@example([("a\rb", "\n")])
@example([("=1+1", "'=1+1"), ("-5", "+1,5"), ("@a", "\tb"), ("-", "''-x"), ('say "a", b\r\n', "")])
def test_csv_reads_back_as_it_was(path: Path, rows: list[tuple[str, str]]) -> None:
    write_csv(path, ("a", "b"), rows)
    with path.open(encoding="utf-8", newline="") as stream:
        header, *read = list(csv.reader(stream))
    assert header == ["a", "b"]
    assert [tuple(unescape_formula(cell) for cell in row) for row in read] == rows


@given(TEXT)
def test_no_text_is_a_formula_in_a_spreadsheet(text: str) -> None:
    cell = escape_formula(text)
    if cell[:1] in tuple("=+-@\t\r"):
        float(cell.replace(",", "."))
    assert unescape_formula(cell) == text


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ('=HYPERLINK("http://a","b").jpg', '\'=HYPERLINK("http://a","b").jpg'),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("-12.5", "-12.5"),
        ("+7", "+7"),
        ("T1/a=b.jpg", "T1/a=b.jpg"),
        ("", ""),
    ],
)
def test_what_strangers_named_is_guarded(text: str, cell: str) -> None:
    assert escape_formula(text) == cell


def test_numbers_and_empty_cells_stay(path: Path) -> None:
    write_csv(path, ("a", "b", "c"), [(-1.5, None, "-x"), (0.1, 7, "")])
    assert path.read_text(encoding="utf-8") == "a,b,c\n-1.5,,'-x\n0.1,7,\n"
