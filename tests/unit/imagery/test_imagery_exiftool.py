"""Three hundred made photos, and as many damaged ones, read by us and by exiftool: equal, or refused with a sentence.

Deliberate differences: exiftool takes a missing or unknown hemisphere for north or east, adds unsigned minutes to
negative degrees, negates a minus beside S, and hands angles on as text (`-45,00`) that we read as numbers.
"""

import json
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from transect.errors import ImageError
from transect.imagery import FrameMetadata, read_frame_metadata
from transect.imagery.metadata.times import read_time
from unit.imagery.test_imagery_metadata_kinds import EXTENSION, XMP_HEADER, Field, exif, packet, segment

PHOTOS, SEED = 300, int(os.environ.get("EXIFTOOL_SEED", "11"))


def coordinate(draw: random.Random, degrees: float) -> Field:
    minutes = degrees % 1 * 60
    seconds = minutes % 1 * 60
    whole, of_minutes = int(degrees), int(minutes)
    text = f"{whole} {of_minutes} {seconds:.4f}"
    return draw.choice(
        [
            (5, (whole, 1, of_minutes, 1, round(seconds * 10_000), 10_000)),
            (5, (whole, 1, round(minutes * 1_000_000), 1_000_000)),
            (5, (whole, 1, round(minutes * 1_000_000), 1_000_000, 0, 1)),
            (5, (round(degrees * 10_000_000), 10_000_000)),
            (12, (degrees,)),
            (12, (float(whole), float(of_minutes), seconds)),
            (2, f"{degrees:.7f}\0".encode()),
            (2, f"{text}\0".encode()),
            (5, (whole, 1, of_minutes, 1, 0, 0)),
            (10, (whole, 1, of_minutes, 1, round(seconds * 10_000), 10_000)),
        ]
    )


def reference(draw: random.Random, letter: str, word: str) -> Field | None:
    return draw.choice(
        [(2, f"{letter}\0".encode())] * 4
        + [
            (2, f"{letter.lower()}\0".encode()),
            (2, f"{word}\0".encode()),
            (7, f"{letter}\0".encode()),
            None,
            (2, b"\0"),
        ]
    )


