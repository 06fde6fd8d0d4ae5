"""Parse times as cameras, editors and spreadsheets write them.

Decisions on ambiguous forms:
- Year first, or day first with dots (`15.07.2025 10:00`). Day or month first with slashes is not read:
  `05/07/2025` and `07/05/2025` are ambiguous.
- A date without a time of day is not a time.
- The year 0000, as in `0000:00:00 00:00:00`, means that the camera's clock was never set: not a time.
- Hour 24 is not read: in ISO 8601 it is the end of the written day, on phones that count hours from 1 to 24 its
  beginning, a whole day apart.
- Second 60, a leap second, is the first second of the next minute, as POSIX time counts it.
- Fractions are truncated to six digits.
"""

import re
from datetime import UTC, datetime, timedelta, timezone

_CLOCK = (
    r"(?P<hour>[ \d]?\d):(?P<minute>[ \d]?\d)(?::(?P<second>[ \d]?\d)(?:[.,](?P<fraction>\d+))?)?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
)
_OFFSET = r"\s*(?P<offset>[Zz]|UTC|GMT|(?:UTC|GMT)?\s?[-+\u2212]\d{1,2}(?::?\d{2})?)?"
# java.time writes the zone's name after its offset.
_ZONE_NAME = r"(?:\[[\w/+-]+\])?"
_BETWEEN = r"(?:\s*[Tt]\s*|\s*,\s*|\s+)"
_FORMS = tuple(
    re.compile(rf"\s*{date}{clock}{_OFFSET}{_ZONE_NAME}\s*", re.ASCII)
    for date, clock in (
        (r"(?P<year>\d{4})(?P<mark>[-:/.])(?P<month>[ \d]?\d)(?P=mark)(?P<day>[ \d]?\d)", _BETWEEN + _CLOCK),
        (r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})", _BETWEEN + _CLOCK),
        (
            r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)",
            r"[Tt_ ]?(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?(?P<half>)",
        ),
    )
)
_OFFSET_PARTS = re.compile(r"(?:UTC|GMT)?\s?(?P<sign>[-+\u2212])(?P<hours>\d{1,2}?):?(?P<minutes>\d{2})?", re.ASCII)
# The offsets in use lie between -12:00 and +14:00.
_LARGEST_OFFSET = timedelta(hours=14)
# Longer texts are something else; the limit bounds the search.
_LONGEST = 100


def read_time(text: str) -> datetime | None:
    """Parse a time: EXIF's colons, hyphens, slashes, T or a blank, fractions, `Z`, `+03:00`, `+0300`.

    Aware if the text has an offset from UTC, else naive. None if it is not a time or ambiguous; see the module.
    """
    if len(text) > _LONGEST:
        return None
    text = text.strip("\x00 \t\r\n")
    found = next((match for form in _FORMS if (match := form.fullmatch(text))), None)
    if found is None:
        return None
    hour = _hour(int(found["hour"]), found["half"] or "")
    second = int(found["second"] or 0)
    if hour is None or second > 60:
        return None
    zone = read_offset(found["offset"]) if found["offset"] else None
    if found["offset"] and zone is None:
        return None
    try:
        moment = datetime(
            int(found["year"]),
            int(found["month"]),
            int(found["day"]),
            hour,
            int(found["minute"]),
            min(second, 59),
            int((found["fraction"] or "")[:6].ljust(6, "0")),
            tzinfo=zone,
        )
        return moment + timedelta(seconds=1) if second == 60 else moment
    except (ValueError, OverflowError):
        return None


def read_offset(text: str) -> timezone | None:
    """Parse an offset from UTC: `Z`, `UTC`, `+03:00`, `+0300`, `+3`. None if it is not one, or out of range."""
    text = text.strip("\x00 \t\r\n")
    if text.upper() in ("Z", "UTC", "GMT"):
        return UTC
    found = _OFFSET_PARTS.fullmatch(text)
    if found is None:
        return None
    minutes = int(found["minutes"] or 0)
    offset = timedelta(hours=int(found["hours"]), minutes=minutes)
    if minutes > 59 or offset > _LARGEST_OFFSET:
        return None
    return timezone(offset if found["sign"] == "+" else -offset)


def _hour(hour: int, half: str) -> int | None:
    if not half:
        return hour if hour < 24 else None
    if not 1 <= hour <= 12:
        return None
    return hour % 12 + (12 if half[0] in "Pp" else 0)
