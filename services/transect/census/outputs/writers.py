"""JSON and CSV of any length: written record by record, whole or absent."""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from transect.files import atomic_path

_JSON = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
_ROW_END = "\r\n"
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")


def encode(value: Any) -> str:
    """`value` as JSON in one line; NaN and infinity raise ValueError, since JSON has neither."""
    return _JSON.encode(value)


def write_json(path: Path, head: Mapping[str, Any], lists: Mapping[str, Iterable[str]]) -> None:
    """Write one JSON object: the members of `head`, then lists whose items are JSON already, one a line.

    The lists may be generators: one item at a time is in memory.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        opening = "{\n"
        for key, value in head.items():
            stream.write(f"{opening}{encode(key)}:{encode(value)}")
            opening = ",\n"
        for key, items in lists.items():
            stream.write(f"{opening}{encode(key)}:[")
            between = "\n"
            for item in items:
                stream.write(f"{between}{item}")
                between = ",\n"
            stream.write("\n]")
            opening = ",\n"
        stream.write("\n}\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file in UTF-8; None is an empty cell, and a text that a spreadsheet would compute is escaped."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(_LineFeedWriter(stream))
        writer.writerow(columns)
        writer.writerows([escape_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)


@dataclass(frozen=True)
class _LineFeedWriter:
    """Ends rows with a line feed; csv's own `lineterminator` would leave a carriage return in a cell unquoted."""

    stream: TextIO

    def write(self, row: str) -> int:
        return self.stream.write(f"{row.removesuffix(_ROW_END)}\n")


def escape_formula(text: str) -> str:
    """A text as a spreadsheet shows it instead of computing it: with an apostrophe before `=`, `+`, `-`, `@` or a tab.

    File and folder names come from strangers, and a cell that begins so is a formula, which may fetch and send
    (OWASP, CSV Injection). Numbers stay. `unescape_formula` is the inverse.
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unescape_formula(text: str) -> str:
    """The inverse of `escape_formula`."""
    return text[1:] if _GUARDED.match(text) else text
