"""The CSV reader for handwritten and spreadsheet tables: poses, counts and strata.

Rules:
- The separator is that of `sep=` in the first line, else the header's most frequent of comma, semicolon and tab.
- Text is UTF-8, UTF-16 by its byte order mark or zero bytes, else Windows-1252, which contains Latin-1's letters.
- Column names are compared without regard to case and surrounding blanks. Empty rows are skipped.
- A comma is a decimal comma where commas do not separate, and in a quoted cell of a table with commas, except before
  three digits, which could be thousands.

The rows are read by hand and not by a pydantic model: what a cell means depends on the table's separator, and what is
wrong with a number (a unit, a mark between thousands, either of two decimal signs) is what the user has to be told.
"""

import csv
import difflib
import io
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transect.errors import InputError
from transect.wording import count_of

# The csv module's own limit is global, and any library may change it.
_LONGEST_CELL = 20_000
_SEPARATORS = ",;\t"
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?", re.ASCII)
_GROUPED = re.compile(
    r"[-+]?\d{1,3}(([.,' \u00a0\u202f]\d{3})+[.,]\d*|([' \u00a0\u202f]\d{3})+|([.,]\d{3}){2,})", re.ASCII
)
_UNCLEAR = re.compile(r"[-+]?\d{1,3},\d{3}", re.ASCII)


@dataclass(frozen=True)
class TableRow:
    """A line of a table: `line` is its number in the file, from 1; `cells` are without blanks around them."""

    path: Path
    line: int
    cells: Mapping[str, str]
    separator: str
    failure: type[InputError]

    def problem(self, column: str, what: str) -> InputError:
        """The error that names file, line and column."""
        return self.failure(f"{self.path} line {self.line}, column {column}: {what}.")

    def number(self, column: str) -> float | None:
        """A finite number with a decimal point or comma; None where the cell is empty or absent.

        Raises `failure` for anything else.
        """
        cell = self.cells.get(column, "")
        if not cell:
            return None
        text = cell.replace("\u2212", "-")
        if _GROUPED.fullmatch(text):
            raise self.problem(column, f"{cell!r} has a mark between thousands; write the number without")
        if self.separator == "," and _UNCLEAR.fullmatch(text):
            raise self.problem(column, f"{cell!r} could be thousands or a decimal comma; write decimals with a point")
        if not _NUMBER.fullmatch(text):
            finite = "finite " if text.lstrip("+-").lower() in ("nan", "inf", "infinity") else ""
            raise self.problem(column, f"{cell!r} is not a {finite}number; write digits alone, without a unit")
        value = float(text.replace(",", "."))
        if not math.isfinite(value):
            raise self.problem(column, f"{cell!r} is not a finite number")
        return value

    def text(self, column: str) -> str:
        """A required cell. Raises `failure` for an empty one."""
        if not self.cells[column]:
            raise self.problem(column, "the cell is empty")
        return self.cells[column]

    def amount(self, column: str) -> float:
        """A required number. Raises `failure` for an empty cell."""
        self.text(column)
        value = self.number(column)
        return math.nan if value is None else value

    def area(self, column: str) -> float:
        """Square kilometres above zero. Raises `failure` for anything else."""
        value = self.amount(column)
        if value <= 0:
            raise self.problem(column, f"an area of {value:g} km2 is not above zero")
        return value

    def count(self, column: str) -> int:
        """A whole number of animals, none or more. Raises `failure` for anything else."""
        value = self.amount(column)
        if value < 0:
            raise self.problem(column, f"{value:g} animals are fewer than none")
        if value != int(value):
            raise self.problem(column, f"{value:g} is not a whole number of animals")
        return int(value)


