"""decisions.csv as people and spreadsheets leave it: read right, or refused in one sentence with file and line."""

import csv
import dataclasses
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from review_batches import BLIND, CROPS, ONE, OTHER, SIZES, Sample, make_sample
from transect.errors import InputError
from transect.review.decisions.decision import AddedBox
from transect.review.exchange.incoming.read import read_decisions
from transect.review.exchange.known import DecisionFile
from transect.review.exchange.outgoing.export import export_batch
from transect.review.exchange.terms import COLUMNS

Row = dict[str, str]
UUID = "0b3f3d1e-7c57-4d0a-9a55-6a8f8f1f2a10"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def handed(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """The rows that were handed out: the boxes 0, 3, 5 and 6, then the photos ONE and BLIND."""
    folder = tmp_path_factory.mktemp("out")
    export_batch(sample.batch, folder, "files", max_pixels=None)
    return list(csv.DictReader(folder.joinpath("decisions.csv").read_text(encoding="utf-8-sig").splitlines()))


def filled(handed: list[Row], cells: Mapping[int, Row], *more: Row) -> str:
    """The table with cells filled in by the number of the row, and more rows at its end."""
    rows = [one | cells.get(number, {}) for number, one in enumerate(handed)] + list(more)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def read(text: str | bytes, folder: Path, sample: Sample, reviewer: str | None = "ann") -> DecisionFile:
    path = folder / "decisions.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_decisions(path, sample.known, reviewer=reviewer)


def animal(image: str, species: str = "cow", **more: str) -> Row:
    return {"item": "added", "image": image, "species": species, "x1": "5", "y1": "6", "x2": "25", "y2": "30"} | more


EVERYTHING: Mapping[int, Row] = {
    0: {"verdict": "keep", "seconds": "2.5", "decided_at": "2026-11-30T09:15:00+02:00", "uuid": UUID},
    1: {"verdict": "Reject", "reviewer": "bob", "note": "a stone; grey"},
    2: {"verdict": "species", "new_species": "Cow"},
    3: {"verdict": "duplicate"},
    4: {"verdict": "done", "seconds": "41"},
    5: {"verdict": "done"},
}


def whole(handed: list[Row]) -> str:
    return filled(handed, EVERYTHING, animal(ONE), animal(BLIND, "sheep"), animal(BLIND, before_reveal="no"))


def test_a_table_says_all_that_people_decide(sample: Sample, handed: list[Row], tmp_path: Path) -> None:
    found = read(whole(handed), tmp_path, sample)
    assert (found.format, found.remarks) == ("csv", ())
    assert found.given == {UUID}
    said = [
        (sample.keys.index(one.box_key), one.verdict, one.species, one.reviewer, one.note) for one in found.decisions
    ]
    assert said == [
        (0, "keep", "", "ann", ""),
        (3, "reject", "", "bob", "a stone; grey"),
        (5, "species", "cow", "ann", ""),
        (6, "duplicate", "", "ann", ""),
    ]
    first = found.decisions[0]
    assert (first.uuid, first.milliseconds, str(first.decided_at)) == (UUID, 2500, "2026-11-30 07:15:00+00:00")
    one, blind = found.searches
    assert (one.photo_sha256, one.blind, one.drawn, one.milliseconds) == (sample.photos[ONE], False, "sample", 41000)
    assert one.added == (AddedBox(box=(5.0, 6.0, 25.0, 30.0), species="cow"),)
    assert (blind.photo_sha256, blind.blind) == (sample.photos[BLIND], True)
    # What a reader marks in a blind photo was seen before the boxes were shown, unless the row says otherwise.
    assert [(made.species, made.before_reveal) for made in blind.added] == [("cow", False), ("sheep", True)]


@pytest.mark.parametrize(
    "spreadsheet",
    [
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-le"),
        lambda text: semicolons(text).encode("utf-8-sig"),
        lambda text: semicolons(text).replace("\n", "\r\n").encode("cp1252"),
        lambda text: b"sep=;\r\n" + semicolons(text).encode(),
        lambda text: "\t".join(text.split(",")).replace('"', "").encode("utf-16"),
        lambda text: text.replace("\n", "\r").encode(),
    ],
    ids=["utf-16", "utf-16 without a mark", "semicolons", "cp1252", "sep=", "unicode text", "old mac"],
)
def test_spreadsheets_are_read_as_they_save(
    sample: Sample, handed: list[Row], tmp_path: Path, spreadsheet: Callable[[str], bytes]
) -> None:
    plain = read(whole(handed), tmp_path, sample)
    assert read(spreadsheet(whole(handed)), tmp_path, sample) == plain


def semicolons(text: str) -> str:
    """As a spreadsheet of a country with decimal commas saves it."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=";", lineterminator="\n")
    for row in csv.reader(text.splitlines()):
        writer.writerow([re.sub(r"^(\d+)\.(\d+)$", r"\1,\2", cell) for cell in row])
    return stream.getvalue()


def test_any_order_of_rows_and_columns_says_the_same(sample: Sample, handed: list[Row], tmp_path: Path) -> None:
    rows = list(csv.DictReader(whole(handed).splitlines()))
    stream = io.StringIO(newline="")
    # The key must stand where a row that was cut off lacks it.
    writer = csv.DictWriter(stream, [*sorted(set(COLUMNS) - {"key"}), "key"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(reversed(rows))
    found, plain = read(stream.getvalue(), tmp_path, sample), read(whole(handed), tmp_path, sample)
    assert set(found.decisions) == set(plain.decisions)
    assert set(found.searches) == set(plain.searches)


def test_an_untouched_table_decides_nothing(sample: Sample, handed: list[Row], tmp_path: Path) -> None:
    found = read(filled(handed, {}), tmp_path, sample, None)
    assert (found.decisions, found.searches) == ((), ())
    assert found.remarks == (f"{tmp_path}/decisions.csv decides nothing: none of its 6 rows has a verdict.",)


def test_two_people_may_decide_one_box(sample: Sample, handed: list[Row], tmp_path: Path) -> None:
    second = handed[0] | {"verdict": "reject", "reviewer": "bob"}
    found = read(filled(handed, {0: {"verdict": "keep"}}, second), tmp_path, sample)
    assert [(one.reviewer, one.verdict) for one in found.decisions] == [("ann", "keep"), ("bob", "reject")]
    assert found.decisions[0].uuid != found.decisions[1].uuid


def test_a_box_reaches_at_most_a_hair_beyond_its_photo(sample: Sample, handed: list[Row], tmp_path: Path) -> None:
    edge = animal(ONE, x1="-0.4", y1="200", x2="40", y2="240.9")
    found = read(filled(handed, {4: {"verdict": "done"}}, edge), tmp_path, sample)
    assert found.searches[0].added[0].box == (0.0, 200.0, 40.0, 240.0)


# The first row of the table is line 2.
BAD: dict[str, tuple[Mapping[int, Row], tuple[Row, ...], str]] = {
    "another census": ({2: {"verdict": "keep", "key": "ab" * 32}}, (), "line 4: the box 'abababababab' is none of"),
    "cut key": ({2: {"verdict": "keep", "key": "abab"}}, (), "line 4: the box 'abab' .*; it was cut off or changed"),
    "no key": ({2: {"verdict": "keep", "key": ""}}, (), "line 4, column key: the cell is empty; the row was cut off"),
    "photo of another census": ({4: {"verdict": "done", "key": "cd" * 32, "image": "x.jpg"}}, (), "line 6, column key"),
    "photo changed": ({4: {"verdict": "done", "key": "cd" * 32}}, (), "line 6: T1/a ü.jpg has changed: the file is of"),
    "verdict": ({0: {"verdict": "yes"}}, (), "line 2: 'yes' is no verdict; the verdicts are keep, reject, species"),
    "photo's verdict": ({4: {"verdict": "keep"}}, (), "line 6, column verdict: 'keep' is not done"),
    "species": ({0: {"verdict": "species", "new_species": "gnu"}}, (), "line 2: 'gnu' is no species of the review"),
    "no species": ({0: {"verdict": "species"}}, (), "line 2, column new_species: the verdict species needs"),
    "same species": ({0: {"verdict": "species", "new_species": "sheep"}}, (), "line 2, .* is of sheep already"),
    "no verdict": ({0: {"new_species": "cow"}}, (), "line 2, column verdict: the row names a new species"),
    "contradiction": ({0: {"verdict": "keep", "new_species": "cow"}}, (), "line 2, .*keep contradicts"),
    "species written over": (
        {0: {"verdict": "keep", "species": "cow"}},
        (),
        "line 2, column species: the box is of sh",
    ),
    "sorted apart": ({0: {"verdict": "keep", "image": CROPS}}, (), "line 2, column image: 'big.jpg' is not"),
    "item": ({0: {"item": "crop"}}, (), "line 2, column item: 'crop' is none of box, photo, added"),
    "seconds": ({0: {"verdict": "keep", "seconds": "-1"}}, (), "line 2, column seconds: -1 is less than no time"),
    "time": ({0: {"verdict": "keep", "decided_at": "noon"}}, (), "line 2, column decided_at: 'noon' is no time"),
    "uuid": ({0: {"verdict": "keep", "uuid": "7"}}, (), "line 2, column uuid: '7' is no uuid"),
    "uuid twice": (
        {0: {"verdict": "keep", "uuid": UUID}, 1: {"verdict": "keep", "uuid": UUID}},
        (),
        "line 3, column uuid: .* is that of line 2 too",
    ),
    "flag": ({4: {"verdict": "done", "blind": "maybe"}}, (), "line 6, column blind: 'maybe' is neither yes nor no"),
    "outside": ({4: {"verdict": "done"}}, (animal(ONE, x2="170"),), "line 8: the box 5, 6, 170, 30 reaches outside of"),
    "no area": ({4: {"verdict": "done"}}, (animal(ONE, x2="5"),), "line 8: the box 5, 6, 5, 30 has no area"),
    "no corner": ({4: {"verdict": "done"}}, (animal(ONE, y2=""),), "line 8, column y2: an added animal needs all four"),
    "corner": ({4: {"verdict": "done"}}, (animal(ONE, y2="nan"),), "line 8, column y2: 'nan' is not a finite number"),
    "added species": ({4: {"verdict": "done"}}, (animal(ONE, "gnu"),), "line 8: 'gnu' is no species of the review"),
    "added no species": ({4: {"verdict": "done"}}, (animal(ONE, ""),), "line 8, column species: an added animal needs"),
    "added image": ({4: {"verdict": "done"}}, (animal("a ü.jpg"),), "line 8, column image: 'a ü.jpg' is no photo"),
    "not searched": (
        {4: {"verdict": "done"}},
        (animal(OTHER),),
        "line 8 adds an animal to T2/a ü.jpg, whose row photo",
    ),
    "not open": (
        {4: {"verdict": "done"}},
        (animal(ONE, before_reveal="yes"),),
        "line 8, column before_reveal: the phot",
    ),
    "not the searcher": (
        {4: {"verdict": "done", "reviewer": "bob"}},
        (animal(ONE, reviewer="eve"),),
        "line 8, column reviewer: eve has not marked T1/a ü.jpg done",
    ),
    "added verdict": (
        {4: {"verdict": "done"}},
        (animal(ONE, verdict="keep"),),
        "line 8, column verdict: an added anim",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_one_sentence_with_file_and_line(
    sample: Sample, handed: list[Row], tmp_path: Path, name: str
) -> None:
    cells, more, message = BAD[name]
    with pytest.raises(InputError, match=message) as caught:
        read(filled(handed, cells, *more), tmp_path, sample)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/decisions.csv line ")
    assert text.endswith(".")
    assert "\n" not in text


def test_the_same_item_twice_by_one_person_is_refused(sample: Sample, handed: list[Row], tmp_path: Path) -> None:
    for number, verdict in ((0, "keep"), (4, "done")):
        again = handed[number] | {"verdict": verdict, "reviewer": "ann"}
        with pytest.raises(InputError, match=rf"line 8 decides the same as line {number + 2}, by ann too; keep one"):
            read(filled(handed, {number: {"verdict": verdict}}, again), tmp_path, sample)


def test_nobody_named_is_refused(sample: Sample, handed: list[Row], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 2, column reviewer: nobody is named; .* with --reviewer"):
        read(filled(handed, {0: {"verdict": "keep"}}), tmp_path, sample, None)


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_table_that_was_cut_off_is_refused_or_says_what_it_has(
    sample: Sample, handed: list[Row], tmp_path: Path, separator: str
) -> None:
    text = filled(handed, EVERYTHING)
    text = text if separator == "," else semicolons(text)
    plain = read(text, tmp_path, sample)
    refused: list[str] = []
    for length in range(text.index("\n") + 1, len(text)):
        try:
            found = read(text[:length], tmp_path, sample)
        except InputError as error:
            refused.append(str(error))
            continue
        # Whole rows alone, as they were meant.
        assert set(found.decisions) <= set(plain.decisions)
        assert set(found.searches) <= set(plain.searches)
    # A cut at the end of a row cannot be told from a shorter table.
    assert len(refused) >= len(text) - text.index("\n") - 4 * text.count("\n")
    assert all(one.startswith(f"{tmp_path}/decisions.csv line ") for one in refused)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; export the decisions again"),
        (b"PK\3\4" + b"\0" * 40, "is a spreadsheet and no text, whatever its name says"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\0", "is no text file"),
        (b"item,verdict\nbox,keep\n", "line 1 lacks the column key"),
        (b"item,verdict,verdict,key\n", "verdict"),
        (b"item,verdikt,verdict,key\n", "unknown column 'verdikt'; did you mean verdict"),
        (b'item,verdict,key\nbox,"keep,', "line 2"),
        (b'[{"a": 1}]', "is JSON of no known format"),
        (b'{"images": [', "line 1 column 13 is not JSON"),
        (b"<svg/>", "line 1 begins with <svg>, not with <annotations>"),
        (b"<annotations><image", "line 1 is not XML"),
        (b"<!DOCTYPE a><annotations/>", "line 1 defines a document type"),
    ],
)
def test_a_file_of_another_kind_is_one_sentence(sample: Sample, tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(content, tmp_path, sample)
    text = str(caught.value)
    assert message in text
    assert text.startswith(f"{tmp_path}/decisions.csv ")
    assert "\n" not in text


def test_a_zip_archive_is_to_be_unpacked(sample: Sample, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("annotations.xml", "<annotations/>")
    with pytest.raises(InputError, match=r"is a ZIP archive; unpack it, .* \(annotations\.xml\)\."):
        read_decisions(tmp_path / "out.zip", sample.known, reviewer="ann")
    with pytest.raises(InputError, match=r"gone\.csv cannot be read"):
        read_decisions(tmp_path / "gone.csv", sample.known)


def test_a_photo_that_changed_on_disk_is_noticed(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "images")
    export_batch(sample.batch, tmp_path / "out", "files", max_pixels=None)
    handed = list(csv.DictReader((tmp_path / "out/decisions.csv").read_text(encoding="utf-8-sig").splitlines()))
    photos = {key: dataclasses.replace(one, path=sample.folder / one.image) for key, one in sample.known.photos.items()}
    here = dataclasses.replace(sample, known=dataclasses.replace(sample.known, photos=photos))
    Image.new("RGB", SIZES[CROPS]).save(sample.folder / CROPS)
    (sample.folder / OTHER).unlink()
    # The photo of box 5 changed; that of box 3 is not at hand, which is no reason to refuse.
    with pytest.raises(InputError, match=r"line 4 decides on big\.jpg, whose file .* has changed since the census"):
        read(filled(handed, EVERYTHING), tmp_path, here)
    assert len(read(filled(handed, {1: {"verdict": "keep"}}), tmp_path, here).decisions) == 1
