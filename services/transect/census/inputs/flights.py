"""flights.csv: a table of poses that wins over what the photos say themselves."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from transect.errors import SurveyError
from transect.imagery.times import read_time

# Lowest and highest that makes sense; beyond it a unit or a column is wrong.
_LIMITS = {
    "lat": (-84.0, 84.0),
    "lon": (-180.0, 180.0),
    "height_agl_m": (0.1, 20_000.0),
    "yaw_deg": (-360.0, 360.0),
    "pitch_deg": (-180.0, 180.0),
    "roll_deg": (-180.0, 180.0),
    "accuracy_m": (0.001, 1000.0),
}
COLUMNS = ("image", "transect", *_LIMITS, "time")
# Before it there was no digital camera in an aircraft; clocks that were not set say 1970 or 1980.
EARLIEST_YEAR = 1995
# The csv module has such a limit too, but any library may move it.
_LONGEST_CELL = 20_000


@dataclass(frozen=True)
class FlightRow:
    """One row; None where the cell is empty. Degrees, metres above ground, degrees clockwise from north.

    `pitch_deg` is -90 where the camera looks straight down, `roll_deg` 0 where the horizon is level; `accuracy_m` is
    the standard deviation of the position along each axis. `time` has an offset from UTC where the cell gives one.
    """

    line: int
    image: str
    transect: str | None = None
    lat: float | None = None
    lon: float | None = None
    height_agl_m: float | None = None
    yaw_deg: float | None = None
    time: datetime | None = None
    pitch_deg: float | None = None
    roll_deg: float | None = None
    accuracy_m: float | None = None


def read_flights(path: Path) -> tuple[FlightRow, ...]:
    """Read flights.csv; a file that does not exist has no rows.

    Raises SurveyError naming file, line and column for an unknown or missing column, a number that is
    none or out of range, a time that cannot be read, or an image that stands twice.
    """
    if not path.exists():
        return ()
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            _check_header(path, reader.fieldnames or ())
            rows = tuple(_row(path, reader.line_num, cells) for cells in reader)
    except OSError as error:
        raise SurveyError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SurveyError(f"{path} is not a CSV file in UTF-8: {error}.") from error
    seen: dict[str, int] = {}
    for row in rows:
        if row.image in seen:
            raise SurveyError(f"{path} names image {row.image} in line {seen[row.image]} and in line {row.line}.")
        seen[row.image] = row.line
    return rows


def match_flights(
    path: Path, rows: Sequence[FlightRow], images: Sequence[str]
) -> tuple[dict[str, FlightRow], tuple[FlightRow, ...]]:
    """Rows by photo name, and the rows that name no photo.

    A row names a photo by its path below images/, or by its file name alone where only one photo has it.
    Raises SurveyError where a file name fits several photos, or two rows fit one.
    """
    by_file: dict[str, list[str]] = {}
    for image in images:
        by_file.setdefault(image.rsplit("/", 1)[-1], []).append(image)
    known, found, unused = set(images), dict[str, FlightRow](), list[FlightRow]()
    for row in rows:
        wanted = row.image.replace("\\", "/").removeprefix("./").removeprefix("images/")
        matches = [wanted] if wanted in known else by_file.get(wanted, [])
        if not matches:
            unused.append(row)
        elif len(matches) > 1:
            raise SurveyError(
                f"{path} line {row.line}: {row.image} fits {len(matches)} photos; write its path below images/."
            )
        elif matches[0] in found:
            raise SurveyError(
                f"{path} names photo {matches[0]} in line {found[matches[0]].line} and in line {row.line}."
            )
        else:
            found[matches[0]] = row
    return found, tuple(unused)


def _check_header(path: Path, names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if "image" not in names:
        raise SurveyError(f"{path} has no column image; its columns are {', '.join(COLUMNS)}.")
    if unknown:
        raise SurveyError(f"{path} has an unknown column {unknown[0]!r}; its columns are {', '.join(COLUMNS)}.")
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if twice:
        raise SurveyError(f"{path} has the column {twice[0]} twice.")


def _row(path: Path, line: int, cells: Mapping[str | None, str | list[str] | None]) -> FlightRow:
    if None in cells:
        raise SurveyError(f"{path} line {line} has more cells than the header.")
    text = {str(name): str(cell or "").strip() for name, cell in cells.items()}
    if any(len(cell) > _LONGEST_CELL for cell in text.values()):
        raise SurveyError(f"{path} line {line} has a cell of more than {_LONGEST_CELL} letters; a quote is not closed.")
    if not text["image"]:
        raise SurveyError(f"{path} line {line} names no image.")
    lat, lon = _number(path, line, "lat", text), _number(path, line, "lon", text)
    if (lat is None) != (lon is None):
        raise SurveyError(f"{path} line {line} gives one of lat and lon; give both or neither.")
    if lat == 0 and lon == 0:
        raise SurveyError(f"{path} line {line}: lat 0, lon 0 is not where a photo was taken; leave both cells empty.")
    return FlightRow(
        line,
        text["image"],
        text.get("transect") or None,
        lat,
        lon,
        _number(path, line, "height_agl_m", text),
        _number(path, line, "yaw_deg", text),
        _time(path, line, text.get("time", "")),
        _number(path, line, "pitch_deg", text),
        _number(path, line, "roll_deg", text),
        _number(path, line, "accuracy_m", text),
    )


def _number(path: Path, line: int, column: str, text: Mapping[str, str]) -> float | None:
    cell = text.get(column, "")
    if not cell:
        return None
    low, high = _LIMITS[column]
    try:
        # Python reads 3_5 as 35; a slip of the hand is none.
        value = float(cell.replace("_", "?"))
    except ValueError as error:
        raise SurveyError(f"{path} line {line}: {column} is {cell!r}, which is not a number.") from error
    if not (math.isfinite(value) and low <= value <= high):
        raise SurveyError(f"{path} line {line}: {column} is {cell}, outside {low:g} to {high:g}.")
    return value


def _time(path: Path, line: int, cell: str) -> datetime | None:
    if not cell:
        return None
    moment = read_time(cell)
    if moment is None:
        raise SurveyError(
            f"{path} line {line}: time is {cell!r}; write it as 2026-07-14T09:30:00, with its offset from UTC "
            "(+03:00) where it is known."
        )
    if moment.year < EARLIEST_YEAR:
        raise SurveyError(
            f"{path} line {line}: time is {cell}, a clock that was not set; correct it or leave it empty."
        )
    return moment
