"""Positions, heights, angles and times are read in any unambiguous spelling, type, encoding and location."""

import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from transect.imagery import FrameMetadata, read_frame_metadata

DJI = "http://www.dji.com/drone-dji/1.0/"
SIZES = {1: 1, 2: 1, 4: 4, 5: 8, 7: 1, 10: 8, 12: 8}
SOUTH = {1: (2, b"S\0"), 2: (5, (1, 1, 29, 1, 492, 10)), 3: (2, b"E\0"), 4: (5, (35, 1, 6, 1, 18, 1))}
XMP_HEADER, EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"

Field = tuple[int, Any]


def directory(fields: dict[int, Field], start: int) -> bytes:
    """A directory of big-endian TIFF at an offset, with its values behind it."""
    table, values = struct.pack(">H", len(fields)), b""
    behind = start + 2 + 12 * len(fields) + 4
    for tag, (kind, value) in sorted(fields.items()):
        form = {4: "I", 5: "I", 10: "i", 12: "d"}.get(kind)
        raw = value if form is None else struct.pack(f">{len(value)}{form}", *value)
        inline = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(">I", behind + len(values))
        table += struct.pack(">HHI", tag, kind, len(raw) // SIZES[kind]) + inline
        values += raw if len(raw) > 4 else b""
    return table + bytes(4) + values


def exif(gps: dict[int, Field], detail: dict[int, Field] | None = None, main: dict[int, Field] | None = None) -> bytes:
    fields = {**(main or {}), 0x8769: (4, (0,)), 0x8825: (4, (0,))}
    detail_at = 8 + len(directory(fields, 8))
    gps_at = detail_at + len(directory(detail or {}, detail_at))
    fields |= {0x8769: (4, (detail_at,)), 0x8825: (4, (gps_at,))}
    return b"MM\0*\0\0\0\x08" + directory(fields, 8) + directory(detail or {}, detail_at) + directory(gps, gps_at)


def segment(body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def jpeg(tmp_path: Path, *, block: bytes = b"", segments: tuple[bytes, ...] = ()) -> FrameMetadata:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(path)
    plain = path.read_bytes()
    bodies = ((b"Exif\0\0" + block,) if block else ()) + segments
    path.write_bytes(plain[:2] + b"".join(map(segment, bodies)) + plain[2:])
    return read_frame_metadata(path)


def packet(attributes: str = "", elements: str = "", prefix: str = "drone-dji", uri: str = DJI) -> str:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:{prefix}="{uri}" {attributes}>{elements}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


FULL = packet(
    'drone-dji:RelativeAltitude="+60.00" drone-dji:GimbalYawDegree="+90.00" drone-dji:GimbalPitchDegree="-90.00"'
)


def told(found: FrameMetadata) -> tuple[float | None, float | None, float | None]:
    return found.relative_altitude_m, found.gimbal_yaw_deg, found.gimbal_pitch_deg


def place(found: FrameMetadata) -> tuple[float, float]:
    assert found.latitude is not None
    assert found.longitude is not None
    return found.latitude, found.longitude


def here(found: FrameMetadata) -> bool:
    return place(found) == pytest.approx((-1.497, 35.105), abs=1e-6)


@pytest.mark.parametrize(
    "reference",
    [(2, b"S\0"), (2, b"s\0"), (2, b"South\0"), (2, b" S\0"), (2, b"S  \0"), (1, b"S"), (7, b"S\0"), (1, b"s\0"),
     (4, (83,)),
     (2, "Süd\0".encode()), (2, "Süd\0".encode("latin-1")), (2, b"Sur\0"), (2, b"S latitude\0")],
)  # fmt: skip
def test_south_by_any_spelling_and_type(tmp_path: Path, reference: Field) -> None:
    assert here(jpeg(tmp_path, block=exif({**SOUTH, 1: reference})))


@pytest.mark.parametrize(
    "latitude",
    [(5, (1, 1, 2982, 100)), (5, (1497, 1000)), (5, (1497, 1000, 0, 1, 0, 1)), (5, (1, 1, 2982, 100, 0, 0)),
     (12, (1.497,)), (12, (1.0, 29.0, 49.2)), (2, b"1.497\0"),
     (2, b"1,497\0"),
     (2, b"1 29 49.2\0"), (2, b"1 29 49,2\0"),
     (2, "1°29'49.2\"S\0".encode()), (2, b"1/1 29/1 492/10\0"), (2, b"S 1 29.82\0"), (2, b"1d29m49.2s\0"),
     (5, (1, 1, 28, 1, 1092, 10)), (5, (0, 1, 8982, 100)), (5, (1, 1, 0, 1, 17892, 10)),
     (10, (-1, 1, 29, 1, 492, 10)), (10, (-1, 1, -29, 1, -492, 10)), (2, b"-1.497\0")],
)  # fmt: skip
def test_a_position_in_any_form(tmp_path: Path, latitude: Field) -> None:
    assert here(jpeg(tmp_path, block=exif({**SOUTH, 2: latitude})))


def test_a_minus_names_the_hemisphere_and_contradicts_north(tmp_path: Path) -> None:
    signed = {**SOUTH, 2: (10, (-1, 1, 29, 1, 492, 10))}
    assert here(jpeg(tmp_path, block=exif({tag: field for tag, field in signed.items() if tag != 1})))
    found = jpeg(tmp_path, block=exif({**signed, 1: (2, b"N\0")}))
    assert found.latitude is None
    assert "contradict" in found.position_problem


@pytest.mark.parametrize("reference", [None, (2, b"\0"), (2, b"  \0"), (2, b"X\0"), (7, b"\0\0"), (2, b"E\0")])
def test_a_hemisphere_that_is_not_written_is_not_guessed(tmp_path: Path, reference: Field | None) -> None:
    gps = {tag: field for tag, field in SOUTH.items() if tag != 1} | ({1: reference} if reference else {})
    found = jpeg(tmp_path, block=exif(gps))
    assert found.latitude is None
    assert "north or south" in found.position_problem
    assert sorted(north for north, _ in found.possible_positions) == pytest.approx([-1.497, 1.497], abs=1e-6)
    assert {round(east, 6) for _, east in found.possible_positions} == {35.105}
    xmp = packet('drone-dji:GpsLatitude="-1.497" drone-dji:GpsLongitude="+35.105"').encode()
    assert here(jpeg(tmp_path, block=exif(gps), segments=(XMP_HEADER + xmp,)))


@pytest.mark.parametrize(
    "latitude",
    [(5, (1, 1, 29, 1, 0, 0)), (5, (0, 0, 29, 1, 0, 1)), (5, (1, 0)), (2, b"unknown\0"), (2, b"1,29\0"),
     # The same angle in each part; minutes beyond sixty; a minus on the seconds alone.
     (5, (1497, 1000, 2982, 100, 492, 10)), (5, (1, 1, 1712, 1, 0, 1)), (10, (1, 1, 29, 1, -492, 10))],
)  # fmt: skip
def test_a_position_that_cannot_be_read_is_named(tmp_path: Path, latitude: Field) -> None:
    found = jpeg(tmp_path, block=exif({**SOUTH, 2: latitude}))
    assert found.latitude is None
    assert "EXIF gives the latitude as" in found.position_problem


def test_a_gps_directory_outside_of_its_block_is_named(tmp_path: Path) -> None:
    found = jpeg(tmp_path, block=exif(SOUTH)[:-90])
    assert found.latitude is None
    assert "EXIF" in found.position_problem


@pytest.mark.parametrize(
    ("latitude", "wanted", "remarks"),
    [((1, 1, 29, 1, 0, 1), -1.497, 1), ((1, 1, 29, 1, 49, 1), -1.497, 1), ((1, 1, 29, 1, 492001, 10000), -1.497, 0),
     ((1, 1, 30, 1, 492001, 10000), -1.51366669, 1)],
)  # fmt: skip
def test_the_finer_of_exif_and_xmp_counts(
    tmp_path: Path, latitude: tuple[int, ...], wanted: float, remarks: int
) -> None:
    gps = {**SOUTH, 2: (5, latitude), 4: (5, (35, 1, 6, 1, 18, 1))}
    xmp = packet('drone-dji:GpsLatitude="-1.497" drone-dji:GpsLongitude="35.105"').encode()
    found = jpeg(tmp_path, block=exif(gps), segments=(XMP_HEADER + xmp,))
    assert place(found) == pytest.approx((wanted, 35.105), abs=1e-6)
    assert len(found.remarks) == remarks
    assert all("EXIF says" in one and "XMP says" in one and "apart" in one for one in found.remarks)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_xmp_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    assert told(jpeg(tmp_path, segments=(XMP_HEADER + FULL.encode(encoding),))) == (60, 90, -90)


def test_every_packet_is_read(tmp_path: Path) -> None:
    other = XMP_HEADER + packet('dc:title="map"', prefix="dc", uri="http://purl.org/dc/elements/1.1/").encode()
    assert told(jpeg(tmp_path, segments=(XMP_HEADER + FULL.encode(), other))) == (60, 90, -90)
    assert told(jpeg(tmp_path, segments=(other, XMP_HEADER + FULL.encode()))) == (60, 90, -90)


def extended(named: str, order: tuple[int, ...]) -> tuple[bytes, ...]:
    whole, guid = FULL.encode(), b"0123456789ABCDEF0123456789ABCDEF"
    parts = [
        EXTENSION + guid + struct.pack(">II", len(whole), offset) + whole[offset : offset + 200]
        for offset in range(0, len(whole), 200)
    ]
    note = packet(f'n:HasExtendedXMP="{named}"', prefix="n", uri="http://ns.adobe.com/xmp/note/")
    return (XMP_HEADER + note.encode(), *(parts[at] for at in order))


def test_extended_xmp_is_joined_by_its_guid_and_offsets(tmp_path: Path) -> None:
    guid = "0123456789abcdef0123456789abcdef"
    assert told(jpeg(tmp_path, segments=extended(guid, (2, 0, 1)))) == (60, 90, -90)
    missing = jpeg(tmp_path, segments=extended(guid, (0, 2)))
    assert "extended XMP cannot be read" in missing.relative_altitude_problem
    foreign = jpeg(tmp_path, segments=extended("F" * 32, (0, 1, 2)))
    assert "extended XMP belongs to another packet" in foreign.attitude_problem


def test_xmp_in_tag_700_of_both_directories(tmp_path: Path) -> None:
    tag = {700: (1, FULL.encode())}
    assert told(jpeg(tmp_path, block=exif(SOUTH, main=tag))) == (60, 90, -90)
    assert told(jpeg(tmp_path, block=exif(SOUTH, detail=tag))) == (60, 90, -90)


@pytest.mark.parametrize(
    "xmp",
    [
        FULL.replace("drone-dji", "ns1"),
        FULL.replace("http://www", "https://www").replace("1.0/", "1.0"),
        FULL.replace('xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/"', ""),
        FULL.replace("+60.00", "&#43;60&#x2E;00"),
        FULL.replace(" drone-dji:Rel", ' drone-dji:Name="R&D" drone-dji:Rel'),
        packet(
            elements="<d:RelativeAltitude xml:lang='en'>60</d:RelativeAltitude><d:GimbalYawDegree><rdf:Seq>"
            "<rdf:li>90</rdf:li></rdf:Seq></d:GimbalYawDegree><d:GimbalPitchDegree><rdf:Alt>"
            "<rdf:li xml:lang='x-default'>"
            "-90</rdf:li></rdf:Alt></d:GimbalPitchDegree>",
            prefix="d",
        ),
        packet(
            's:RelativeAltitude="60.0"',
            '<s:CameraOrientationNED s:Yaw="90" s:Pitch="-90" s:Roll="0"/>',
            "s",
            "https://www.skydio.com/drone-skydio/1.0/",
        ),
        FULL.replace('-90.00"', '-90.00" drone-dji:Cut="')[: FULL.index("-90.00") + 15],
    ],
)
def test_xmp_by_any_prefix_and_form(tmp_path: Path, xmp: str) -> None:
    assert told(jpeg(tmp_path, segments=(XMP_HEADER + xmp.encode(),))) == (60, 90, -90)


def test_entities_are_refused_and_damage_is_a_reason(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "60">]>' + FULL.replace("+60.00", "&a;")
    found = jpeg(tmp_path, segments=(XMP_HEADER + bomb.encode(),))
    assert told(found) == (None, None, None)
    assert "document type" in found.relative_altitude_problem
    broken = jpeg(tmp_path, segments=(XMP_HEADER + FULL.replace("drone-dji:Gimbal", "<<").encode(),))
    assert "its XMP is damaged" in broken.attitude_problem


@pytest.mark.parametrize(
    ("written", "wanted"), [("-90,00", -90), ("-90", -90), ("\u221290.0", -90), ("-900/10", -90), ("-90°", -90),
                            ("-90 deg", -90)]
)  # fmt: skip
def test_angles_in_any_form(tmp_path: Path, written: str, wanted: float) -> None:
    found = jpeg(tmp_path, segments=(XMP_HEADER + FULL.replace("-90.00", written).encode(),))
    assert (found.gimbal_pitch_deg, found.attitude_problem) == (wanted, "")


@pytest.mark.parametrize("written", ["nan", "", "down", "inf", "-900", "1e999", "90 rad"])
def test_an_angle_that_cannot_be_read_is_a_reason(tmp_path: Path, written: str) -> None:
    found = jpeg(tmp_path, segments=(XMP_HEADER + FULL.replace("-90.00", written).encode(),))
    assert found.gimbal_pitch_deg is None
    assert "GimbalPitchDegree" in found.attitude_problem


@pytest.mark.parametrize(
    ("written", "wanted"), [("+60,00", 60), ("60.0 m", 60), ("196.85 ft", 60.0), ("1.060,5", 1060.5),
                            ("high", None), ("", None)]
)  # fmt: skip
def test_heights(tmp_path: Path, written: str, wanted: float | None) -> None:
    found = jpeg(tmp_path, segments=(XMP_HEADER + FULL.replace("+60.00", written).encode(),))
    assert found.relative_altitude_m == (None if wanted is None else pytest.approx(wanted, abs=1e-3))
    assert ("RelativeAltitude" in found.relative_altitude_problem) is (wanted is None)


TEN = datetime(2025, 7, 15, 10)  # noqa: DTZ001  a camera's clock has no zone
NAIROBI = timezone(timedelta(hours=3))


@pytest.mark.parametrize(
    ("detail", "main", "gps", "wanted"),
    [
        ({0x9003: b"2025-07-15 10:00:00\0"}, {}, {}, TEN),
        ({0x9003: b"2025:07:15T10:00:00.250\0"}, {}, {}, TEN.replace(microsecond=250_000)),
        ({0x9003: b"2025:07:15 10:00:00\0", 0x9291: b"25\0", 0x9011: b"+03:00\0"}, {}, {},
         TEN.replace(microsecond=250_000, tzinfo=NAIROBI)),
        ({0x9003: b"0000:00:00 00:00:00\0", 0x9004: b"2025:07:15 10:00:00\0"}, {}, {}, TEN),
        ({0x9003: b"    :  :     :  :  \0"}, {0x132: b"2025:07:15 10:00:00\0"}, {}, TEN),
        ({0x9003: b"2025:07:15 24:10:00\0"}, {0x132: b"2025:07:15 10:00:00\0"}, {}, TEN),
        ({}, {}, {29: (2, b"2025:07:15\0"), 7: (5, (7, 1, 0, 1, 0, 1))}, TEN.replace(hour=7, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_times_fall_back_to_the_next_that_can_be_read(
    tmp_path: Path, detail: dict[int, bytes], main: dict[int, bytes], gps: dict[int, Field], wanted: datetime
) -> None:
    block = exif(gps, {tag: (2, raw) for tag, raw in detail.items()}, {tag: (2, raw) for tag, raw in main.items()})
    found = jpeg(tmp_path, block=block)
    assert found.taken_at == wanted
    assert found.taken_at is not None
    assert found.taken_at.utcoffset() == wanted.utcoffset()
    assert found.time_problem == ""


def test_a_time_that_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    found = jpeg(tmp_path, block=exif({}, {0x9003: (2, b"2025:07:15 24:13:05\0")}))
    assert found.taken_at is None
    assert "2025:07:15 24:13:05" in found.time_problem
