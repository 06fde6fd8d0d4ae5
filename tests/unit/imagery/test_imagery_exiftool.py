"""Three hundred made photos, read by us and by exiftool: equal, or refused with a sentence.

Deliberate differences: exiftool takes a missing or unknown hemisphere for north or east, adds unsigned minutes to
negative degrees, negates a minus beside S, and hands angles on as text (`-45,00`) that we read as numbers.
"""

import json
import os
import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from transect.imagery import FrameMetadata, read_frame_metadata
from transect.imagery.times import read_time
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


def made(draw: random.Random, path: Path) -> None:
    """A photo with EXIF and XMP drawn by chance, written byte by byte."""
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


def same(ours: float | None, theirs: Any, tolerance: float) -> bool:
    return ours is not None and abs(ours - float(theirs)) <= tolerance


def difference(ours: FrameMetadata, theirs: dict[str, Any]) -> str:
    """What differs without a sentence that says so; empty where nothing does."""
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


def test_made_photos_are_read_as_exiftool_reads_them(tmp_path: Path) -> None:
    if shutil.which("exiftool") is None:
        if os.environ.get("REQUIRE_EXIFTOOL") == "1":
            pytest.fail("REQUIRE_EXIFTOOL=1, and exiftool is not installed (Debian: libimage-exiftool-perl).")
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl).")
    draw = random.Random(SEED)
    for number in range(PHOTOS):
        made(draw, tmp_path / f"{number:04}.jpg")
    command = ["exiftool", "-j", "-n", "-G1", "-q", "-q", str(tmp_path)]
    answers = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
    assert len(answers) == PHOTOS
    placed, faults = 0, []
    for answer in answers:
        ours = read_frame_metadata(Path(answer["SourceFile"]))
        placed += ours.latitude is not None
        fault = difference(ours, answer)
        if fault:
            faults.append(f"{Path(answer['SourceFile']).name}: {fault}")
    assert faults == []
    # Most have a place, or the test compares nothing.
    assert placed > PHOTOS / 4
    assert sum("XMP-drone-dji:RelativeAltitude" in answer for answer in answers) == PHOTOS
    assert sum("GPS:GPSLatitude" in answer for answer in answers) > PHOTOS / 2
