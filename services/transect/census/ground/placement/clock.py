"""The time of each photo, on one clock for the whole survey. Pure.

`flights.csv` takes precedence over the photo. A time with an offset from UTC is absolute; one without is local to an
unknown zone. Absolute times are written with the offset that most of them have. The offset of a local clock follows
from photos for which both the camera and flights.csv give a time, from survey.yaml's `utc_offset`, or from the offset
of the other times; each decision is reported in a note.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from statistics import median

from transect.census.ground.placement.frames import SourceFile
from transect.census.inputs.flights import EARLIEST_YEAR
from transect.errors import SurveyError
from transect.wording import count_of

# A clock with a later year was never set; offsets would overflow near datetime's last year.
_LATEST_YEAR = 2100
# The difference of two clocks that are read to a second is constant within this, for this share of the photos.
_STEADY_S = 5.0
_STEADY_SHARE = 0.9
_QUARTER_S = 900.0
# The file of a note on times that only the photos give.
_PHOTOS = "images"

Note = tuple[str, str]


@dataclass(frozen=True)
class Clock:
    """Times by photo, all with an offset from UTC or all without; the reason why a photo has none; and decisions.

    Each of `notes` is the source of the times (flights.csv or the photos' folder), and a sentence.
    """

    times: Mapping[str, datetime]
    remarks: Mapping[str, str]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class _PhotoTimes:
    """The times of one photo by flights.csv and by its metadata, and the camera whose clock the latter is of."""

    by_row: datetime | None
    by_photo: datetime | None
    camera: str
    line: int
    remark: str

    @property
    def time(self) -> datetime | None:
        return self.by_photo if self.by_row is None else self.by_row


def sortable(moment: datetime | None) -> tuple[bool, datetime]:
    """A key to sort times by, with an offset from UTC or without one; those that are None last."""
    return moment is None, datetime.min.replace(tzinfo=UTC) if moment is None else _utc(moment)


def unify_clocks(files: Sequence[SourceFile], flights: Path, utc_offset: timezone | None = None) -> Clock:
    """The times of all photos on one clock. `utc_offset` is that of every time that is written without one.

    Raises SurveyError where rows of `flights` lack the offset that other times have, and it cannot be derived.
    """
    photo_times = {file.name: _photo_times(file, utc_offset) for file in files}
    used = {name: time for name, one in photo_times.items() if (time := one.time) is not None}
    remarks = {name: one.remark for name, one in photo_times.items() if one.remark and name not in used}
    aware = [time for time in used.values() if _has_offset(time)]
    if not aware:
        times, beside = _align_to_flights(photo_times, used)
        return Clock(times, remarks, tuple((flights.name, one) for one in beside))
    zone, several = _common_zone(aware)
    source = (
        flights.name
        if any(photo_times[name].by_row is not None for name, time in used.items() if _has_offset(time))
        else _PHOTOS
    )
    notes: tuple[Note, ...] = tuple((source, one) for one in several)
    if len(aware) < len(used):
        used, without_time, more = _resolve_offsets(photo_times, used, flights, zone)
        remarks, notes = remarks | without_time, (*notes, *more)
    return Clock({name: time.astimezone(zone) for name, time in used.items()}, remarks, notes)


def _photo_times(file: SourceFile, utc_offset: timezone | None) -> _PhotoTimes:
    row, metadata = file.row, file.metadata
    by_row = row.time if row is not None else None
    # The date in a map is that of its creation.
    by_photo = metadata.taken_at if not file.is_map and not file.failure else None
    remark = ""
    if by_photo is not None and not EARLIEST_YEAR <= by_photo.year <= _LATEST_YEAR:
        remark = f"it says that it was taken on {by_photo:%Y-%m-%d}: the camera's clock was not set, so it has no time."
        by_photo = None
    elif by_photo is None and not file.is_map and metadata.time_problem:
        remark = f"it has no time: {metadata.time_problem}."
    camera = f"{metadata.make or ''} {metadata.model or ''}".strip() or "the camera"
    return _PhotoTimes(
        _with_offset(by_row, utc_offset),
        _with_offset(by_photo, utc_offset),
        camera,
        0 if row is None else row.line,
        remark,
    )


def _with_offset(moment: datetime | None, offset: timezone | None) -> datetime | None:
    return moment if moment is None or offset is None or _has_offset(moment) else moment.replace(tzinfo=offset)


def _has_offset(moment: datetime) -> bool:
    return moment.utcoffset() is not None


def _utc(moment: datetime) -> datetime:
    """The time in UTC; a local time as if it were UTC."""
    return moment.astimezone(UTC) if _has_offset(moment) else moment.replace(tzinfo=UTC)


def _offset_text(zone: timezone) -> str:
    return "UTC" if not zone.utcoffset(None) else datetime(2000, 1, 1, tzinfo=zone).isoformat()[19:]


def _common_zone(aware: Sequence[datetime]) -> tuple[timezone, tuple[str, ...]]:
    """The offset that most times are written with, and a sentence where there are several."""
    offsets = Counter(time.utcoffset() or timedelta() for time in aware)
    most = max(offsets, key=lambda offset: (offsets[offset], -abs(offset), offset))
    zone = timezone(most)
    if len(offsets) == 1:
        return zone, ()
    parts = ", ".join(f"{_offset_text(timezone(one))}: {count_of(offsets[one], 'photo')}" for one in sorted(offsets))
    return zone, (
        f"Times are written with several offsets from UTC ({parts}); all are put on the clock of {_offset_text(zone)}.",
    )


def _resolve_offsets(
    photo_times: Mapping[str, _PhotoTimes], used: Mapping[str, datetime], flights: Path, zone: timezone
) -> tuple[dict[str, datetime], dict[str, str], tuple[Note, ...]]:
    """Times without an offset made absolute: the times, the reason why a photo has none, and the decisions."""
    times = {name: time for name, time in used.items() if _has_offset(time)}
    without_time, notes = dict[str, str](), list[Note]()
    from_rows = [name for name, time in used.items() if not _has_offset(time) and photo_times[name].by_row is not None]
    if from_rows:
        shift = _constant_shift(
            -seconds
            for seconds in _clock_differences(photo_times.values(), row_has_offset=False, photo_has_offset=True)
        )
        if shift is None:
            line = photo_times[from_rows[0]].line
            raise SurveyError(
                f"{flights} line {line} gives a time without an offset from UTC, and other times of "
                f"the survey have one; write it with its offset, such as 2026-07-14T09:30:00+03:00, or set utc_offset "
                "in survey.yaml."
            )
        times |= {name: _shifted(used[name], shift) for name in from_rows}
        how = f"by the photos that have both, its clock shows {_offset_text(_zone_of(shift))}"
        notes.append((flights.name, f"Its times have no offset from UTC, and those of photos have one; {how}."))
    cameras: dict[str, list[str]] = {}
    for name, time in used.items():
        if not _has_offset(time) and photo_times[name].by_row is None:
            cameras.setdefault(photo_times[name].camera, []).append(name)
    local = [time for name, time in times.items() if photo_times[name].by_row is None]
    for camera, names in sorted(cameras.items()):
        who = f"{count_of(len(names), 'photo')} of {camera}"
        alike = (one for one in photo_times.values() if one.camera == camera)
        shift = _constant_shift(_clock_differences(alike, row_has_offset=True, photo_has_offset=False))
        source = flights.name if shift is not None or not local else _PHOTOS
        if shift is not None:
            how = f"by the photos that have both, that clock shows {_offset_text(_zone_of(shift))}"
        elif local or zone.utcoffset(None):
            assumed = _common_zone(local)[0] if local else zone
            shift = -assumed.utcoffset(None).total_seconds()
            how = f"they are taken to show {_offset_text(assumed)}, as most others do; if not, set utc_offset"
        else:
            for name in names:
                without_time[name] = (
                    "it has no time: the camera's clock names no offset from UTC, and other times of the survey are in "
                    "UTC; set utc_offset in survey.yaml."
                )
            continue
        times |= {name: _shifted(used[name], shift) for name in names}
        notes.append((source, f"The times of {who} have no offset from UTC, and others have one; {how}."))
    return times, without_time, tuple(notes)


def _align_to_flights(
    photo_times: Mapping[str, _PhotoTimes], used: Mapping[str, datetime]
) -> tuple[dict[str, datetime], tuple[str, ...]]:
    """Times without offsets, with cameras' times shifted to the clock of flights.csv where it has times of photos."""
    times, notes = dict(used), list[str]()
    if all(one.by_row is None for one in photo_times.values()):
        return times, ()
    cameras: dict[str, list[str]] = {}
    for name in used:
        if photo_times[name].by_row is None:
            cameras.setdefault(photo_times[name].camera, []).append(name)
    for camera, names in sorted(cameras.items()):
        alike = (one for one in photo_times.values() if one.camera == camera)
        differences = _clock_differences(alike, row_has_offset=False, photo_has_offset=False)
        if not differences or median(map(abs, differences)) <= _STEADY_S:
            continue
        who = f"{count_of(len(names), 'photo')} of {camera}"
        shift = _constant_shift(differences)
        if shift is None:
            notes.append(
                f"{who} have no time in flights.csv, and their own clock keeps no steady distance from that of "
                "flights.csv, by the photos that have both; give all of them a time there."
            )
            continue
        times |= {name: used[name] + timedelta(seconds=shift) for name in names}
        notes.append(
            f"{who} have no time in flights.csv; their own, which differ from those of flights.csv by {shift:+g} s "
            f"where a photo has both, are put on its clock."
        )
    return times, tuple(notes)


def _clock_differences(
    photo_times: Iterable[_PhotoTimes], *, row_has_offset: bool, photo_has_offset: bool
) -> list[float]:
    """Seconds that flights.csv is ahead of the camera, for photos whose two times have or lack offsets as given."""
    return [
        (_utc(one.by_row) - _utc(one.by_photo)).total_seconds()
        for one in photo_times
        if one.by_row is not None
        and one.by_photo is not None
        and _has_offset(one.by_row) is row_has_offset
        and _has_offset(one.by_photo) is photo_has_offset
    ]


def _constant_shift(differences: Iterable[float]) -> float | None:
    """The difference of two clocks in seconds, a whole quarter of an hour if close to one; None if not constant."""
    seconds = list(differences)
    if not seconds:
        return None
    middle = median(seconds)
    if sum(abs(one - middle) <= _STEADY_S for one in seconds) < _STEADY_SHARE * len(seconds):
        return None
    whole = round(middle / _QUARTER_S) * _QUARTER_S
    return whole if abs(middle - whole) <= _STEADY_S else middle


def _shifted(moment: datetime, seconds: float) -> datetime:
    return _utc(moment) + timedelta(seconds=seconds)


def _zone_of(shift: float) -> timezone:
    """The offset from UTC of a clock that is UTC after `shift` seconds are added, to the minute."""
    return timezone(timedelta(minutes=max(-1439, min(1439, round(-shift / 60)))))
