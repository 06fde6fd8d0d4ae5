from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from transect.census.ground.placement.clock import unify_clocks
from transect.census.ground.placement.frames import SourceFile
from transect.census.ground.readings.reading import PhotoReading
from transect.census.inputs.flights import FlightRow
from transect.census.inputs.photos import LocalPhoto
from transect.errors import SurveyError
from transect.imagery import FrameMetadata

TABLE = Path("flights.csv")
NAIROBI = timezone(timedelta(hours=3))
TEN = datetime(2025, 7, 15, 10)  # noqa: DTZ001 - a local clock


def reading(name: str, row: datetime | None = None, photo: datetime | None = None) -> SourceFile:
    metadata = FrameMetadata(taken_at=photo, model="FC6310")
    return SourceFile(
        name=name,
        photo=LocalPhoto(Path(name)),
        row=FlightRow(line=2, image=name, time=row),
        read=PhotoReading(metadata=metadata),
    )


def test_offsets_are_honoured_and_the_commonest_is_the_clock_of_all() -> None:
    rows = [
        (TEN + timedelta(hours=3, seconds=1)).replace(tzinfo=NAIROBI),
        *((TEN + timedelta(seconds=s)).replace(tzinfo=UTC) for s in (2, 3)),
    ]
    clock = unify_clocks([reading(f"a{n}", row) for n, row in enumerate(rows, 1)], TABLE)
    assert [(clock.times[f"a{n}"] - TEN.replace(tzinfo=UTC)).total_seconds() for n in (1, 2, 3)] == [1, 2, 3]
    assert {time.utcoffset() for time in clock.times.values()} == {timedelta(0)}
    assert "several offsets from UTC (UTC: 2 photos, +03:00: 1 photo)" in clock.notes[0][1]


def test_clocks_without_a_name_are_left_as_they_are() -> None:
    clock = unify_clocks([reading("a", None, TEN), reading("b", TEN)], TABLE)
    assert clock.times == {"a": TEN, "b": TEN}
    assert clock.notes == ()


def test_a_camera_is_put_on_the_clock_of_flights_by_the_photos_that_have_both() -> None:
    late = TEN + timedelta(minutes=5)
    clock = unify_clocks(
        [reading("a", TEN.replace(tzinfo=UTC), TEN + timedelta(hours=3)), reading("b", None, late)], TABLE
    )
    assert clock.times["b"] == late.replace(tzinfo=NAIROBI) - timedelta(hours=3) + timedelta(hours=3)
    assert "shows +03:00" in clock.notes[0][1]


def test_a_camera_whose_offset_nothing_tells_has_no_time_beside_utc() -> None:
    reads = [reading("a", TEN.replace(tzinfo=UTC)), reading("b", None, TEN)]
    clock = unify_clocks(reads, TABLE)
    assert set(clock.times) == {"a"}
    assert "set utc_offset" in clock.remarks["b"]
    assert unify_clocks(reads, TABLE, NAIROBI).times["b"] == TEN.replace(tzinfo=NAIROBI)


def test_rows_without_an_offset_among_rows_with_one_are_refused() -> None:
    with pytest.raises(SurveyError, match=r"flights\.csv line 2 gives a time without an offset from UTC"):
        unify_clocks([reading("a", TEN.replace(tzinfo=NAIROBI)), reading("b", TEN)], TABLE)


def test_a_time_that_cannot_be_read_is_said() -> None:
    metadata = FrameMetadata(time_problem="EXIF says DateTimeOriginal '99'")
    clock = unify_clocks(
        [SourceFile(name="a", photo=LocalPhoto(Path("a")), row=None, read=PhotoReading(metadata=metadata))], TABLE
    )
    assert clock.remarks == {"a": "it has no time: EXIF says DateTimeOriginal '99'."}


def test_a_note_names_the_file_whose_times_it_is_about() -> None:
    """A survey without flights.csv has no row; its times are those of the photos alone."""
    utc, nairobi = TEN.replace(tzinfo=UTC), TEN.replace(tzinfo=NAIROBI)

    def sources(*reads: SourceFile) -> list[str]:
        return [file for file, _ in unify_clocks(reads, TABLE).notes]

    def bare(name: str, time: datetime) -> SourceFile:
        return SourceFile(
            name=name,
            photo=LocalPhoto(Path(name)),
            row=None,
            read=PhotoReading(metadata=FrameMetadata(taken_at=time, model="FC6310")),
        )

    assert sources(bare("a", utc), bare("b", nairobi)) == ["images"]
    assert sources(bare("a", nairobi), bare("b", TEN)) == ["images"]
    assert sources(reading("a", utc), reading("b", nairobi)) == ["flights.csv"]
    assert sources(reading("a", nairobi), bare("b", TEN)) == ["flights.csv"]
    assert sources(reading("a", utc, TEN), bare("b", TEN)) == ["flights.csv"]
    assert sources(reading("a", TEN, utc), bare("b", utc)) == ["flights.csv"]
    late = TEN + timedelta(minutes=5)
    assert sources(reading("a", late, TEN), bare("b", TEN)) == ["flights.csv"]
