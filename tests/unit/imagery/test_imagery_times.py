"""A moment is read from every common way to write it, and from no other."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.imagery.metadata.times import read_offset, read_time

TEN = datetime(2025, 7, 15, 10, 0, 0)  # noqa: DTZ001  a camera's clock has no zone
NAIROBI = timezone(timedelta(hours=3))


@pytest.mark.parametrize(
    "text",
    [
        "2025:07:15 10:00:00",
        "2025-07-15 10:00:00",
        "2025/07/15 10:00:00",
        "2025.07.15 10:00:00",
        "2025-07-15T10:00:00",
        "2025:07:15T10:00:00",
        "2025-07-15t10:00:00",
        "2025:07:15  10:00:00",
        "2025:07:15 10:00:00\x00",
        " 2025: 7:15 10: 0: 0 ",
        "2025-7-15 10:00",
        "2025-07-15, 10:00:00",
        "20250715T100000",
        "20250715100000",
        "20250715_100000",
        "15.07.2025 10:00",
        "15.7.2025 10:00:00",
        "2025:07:15 10:00:00 AM",
    ],
)
def test_a_clock_without_a_zone_stays_naive(text: str) -> None:
    assert read_time(text) == TEN
    assert TEN.tzinfo is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025:07:15 10:00:00.25", TEN.replace(microsecond=250_000)),
        ("2025:07:15 10:00:00,250", TEN.replace(microsecond=250_000)),
        ("2025:07:15 10:00:00.1234567899", TEN.replace(microsecond=123_456)),
        ("2025:07:15 10:00:00 PM", TEN.replace(hour=22)),
        ("2025:07:15 12:30:00 am", TEN.replace(hour=0, minute=30)),
        # A leap second is the first of the next minute.
        ("2025:07:15 09:59:60", TEN),
        ("2025:12:31 23:59:60", datetime(2026, 1, 1)),  # noqa: DTZ001
    ],
)
def test_fractions_halves_and_leap_seconds(text: str, moment: datetime) -> None:
    assert read_time(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "2025:07:15 10:00:00+03:00",
        "2025-07-15T10:00:00+03:00",
        "2025-07-15T10:00:00.000+0300",
        "2025-07-15 10:00:00 +03",
        "2025-07-15 10:00+3:00",
        "2025-07-15 10:00:00 UTC+3",
        "2025-07-15T07:00:00Z",
        "2025-07-15T07:00Z",
        "2025-07-15 07:00:00 UTC",
        "20250715T100000+0300",
        "2025-07-15T00:00:00\u221207:00",
        "2025-07-15T10:00:00+03:00[Africa/Nairobi]",
    ],
)
def test_an_offset_makes_the_time_aware(text: str) -> None:
    moment = read_time(text)
    assert moment is not None
    assert moment.tzinfo is not None
    assert moment == TEN.replace(tzinfo=NAIROBI)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "    :  :     :  :  ",
        "0000:00:00 00:00:00",
        "0000-01-01T00:00:00",
        "2025-07-15",
        "2025:07:15 24:00:00",
        "2025:07:15 24:13:05",
        "2025:07:15 10:60:00",
        "2025:07:15 10:00:61",
        "2025:13:15 10:00:00",
        "2025:02:30 10:00:00",
        "2025:07-15 10:00:00",
        "05/07/2025 10:00:00",
        "25:07:15 10:00:00",
        "2025:07:15 10:00:00+25:00",
        "2025:07:15 10:00:00+03:75",
        "2025:07:15 13:00:00 PM",
        "2025:07:15 0:00:00 PM",
        "2025:07:15 10:00:00 EAT",
        "9999:12:31 23:59:60",
        "yesterday at ten",
        "٢٠٢٥:07:15 10:00:00",
        "2025:07:15 10:00:00" + "0" * 200,
    ],
)
def test_what_is_no_time_or_could_be_several_is_none(text: str) -> None:
    assert read_time(text) is None


@pytest.mark.parametrize(
    ("text", "hours"), [("Z", 0), ("UTC", 0), ("+03:00", 3), ("+0300", 3), ("+3", 3), ("-05", -5), ("+14:00", 14)]
)
def test_offsets(text: str, hours: int) -> None:
    assert read_offset(text) == timezone(timedelta(hours=hours))


@pytest.mark.parametrize("text", ["", "   ", "03:00", "+", "+15:00", "+03:60", "EAT", "+003:00"])
def test_what_is_no_offset(text: str) -> None:
    assert read_offset(text) is None


@given(st.datetimes(timezones=st.sampled_from([None, UTC, NAIROBI])))
def test_what_python_writes_is_read(moment: datetime) -> None:
    assert read_time(moment.isoformat()) == moment
    assert read_time(str(moment)) == moment


@given(st.text(max_size=40))
def test_no_text_is_an_error(text: str) -> None:
    read_time(text)
    read_offset(text)
