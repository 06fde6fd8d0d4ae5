"""YAML that people write: what it means, and the sentence for what cannot be."""

from pathlib import Path

import pytest

from transect.config_files import YamlMapping, read_yaml_mapping, read_yaml_value, unknown_key
from transect.errors import DatasetError, InputError, SurveyError


def _read(tmp_path: Path, content: str | bytes) -> YamlMapping:
    path = tmp_path / "f.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_yaml_mapping(path, SurveyError)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-7", 1e-7),
        ("1e5", 100000.0),
        ("-1.5E+3", -1500.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("1_000", 1000),
        ("0x1F", 31),
        ("+3", 3),
        ("2025-07-15", "2025-07-15"),
        ("2026-02-30", "2026-02-30"),
        ("12:30", "12:30"),
        ("12:30:01.5", "12:30:01.5"),
        ("1.2.3", "1.2.3"),
        ("12e4567", "12e4567"),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("'1e-7'", "1e-7"),
        ('"010"', "010"),
        ("!!str 7", "7"),
        ("!!float 7", 7.0),
        ("=", "="),
        ("[1, a, 1e-3]", [1, "a", 0.001]),
        ("|-\n  two\n  lines", "two\nlines"),
    ],
)
def test_values_are_what_people_mean(tmp_path: Path, text: str, value: object) -> None:
    found = _read(tmp_path, f"a: {text}\n")["a"]
    assert found == value
    assert type(found) is type(value)
    assert read_yaml_value(text, "override") == value


def test_keys_are_names_or_whole_numbers(tmp_path: Path) -> None:
    read = _read(tmp_path, "names: {0: zebra, 1: cow}\nno: x\n2025-07-15: y\n1.10: z\n")
    assert read == {"names": {0: "zebra", 1: "cow"}, "no": "x", "2025-07-15": "y", "1.10": "z"}


def test_a_merge_gives_what_the_mapping_leaves_open(tmp_path: Path) -> None:
    text = "b: &b {x: 1, y: 2}\nc: &c {y: 5, z: 6}\nd:\n  y: 3\n  <<: *b\ne: {<<: [*b, *c]}\n"
    read = _read(tmp_path, text)
    assert read["d"] == {"x": 1, "y": 3}
    assert read["e"] == {"x": 1, "y": 2, "z": 6}
    assert read.where("d", "y") == "line 4, column 3"
    assert read.where("d", "x") == "line 1, column 8"


