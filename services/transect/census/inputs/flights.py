"""flights.csv: a table of poses, which takes precedence over the photos' metadata."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from transect.census.inputs.table import TableRow, folded, read_table
from transect.errors import SurveyError
from transect.imagery.metadata.times import read_time
from transect.pictures.kinds import kind_of_suffix

# Plausible ranges; beyond them a unit or a column is wrong.
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
# Before it there was no digital camera in an aircraft; clocks that were not set are at 1970 or 1980.
EARLIEST_YEAR = 1995
_ALIASES = {"latitude": "lat", "longitude": "lon"}


@dataclass(frozen=True, kw_only=True)
class FlightRow:
    """One row; None where the cell is empty. Degrees, metres above ground, degrees clockwise from north.

    `pitch_deg` is -90 at nadir, `roll_deg` 0 where the horizon is level; `accuracy_m` is the standard deviation of the
    position along each axis. `time` has an offset from UTC where the cell gives one.
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

    Raises SurveyError naming file, line and column for an unknown or missing column, a number that is invalid or out of
    range, a time that cannot be read, or a duplicate image.
    """
    if not path.exists():
        return ()
    table = read_table(path, ("image",), SurveyError, known=COLUMNS, aliases=_ALIASES)
    rows = tuple(_row(path, row) for row in table)
    seen: dict[str, int] = {}
    for row in rows:
        if row.image in seen:
            raise SurveyError(f"{path} names image {row.image} in line {seen[row.image]} and in line {row.line}.")
        seen[row.image] = row.line
    return rows


def match_flights(
    path: Path, rows: Sequence[FlightRow], images: Sequence[str]
) -> tuple[dict[str, FlightRow], tuple[FlightRow, ...]]:
    """Rows by photo name, and the rows that match no photo.

    A row matches a photo by its path below images/, or by its file name where only one photo has it. Remaining rows are
    matched without regard to case and Unicode form, and then to the suffix, where the match is unique. Raises
    SurveyError where a file name matches several photos, or two rows match one.
    """
    found, unmatched = dict[str, FlightRow](), list(rows)
    for normalise in (_exactly, folded, _without_suffix):
        by_path, by_file = _grouped(images, normalise, found)
        left = list[FlightRow]()
        for row in unmatched:
            wanted = normalise(row.image.replace("\\", "/").removeprefix("./").removeprefix("images/"))
            matches = by_path.get(wanted) or by_file.get(wanted, [])
            if len(matches) > 1 and normalise is _exactly:
                raise SurveyError(
                    f"{path} line {row.line}: {row.image} fits {len(matches)} photos; write its path below images/."
                )
            if len(matches) != 1:
                left.append(row)
                continue
            earlier = found.setdefault(matches[0], row)
            if earlier is not row:
                raise SurveyError(f"{path} names photo {matches[0]} in line {earlier.line} and in line {row.line}.")
        unmatched = left
    return found, tuple(unmatched)


def _grouped(
    images: Sequence[str], normalise: Callable[[str], str], found: dict[str, FlightRow]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The photos that have no row yet, by their path and by their file name."""
    by_path, by_file = dict[str, list[str]](), dict[str, list[str]]()
    for image in images:
        if image not in found:
            name = normalise(image)
            by_path.setdefault(name, []).append(image)
            by_file.setdefault(name.rsplit("/", 1)[-1], []).append(image)
    return by_path, by_file


def _exactly(name: str) -> str:
    return name


def _without_suffix(name: str) -> str:
    name = folded(name)
    return name.rpartition(".")[0] if kind_of_suffix(name) is not None else name


def _row(path: Path, row: TableRow) -> FlightRow:
    line, text = row.line, row.cells
    if not text["image"]:
        raise row.problem("image", "the row names no image")
    numbers = {column: _number(row, column) for column in _LIMITS}
    lat, lon = numbers["lat"], numbers["lon"]
    if (lat is None) != (lon is None):
        raise SurveyError(f"{path} line {line} gives one of lat and lon; give both or neither.")
    if lat == 0 and lon == 0:
        raise SurveyError(f"{path} line {line}: lat 0, lon 0 is not where a photo was taken; leave both cells empty.")
    moment = _time(row)
    return FlightRow(line=line, image=text["image"], transect=text.get("transect") or None, time=moment, **numbers)


def _number(row: TableRow, column: str) -> float | None:
    value, (low, high) = row.number(column), _LIMITS[column]
    if value is not None and not low <= value <= high:
        raise row.problem(column, f"{row.cells[column]} is outside {low:g} to {high:g}")
    return value


def _time(row: TableRow) -> datetime | None:
    cell = row.cells.get("time", "")
    if not cell:
        return None
    moment = read_time(cell)
    if moment is None:
        raise row.problem(
            "time",
            f"{cell!r} is no time that can be read; write it as 2026-07-14T09:30:00, with its offset from UTC "
            "(+03:00) where it is known",
        )
    if moment.year < EARLIEST_YEAR:
        raise row.problem("time", f"{cell} is of a clock that was not set; correct it or leave it empty")
    return moment
