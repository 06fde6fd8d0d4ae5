"""Capture time of a photo: the first readable one of EXIF's times, XMP's, and the GPS receiver's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from PIL.ExifTags import GPS, Base

from transect.imagery.metadata.exif import Broken, Rational, Value, text_of
from transect.imagery.metadata.times import read_offset, read_time

_DATE_ORIGINAL, _DATE_DIGITIZED = Base.DateTimeOriginal, Base.DateTimeDigitized
# Time, its fraction of a second, its offset from UTC (EXIF 2.32, table 8).
_EXIF_TIMES = (
    (_DATE_ORIGINAL, Base.SubsecTimeOriginal, Base.OffsetTimeOriginal),
    (_DATE_DIGITIZED, Base.SubsecTimeDigitized, Base.OffsetTimeDigitized),
    (Base.DateTime, Base.SubsecTime, Base.OffsetTime),
)
_XMP_TIMES = ("exif:DateTimeOriginal", "exif:DateTimeDigitized", "xmp:CreateDate", "photoshop:DateCreated")


@dataclass(frozen=True, kw_only=True)
class CaptureTime:
    """When a photo was taken (aware if an offset is written), the problem if no field can be read, and remarks."""

    taken_at: datetime | None = None
    problem: str = ""
    remarks: tuple[str, ...] = ()


def find_time(
    main: Mapping[int, Value], detail: Mapping[int, Value], gps: Mapping[int, Value], xmp: Mapping[str, str]
) -> CaptureTime:
    """The time from the first field that can be read.

    A field of zeros or blanks counts as absent: cameras with an unset clock write it.
    """
    problems: list[str] = []
    for name, text, offset in _written(main, detail, gps, xmp):
        if not text.strip(" :-/0T\x00"):
            continue
        moment = read_time(text)
        if moment is None:
            problems.append(f'{name} says "{text[:60]}", which is no time that can be read')
            continue
        remarks: tuple[str, ...] = (f"{problems[0]}; {name} is taken",) if problems else ()
        zone = read_offset(offset) if moment.tzinfo is None and offset.strip(" :+-\x00") else None
        if zone is not None:
            moment = moment.replace(tzinfo=zone)
        elif moment.tzinfo is None and offset.strip(" :+-\x00"):
            remarks += (f'the offset from UTC of {name} is "{offset[:20]}", which cannot be read; it has none',)
        return CaptureTime(taken_at=moment, remarks=remarks)
    return CaptureTime(problem=problems[0] if problems else "")


def _written(
    main: Mapping[int, Value], detail: Mapping[int, Value], gps: Mapping[int, Value], xmp: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    for tag, fraction_tag, offset_tag in _EXIF_TIMES:
        value = detail.get(tag, main.get(tag))
        if isinstance(value, Broken):
            yield f"EXIF {tag.name}", value.reason, ""
            continue
        text, fraction = text_of(value), text_of(detail.get(fraction_tag)).strip()
        if fraction.isascii() and fraction.isdecimal() and "." not in text and text[-3:-2] == ":":
            text = f"{text}.{fraction}"
        yield f"EXIF {tag.name}", text, text_of(detail.get(offset_tag))
    for key in _XMP_TIMES:
        yield f"XMP {key.partition(':')[2]}", xmp.get(key, ""), ""
    date, clock = text_of(gps.get(GPS.GPSDateStamp)).replace(" ", ":"), gps.get(GPS.GPSTimeStamp)
    if date and isinstance(clock, tuple) and not isinstance(clock, Broken) and len(clock) == 3:
        parts = [one.value if isinstance(one, Rational) else float(one) for one in clock]
        if None not in parts:
            hour, minute, second = (part or 0.0 for part in parts)
            yield "EXIF GPSTimeStamp", f"{date} {hour:02.0f}:{minute:02.0f}:{second:09.6f}Z", ""