def made(draw: random.Random, path: Path) -> bool:
    """A photo with EXIF and XMP drawn by chance, written byte by byte; whether it has a position with hemispheres."""
    south, west = draw.random() < 0.5, draw.random() < 0.5
    gps: dict[int, Field | None] = {
        1: reference(draw, "S" if south else "N", "South" if south else "North"),
        2: coordinate(draw, draw.uniform(0.1, 80)),
        3: reference(draw, "W" if west else "E", "West" if west else "East"),
        4: coordinate(draw, draw.uniform(0.1, 170)),
        5: (1, bytes([draw.randrange(2)])),
        6: (5, (draw.randrange(1, 30_000), 10)),
    }
    kept = {tag: field for tag, field in gps.items() if field is not None and draw.random() < 0.96}
    mark = draw.choice([":", "-", "/"])
    clock = f"10:{draw.randrange(60):02}:00{draw.choice(['', '.25', '+03:00', 'Z'])}"
    time = f"2025{mark}07{mark}15{draw.choice([' ', 'T'])}{clock}"
    detail: dict[int, Field] = {0x9003: (2, f"{time}\0".encode())}
    names = {
        "RelativeAltitude": f"{draw.uniform(-5, 120):+.2f}",
        "GimbalYawDegree": f"{draw.uniform(-180, 180):+.1f}",
        "GimbalPitchDegree": f"{draw.uniform(-90, 0):.2f}",
        "FlightYawDegree": f"{draw.uniform(-180, 180):+.1f}",
    }
    prefix = draw.choice(["drone-dji", "drone-dji", "ns1"])
    attributes = draw.random() < 0.5
    whole = packet(
        " ".join(f'{prefix}:{name}="{value}"' for name, value in names.items()) if attributes else "",
        "" if attributes else "".join(f"<{prefix}:{name}>{value}</{prefix}:{name}>" for name, value in names.items()),
        prefix,
    )
    body = whole.encode(draw.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le"]))
    segments: tuple[bytes, ...] = (XMP_HEADER + body,)
    main: dict[int, Field] = {}
    where = draw.randrange(4)
    if where == 0:
        segments, main = (), {700: (1, whole.encode())}
    elif where == 1:
        raw, guid = whole.encode(), f"{draw.getrandbits(128):032X}"
        note = packet(f'n:HasExtendedXMP="{guid}"', prefix="n", uri="http://ns.adobe.com/xmp/note/")
        head = EXTENSION + guid.encode()
        parts = [head + struct.pack(">II", len(raw), at) + raw[at : at + 150] for at in range(0, len(raw), 150)]
        draw.shuffle(parts)
        segments = (XMP_HEADER + note.encode(), *parts)
    Image.new("RGB", (8, 8)).save(path)
    plain = path.read_bytes()
    bodies = (b"Exif\0\0" + exif(kept, detail, main), *segments)
    path.write_bytes(plain[:2] + b"".join(map(segment, bodies)) + plain[2:])
    # Seconds that are unknown beside whole minutes leave a mile open.
    whole_minutes = [kept[tag][1][-2:] == (0, 0) for tag in (2, 4) if tag in kept]
    return {1, 2, 3, 4} <= kept.keys() and (2, b"\0") not in (kept[1], kept[3]) and not any(whole_minutes)


def damaged(draw: random.Random, path: Path) -> None:
    """Such a photo with some bytes of its EXIF and XMP changed or missing, as by cards and transfers."""
    made(draw, path)
    content = bytearray(path.read_bytes())
    end, how = content.rindex(b"\xff\xc0"), draw.randrange(3)
    for _ in range(draw.choice([1, 2, 8])):
        at = draw.randrange(2, end)
        if how == 0:
            content[at] = draw.randrange(256)
        elif how == 1:
            content[at] ^= 1 << draw.randrange(8)
        else:
            del content[at : at + draw.choice([1, 2, 17])]
            end = min(end, len(content))
    path.write_bytes(content)


def number_of(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def same(ours: float | None, theirs: Any, tolerance: float) -> bool:
    return ours is not None and abs(ours - float(theirs)) <= tolerance


def difference(ours: FrameMetadata, theirs: dict[str, Any]) -> str:
    """Differences without a reported reason; empty for none."""
    for axis, ref, latitude in (("GPSLatitude", "GPSLatitudeRef", True), ("GPSLongitude", "GPSLongitudeRef", False)):
        mine, degrees = (ours.latitude if latitude else ours.longitude), theirs.get(f"GPS:{axis}")
        letter = str(theirs.get(f"GPS:{ref}", "")).strip().upper()[:1]
        if mine is None:
            if not ours.position_problem and degrees is not None:
                return f"no {axis} and no sentence"
        elif not same(mine, float(degrees or 0) * (-1 if letter in ("S", "W") else 1), 1e-6):
            return f"{axis} {mine} is {degrees} {letter}"
    for name, mine, problem in (
        ("XMP-drone-dji:RelativeAltitude", ours.relative_altitude_m, ours.relative_altitude_problem),
        ("XMP-drone-dji:GimbalYawDegree", ours.gimbal_yaw_deg, ours.attitude_problem),
        ("XMP-drone-dji:GimbalPitchDegree", ours.gimbal_pitch_deg, ours.attitude_problem),
        ("XMP-drone-dji:FlightYawDegree", ours.yaw_deg, ours.attitude_problem),
        ("GPS:GPSAltitude", ours.gps_altitude_m, ours.gps_altitude_problem),
    ):
        if name in theirs:
            sign = -1 if name.startswith("GPS:") and str(theirs.get("GPS:GPSAltitudeRef", 0)) == "1" else 1
            if not same(mine, sign * float(theirs[name]), 1e-6) and not problem:
                return f"{name} {mine} is {theirs[name]}"
        elif mine is not None:
            return f"{name} {mine} is not there for exiftool"
    text = str(theirs.get("ExifIFD:DateTimeOriginal", ""))
    return "" if ours.taken_at == read_time(text) else f"time {ours.taken_at} is {text}"


@pytest.fixture
def exiftool() -> Callable[[Path], list[dict[str, Any]]]:
    """exiftool's values of each photo of a folder."""
    if shutil.which("exiftool") is None:
        if os.environ.get("REQUIRE_EXIFTOOL") == "1":
            pytest.fail("REQUIRE_EXIFTOOL=1, and exiftool is not installed (Debian: libimage-exiftool-perl).")
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl).")

    def answers(folder: Path) -> list[dict[str, Any]]:
        command = ["exiftool", "-j", "-n", "-G1", "-q", "-q", str(folder)]
        done = subprocess.run(command, capture_output=True, check=False)
        found: list[dict[str, Any]] = json.loads(done.stdout.decode("utf-8", "replace"))
        assert len(found) == PHOTOS
        return found

    return answers


Exiftool = Callable[[Path], list[dict[str, Any]]]


def test_made_photos_are_read_as_exiftool_reads_them(tmp_path: Path, exiftool: Exiftool) -> None:
    draw = random.Random(SEED)
    complete = {f"{number:04}.jpg" for number in range(PHOTOS) if made(draw, tmp_path / f"{number:04}.jpg")}
    answers = exiftool(tmp_path)
    placed, faults = 0, []
    for answer in answers:
        name = Path(answer["SourceFile"]).name
        ours = read_frame_metadata(Path(answer["SourceFile"]))
        placed += ours.latitude is not None
        fault = difference(ours, answer)
        if not fault and name in complete and ours.latitude is None:
            fault = f"refused although all is there: {ours.position_problem}"
        if fault:
            faults.append(f"{name}: {fault}")
    assert faults == []
    # Most have a place, or the test compares nothing.
    assert placed > PHOTOS / 4
    assert sum("XMP-drone-dji:RelativeAltitude" in answer for answer in answers) == PHOTOS
    assert sum("GPS:GPSLatitude" in answer for answer in answers) > PHOTOS / 2


# What Pillow warns of is what is made here.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_photos_never_tell_another_place_or_height(tmp_path: Path, exiftool: Exiftool) -> None:
    draw = random.Random(SEED + 1)
    for number in range(PHOTOS):
        damaged(draw, tmp_path / f"{number:04}.jpg")
    read, faults = 0, []
    for answer in exiftool(tmp_path):
        try:
            ours = read_frame_metadata(Path(answer["SourceFile"]))
        except ImageError:
            continue
        read += 1
        # Either of the two may find what the other gives up; a number that both find is one.
        for name, mine in (
            ("GPS:GPSLatitude", None if ours.latitude is None else abs(ours.latitude)),
            ("GPS:GPSLongitude", None if ours.longitude is None else abs(ours.longitude)),
            ("XMP-drone-dji:RelativeAltitude", ours.relative_altitude_m),
            ("XMP-drone-dji:GimbalYawDegree", ours.gimbal_yaw_deg),
            ("XMP-drone-dji:GimbalPitchDegree", ours.gimbal_pitch_deg),
        ):
            theirs = number_of(answer.get(name))
            if (
                mine is not None
                and theirs is not None
                and not same(mine, abs(theirs) if "GPS:" in name else theirs, 1e-6)
            ):
                faults.append(f"{Path(answer['SourceFile']).name}: {name} {mine} is {theirs}")
    assert faults == []
    assert read > PHOTOS / 2


VENDORS = {
    "drone-dji": (
        "http://www.dji.com/drone-dji/1.0/",
        [("GpsLatitude", "GpsLongitude"), ("GpsLatitude", "GpsLongtitude"), ("GPSLatitude", "GPSLongitude")],
    ),
    "drone-skydio": ("https://www.skydio.com/drone-skydio/1.0/", [("Latitude", "Longitude")]),
    "drone-parrot": ("http://www.parrot.com/drone-parrot/1.0/", [("DroneLatitude", "DroneLongitude")]),
    "exif": ("http://ns.adobe.com/exif/1.0/", [("GPSLatitude", "GPSLongitude")]),
}


def test_positions_in_xmp_alone_are_read_whatever_vendor_wrote_them(tmp_path: Path) -> None:
    draw = random.Random(SEED + 2)
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(path)
    plain = path.read_bytes()
    for _ in range(PHOTOS):
        vendor = draw.choice(list(VENDORS))
        uri, pairs = VENDORS[vendor]
        latitude, longitude = draw.uniform(-80, 80), draw.uniform(-170, 170)
        if vendor == "exif":
            texts = [
                f"{int(abs(value))},{abs(value) % 1 * 60:.7f}{letters[value < 0]}"
                for value, letters in ((latitude, "NS"), (longitude, "EW"))
            ]
        else:
            texts = [draw.choice(["{:+.7f}", "{:.7f}"]).format(value) for value in (latitude, longitude)]
        prefix = draw.choice([vendor, "q"])
        items = list(zip(draw.choice(pairs), texts, strict=True))
        attributes, elements = "", "".join(f"<{prefix}:{name}>{text}</{prefix}:{name}>" for name, text in items)
        if draw.random() < 0.5:
            attributes, elements = " ".join(f'{prefix}:{name}="{text}"' for name, text in items), ""
        body = XMP_HEADER + packet(attributes, elements, prefix, uri).encode()
        path.write_bytes(plain[:2] + segment(body) + plain[2:])
        ours = read_frame_metadata(path)
        assert ours.latitude == pytest.approx(latitude, abs=1e-6), body
        assert ours.longitude == pytest.approx(longitude, abs=1e-6), body