def test_everything_has_its_place(tmp_path: Path) -> None:
    read = _read(tmp_path, "a: 1\nb:\n  c: [x,\n      y]\n  d: 1.10\n  e:\n")
    assert [read.where(*keys) for keys in (("a",), ("b", "c"), ("b", "c", 1), ("b", "d"), ("b", "e"))] == [
        "line 1, column 1",
        "line 3, column 3",
        "line 4, column 7",
        "line 5, column 3",
        "line 6, column 3",
    ]
    assert read.where("b", "gone", 3) == "line 2, column 1"
    assert read.where("gone") == ""
    assert (read.text("b", "d"), read["b"]["d"]) == ("1.10", 1.1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('a: 1\n"a": 2\n', "is not valid YAML at line 2, column 1: 'a' stands in line 1 already; keep one of the two."),
        ("a:\n  - {b: {c: 1, c: 2}}\n", "line 2, column 16: 'c' stands in line 2 already"),
        ("1: a\n'1': b\n", "line 2, column 1: '1' stands in line 1 already"),
        ("10: a\n1_0: b\n", "line 2, column 1: '10' stands in line 1 already"),
        ("0x1: a\n1: b\n", "line 2, column 1: '1' stands in line 1 already"),
        ("b: &b {x: 1}\nc:\n  <<: *b\n  <<: *b\n", "line 4, column 3: '<<' stands in line 3 already"),
        ("b: &b {x: 1, x: 2}\nc: {<<: *b}\n", "line 1, column 14: 'x' stands in line 1 already"),
        ("1: a\n01: b\n", "has 01 with a leading zero, which some read as octal"),
        ("a: 010\n", "write it without, or in quotes as text (line 1, column 4)."),
        ("a:\n\tb: 1\n", "at line 2, column 1: a tab stands where only spaces may"),
        ("a: 1\n  b: 2\n", "at line 2, column 4: a second `: ` in one line, or an indentation"),
        ("a:\n    b: 1\n  c: 2\n", "at line 3, column 3: the indentation"),
        ("a: [1, 2\nb: 3\n", "at line 2, column 2: a bracket is not closed, or a comma is missing."),
        ("a: 'x\n", "a quote or a bracket that was opened is not closed."),
        (
            "a: *.jpg\n",
            "at line 1, column 5: `*` and `&` begin an alias or an anchor; put text that begins with them in quotes",
        ),
        ("a: *jpg\n", "at line 1, column 4: an alias (*) names no anchor (&) above it"),
        ("a: &a [*a]\n", "holds a value that contains itself"),
        ("a: !!python/object/apply:os.system [touch ran]\n", "has the tag !!python/object/apply:os.system, and only"),
        ("a: !!binary aGVsbG8=\n", "has the tag !!binary, and only plain values"),
        ("a: !foo x\n", "has the tag !foo, and only plain values may stand in it"),
        ("!!python/name:os.system x: 1\n", "has the tag !!python/name:os.system"),
        ("a: !!int x\n", "has the value 'x', which is not of its tag !!int (line 1, column 4)."),
        ("a: !!map 3\n", "(line 1, column 4)."),
        ("a: @x\n", "at line 1, column 4: text that begins with @ must be in quotes."),
        ("a: {{ x }}\n", "has a list or a mapping for a key"),
        ("? [a]\n: 1\n", "has a list or a mapping for a key"),
        ("~ : 1\n'': 2\n", "has a value without a key before the colon"),
        ("---\na: 1\n---\nb: 2\n", "holds several documents (---); keep one (line 3, column 1)."),
        ("- 1\n", "it must hold `key: value` lines, not a list (line 1, column 1)."),
        ("word\n", "not 'word' (line 1, column 1)."),
        ("[" * 5000, "column 51: it is nested too deeply to be read."),
        ("a: " + "9" * 5000, "holds a value that cannot be read: a number of 5000 digits (line 1, column 4)."),
        ("a: x\nb: \x01\n", "at line 2, column 4: the character U+0001 may not stand in it."),
        ('a: "\\UFFFFFFFF"\n', "a character that does not exist"),
        ('a: "C:\\x"\n', "a backslash between double quotes means something else"),
        ("a: é\n".encode("latin-1"), "is not UTF-8 text: byte 0xe9 at line 1, column 4; save it as UTF-8."),
        ("é: 1\nb: é\n".encode()[:-2], "is not UTF-8 text: byte 0xc3 at line 2, column 4"),
        ("a: b\n".encode("utf-16-le"), "is not UTF-8 text: it holds zero bytes"),
        (b"a: 1\n" + b"# " + b"x" * 2_000_000, "is larger than 2 MB"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_its_place(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(SurveyError) as caught:
        _read(tmp_path, content)
    assert str(caught.value).startswith(str(tmp_path / "f.yaml"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("ran").exists()


def test_a_bomb_of_aliases_is_refused_and_not_written_out(tmp_path: Path) -> None:
    rows = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(SurveyError, match="holds more than 200,000 values when its aliases are written out"):
        _read(tmp_path, "a: &a [x, x]\n" + "".join(rows))
    merges = [f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(SurveyError, match="holds more than 200,000 values"):
        _read(tmp_path, "a: &a {x: 1}\n" + "".join(merges))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_of_unicode_are_understood(tmp_path: Path, encoding: str) -> None:
    assert _read(tmp_path, "a: é斑马\r\nb: 2\r\n".encode(encoding)) == {"a": "é斑马", "b": 2}


@pytest.mark.parametrize("content", ["", "\n", "# nothing\n", "---\n", "{}"])
def test_an_empty_file_is_an_empty_mapping(tmp_path: Path, content: str) -> None:
    assert _read(tmp_path, content) == {}


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "it is a folder"), ("gone.yaml", "No such file"), ("x" * 5000, "File name too long"), ("a\0b", "null byte")],
)
def test_what_cannot_be_opened_is_named_with_what_to_do(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(DatasetError, match=f"^Recipe .* cannot be read: .*{said}.*; configs/train holds some\\.$"):
        read_yaml_mapping(tmp_path / name, DatasetError, "Recipe", "configs/train holds some")


def test_one_value_follows_the_same_rules() -> None:
    with pytest.raises(InputError, match=r"^Override 'x' is not valid YAML at line 1, column 8: 'a' stands"):
        read_yaml_value("{a: 1, a: 2}", "Override 'x'")


def test_the_nearest_key_is_named() -> None:
    known = {"epochs", "imgsz", "lr0"}
    assert unknown_key("epoch", known, "a recipe") == "'epoch' is not a key of a recipe; did you mean epochs?"
    assert unknown_key("EPOCHS", known, "a recipe").endswith("did you mean epochs?")
    assert unknown_key("zzz", known, "a recipe").endswith("known are epochs, imgsz, lr0")
    assert unknown_key(3, known, "a recipe").startswith("'3' is not a key")