def read_table(
    path: Path,
    required: Sequence[str],
    failure: type[InputError],
    *,
    known: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
    whole_rows: bool = False,
    whole_end: bool = False,
) -> tuple[TableRow, ...]:
    """The rows of a table in order. `known` are all columns that it may have, empty for any; `aliases` other names.

    With `whole_rows` a row must have a cell for each column; else missing ones are empty. `whole_end` asks the same of
    a last row that no line end follows: a file that is written in part ends so. Raises `failure`, naming file and line,
    for a file that is no table, a missing, duplicate or unknown column, and cells without a column.
    """
    text = read_text(path, failure)
    first, _, rest = text.partition("\n")
    marker = re.fullmatch(r'"?sep=(.)"?[,;\t]*\r?', first, re.IGNORECASE)
    skipped = 1 if marker else 0
    text = rest if marker else text
    header = re.sub(r'"[^"]*"', "", text.lstrip("\r\n").partition("\n")[0])
    separator = marker[1] if marker else max(_SEPARATORS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, columns = list[TableRow](), list[str]()
    lines = text.count("\n") + 1 + skipped
    try:
        for cells in reader:
            line, values = reader.line_num + skipped, [_bare(cell) for cell in cells]
            if not any(values):
                continue
            if columns:
                last = whole_end and line == lines and not text.endswith("\n")
                named = _named(f"{path} line {line}", columns, values, failure, whole=whole_rows or last)
                rows.append(TableRow(path, line, named, separator, failure))
            else:
                columns = [(aliases or {}).get(value.lower(), value.lower()) for value in values]
                while not columns[-1]:
                    columns.pop()
                _check_columns(f"{path} line {line}", columns, required, known, failure)
    except csv.Error as error:
        raise failure(f"{path} line {reader.line_num + skipped} is not CSV: {error}.") from error
    if not columns:
        raise failure(f"{path} is empty: its first line names the columns {','.join(required)}.")
    return tuple(rows)


def folded(name: str) -> str:
    """A key for names that ignores case and the composition of accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _bare(cell: str) -> str:
    return cell.strip().strip("\ufeff\u200b").strip()


def _named(
    where: str, columns: Sequence[str], values: list[str], failure: type[InputError], *, whole: bool
) -> dict[str, str]:
    if any(len(value) > _LONGEST_CELL for value in values):
        raise failure(f"{where} has a cell of more than {_LONGEST_CELL} letters; a quote is not closed.")
    if any(values[len(columns) :]) or (whole and len(values) < len(columns)):
        raise failure(
            f"{where} has {count_of(len(values), 'cell')}, and the header line {count_of(len(columns), 'column')}; "
            "where decimals are written with commas, separate the columns with semicolons."
        )
    filled = [*values, *[""] * (len(columns) - len(values))][: len(columns)]
    for number, (column, value) in enumerate(zip(columns, filled, strict=True), start=1):
        if value and not column:
            raise failure(f"{where}: {value!r} stands in column {number}, which has no name.")
    return {column: value for column, value in zip(columns, filled, strict=True) if column}


def _check_columns(
    where: str, columns: Sequence[str], required: Sequence[str], known: Sequence[str], failure: type[InputError]
) -> None:
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise failure(f"{where} names the column {twice[0]} twice.")
    for name in required:
        if name not in columns:
            raise failure(
                f"{where} lacks the column {name}: it must name {','.join(required)}, and names {','.join(columns)}."
            )
    unknown = [name for name in columns if name and known and name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        meant = f"; did you mean {near[0]}?" if near else f"; its columns are {', '.join(known)}."
        raise failure(f"{where} has an unknown column {unknown[0]!r}{meant}")


def read_text(path: Path, failure: type[InputError]) -> str:
    """The text of a file in any encoding that read_table knows, with `\\n` alone at the ends of lines.

    Raises `failure` for a file that is missing or no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise failure(f"{path} cannot be read: {error.strerror or error}.") from error
    if content.startswith((b"PK\3\4", b"\xd0\xcf\x11\xe0")):
        raise failure(f"{path} is a spreadsheet and no text, whatever its name says; save the sheet as CSV (UTF-8).")
    encoding = _encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        # Some bytes are undefined in Windows-1252; Latin-1 defines all.
        text = content.decode("latin-1") if encoding == "cp1252" else ""
    if "\0" in text or (content and not text):
        raise failure(f"{path} is no text file; save the table as CSV in UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _encoding(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    head = content[:200]
    if len(head) >= 4 and len(content) % 2 == 0:
        if not any(head[1::2]) and all(head[0::2]):
            return "utf-16-le"
        if not any(head[0::2]) and all(head[1::2]):
            return "utf-16-be"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"
