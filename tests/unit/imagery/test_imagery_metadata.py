"""What cameras write is read; what they write wrongly is absent, never an error."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from transect.errors import ImageError
from transect.imagery import FrameMetadata, read_frame_metadata

ATTRIBUTES = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/"
 drone-dji:RelativeAltitude="+61.30" drone-dji:FlightYawDegree="-92.5" drone-dji:GimbalPitchDegree="-89.90"
 drone-dji:GimbalYawDegree='10' drone-dji:GimbalRollDegree="0.00"/></rdf:RDF></x:xmpmeta>"""
ELEMENTS = """<rdf:Description><drone-dji:RelativeAltitude>+61.30</drone-dji:RelativeAltitude>
<drone-dji:FlightYawDegree> -92.5 </drone-dji:FlightYawDegree>
<drone-dji:GimbalPitchDegree>-89.9</drone-dji:GimbalPitchDegree>
<drone-dji:GimbalYawDegree>10</drone-dji:GimbalYawDegree>
<drone-dji:GimbalRollDegree>0</drone-dji:GimbalRollDegree></rdf:Description>"""


def save(
    path: Path,
    *,
    main: dict[int, Any] | None = None,
    detail: dict[int, Any] | None = None,
    gps: dict[int, Any] | None = None,
    xmp: str = "",
    size: tuple[int, int] = (40, 30),
) -> Path:
    exif = Image.Exif()
    for tag, value in (main or {}).items():
        exif[tag] = value
    exif.get_ifd(IFD.Exif).update(detail or {})
    exif.get_ifd(IFD.GPSInfo).update(gps or {})
    options: dict[str, Any] = {"xmp": xmp.encode()} if xmp else {}
    Image.new("RGB", size).save(path, exif=exif, **options)
    return path


def test_a_drone_frame_is_read(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.jpg",
        main={Base.Make: "DJI\0", Base.Model: "FC6310 ", Base.Orientation: 6},
        detail={
            Base.FocalLength: IFDRational(88, 10),
            Base.DateTimeOriginal: "2026:03:04 05:06:07",
            Base.SubsecTimeOriginal: "25",
        },
        gps={
            GPS.GPSLatitudeRef: "S",
            GPS.GPSLatitude: (2.0, 30.0, 0.0),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: (34.0, 45.0, 0.0),
            GPS.GPSAltitudeRef: b"\x00",
            GPS.GPSAltitude: 1530.5,
        },
        xmp=ATTRIBUTES,
    )
    assert read_frame_metadata(path) == FrameMetadata(
        width=30,
        height=40,
        make="DJI",
        model="FC6310",
        focal_mm=8.8,
        taken_at=datetime(2026, 3, 4, 5, 6, 7, 250_000),  # noqa: DTZ001  the camera's clock has no zone
        latitude=-2.5,
        longitude=34.75,
        gps_altitude_m=1530.5,
        relative_altitude_m=61.3,
        yaw_deg=-92.5,
        gimbal_yaw_deg=10.0,
        gimbal_pitch_deg=-89.9,
        gimbal_roll_deg=0.0,
        orientation=6,
    )


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("xmp", [ATTRIBUTES, ELEMENTS])
def test_xmp_is_read_from_every_format(tmp_path: Path, name: str, xmp: str) -> None:
    path = tmp_path / name
    options: dict[str, Any] = {"xmp": xmp.encode()}
    if name == "a.tif":
        options = {"tiffinfo": {700: xmp.encode()}}
    if name == "a.png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp)
        options = {"pnginfo": info}
    Image.new("RGB", (8, 8)).save(path, **options)
    metadata = read_frame_metadata(path)
    assert metadata.relative_altitude_m == 61.3
    assert metadata.yaw_deg == -92.5
    assert metadata.gimbal_pitch_deg == -89.9


def test_a_bare_image_has_only_a_size(tmp_path: Path) -> None:
    assert read_frame_metadata(save(tmp_path / "a.jpg")) == FrameMetadata(width=40, height=30)


def test_xmp_position_stands_in_for_missing_gps(tmp_path: Path) -> None:
    xmp = '<d drone-dji:GpsLatitude="-2.5" drone-dji:GpsLongtitude="34.75"/>'
    metadata = read_frame_metadata(save(tmp_path / "a.jpg", xmp=xmp))
    assert (metadata.latitude, metadata.longitude) == (-2.5, 34.75)


@pytest.mark.parametrize(
    "gps",
    [
        {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (91.0, 0.0, 0.0), GPS.GPSLongitude: (10.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (1.0, 0.0, 0.0), GPS.GPSLongitude: (181.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (1.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (1.0, 0.0), GPS.GPSLongitude: (2.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (IFDRational(0, 0), 0.0, 0.0), GPS.GPSLongitude: (2.0, 0.0, 0.0)},
    ],
)
def test_impossible_positions_are_absent(tmp_path: Path, gps: dict[int, Any]) -> None:
    metadata = read_frame_metadata(save(tmp_path / "a.jpg", gps=gps))
    assert (metadata.latitude, metadata.longitude) == (None, None)
    assert "EXIF " in metadata.position_problem


def test_what_stands_for_an_impossible_position_is_said(tmp_path: Path) -> None:
    zeros: dict[int, Any] = {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)}
    assert (
        "EXIF says latitude 0, longitude 0" in read_frame_metadata(save(tmp_path / "a.jpg", gps=zeros)).position_problem
    )
    xmp = '<d drone-dji:GpsLatitude="-95.5" drone-dji:GpsLongitude="34.75"/>'
    assert "XMP says latitude -95.5" in read_frame_metadata(save(tmp_path / "b.jpg", xmp=xmp)).position_problem


PIX4D = """<rdf:Description xmlns:Camera="http://pix4d.com/camera/1.0" Camera:Yaw="{yaw}" Camera:Roll="-2.5">
<Camera:Pitch>{pitch}</Camera:Pitch><Camera:GPSXYAccuracy>0.03</Camera:GPSXYAccuracy>
<Camera:AboveGroundAltitude>812/10</Camera:AboveGroundAltitude>
<Camera:BandName><rdf:Seq><rdf:li>Red</rdf:li></rdf:Seq></Camera:BandName></rdf:Description>"""


@pytest.mark.parametrize(("written", "pitch"), [("4.5", -85.5), ("0", -90.0), ("-12", -102.0), ("-88", -88.0)])
def test_pix4d_counts_the_pitch_from_straight_down(tmp_path: Path, written: str, pitch: float) -> None:
    metadata = read_frame_metadata(save(tmp_path / "a.jpg", xmp=PIX4D.format(yaw="123/1", pitch=written)))
    assert (metadata.gimbal_yaw_deg, metadata.gimbal_pitch_deg, metadata.gimbal_roll_deg) == (123.0, pitch, -2.5)
    assert (metadata.position_sd_m, metadata.relative_altitude_m, metadata.yaw_deg) == (0.03, 81.2, None)


def test_parrot_counts_the_pitch_from_the_horizon(tmp_path: Path) -> None:
    xmp = (
        '<d drone-parrot:CameraYawDegree="10" drone-parrot:CameraPitchDegree="-82" drone-parrot:CameraRollDegree="1"/>'
    )
    metadata = read_frame_metadata(save(tmp_path / "a.jpg", xmp=xmp))
    assert (metadata.gimbal_yaw_deg, metadata.gimbal_pitch_deg, metadata.gimbal_roll_deg) == (10.0, -82.0, 1.0)


@pytest.mark.parametrize(
    ("latitude", "longitude"), [("2,30.0S", "34,45.0E"), ("2,30,0S", "34,45,0E"), ("-2.5", "34.75"), ("2.5S", "34.75E")]
)
def test_generic_xmp_holds_a_position(tmp_path: Path, latitude: str, longitude: str) -> None:
    xmp = (
        f'<d exif:GPSLatitude="{latitude}" exif:GPSLongitude="{longitude}" '
        'exif:GPSAltitude="15305/10" exif:GPSAltitudeRef="0"/>'
    )
    metadata = read_frame_metadata(save(tmp_path / "a.jpg", xmp=xmp))
    assert (metadata.latitude, metadata.longitude, metadata.gps_altitude_m) == (-2.5, 34.75, 1530.5)


def test_exif_position_wins_over_xmp(tmp_path: Path) -> None:
    gps: dict[int, Any] = {
        GPS.GPSLatitudeRef: "N",
        GPS.GPSLatitude: (1.0, 0.0, 0.0),
        GPS.GPSLongitudeRef: "W",
        GPS.GPSLongitude: (2.0, 0.0, 0.0),
    }
    metadata = read_frame_metadata(
        save(tmp_path / "a.jpg", gps=gps, xmp='<d exif:GPSLatitude="5N" exif:GPSLongitude="6E"/>')
    )
    assert (metadata.latitude, metadata.longitude) == (1.0, -2.0)


def test_rtk_gives_the_accuracy_of_a_position(tmp_path: Path) -> None:
    xmp = '<d drone-dji:RtkStdLon="0.03" drone-dji:RtkStdLat="0.04" drone-dji:RtkStdHgt="0.09"/>'
    found = read_frame_metadata(save(tmp_path / "a.jpg", xmp=xmp)).position_sd_m
    assert found == pytest.approx(0.0354, abs=1e-4)
    xmp = '<d drone-dji:RtkStdLon="0.0" drone-dji:RtkStdLat="0.0"/>'
    assert read_frame_metadata(save(tmp_path / "b.jpg", xmp=xmp)).position_sd_m is None


@pytest.mark.parametrize(
    ("detail", "pitch"),
    [
        # A Canon 5DS R: 8688 px over 36 mm, in inches; then the same in centimetres.
        ({Base.FocalPlaneXResolution: 6129.8, Base.FocalPlaneYResolution: 6129.8, Base.ExifImageWidth: 40}, 4.144),
        ({Base.FocalPlaneXResolution: 2413.3, Base.FocalPlaneResolutionUnit: 3}, 4.144),
        # Scaled down to half its width.
        ({Base.FocalPlaneXResolution: 2413.3, Base.FocalPlaneResolutionUnit: 3, Base.ExifImageWidth: 80}, 8.287),
        ({Base.FocalPlaneXResolution: 2413.3, Base.FocalPlaneYResolution: 1000.0}, None),
        ({Base.FocalPlaneXResolution: 0.0}, None),
        ({Base.FocalPlaneXResolution: 72.0}, None),
        ({Base.FocalPlaneXResolution: 2413.3, Base.FocalPlaneResolutionUnit: 9}, None),
    ],
)
def test_pixel_pitch_follows_from_the_focal_plane(tmp_path: Path, detail: dict[int, Any], pitch: float | None) -> None:
    found = read_frame_metadata(save(tmp_path / "a.jpg", detail=detail)).pixel_pitch_um
    assert found == (None if pitch is None else pytest.approx(pitch, rel=1e-3))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "", "high", "1e999"])
def test_impossible_numbers_are_absent(tmp_path: Path, value: str) -> None:
    xmp = f'<d drone-dji:RelativeAltitude="{value}" drone-dji:FlightYawDegree="{value}"/>'
    metadata = read_frame_metadata(save(tmp_path / "a.jpg", xmp=xmp))
    assert (metadata.relative_altitude_m, metadata.yaw_deg) == (None, None)


def test_other_impossible_values_are_absent(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.jpg",
        main={Base.Make: " "},
        detail={Base.FocalLength: IFDRational(0, 0), Base.DateTimeOriginal: "0000:00:00 00:00:00"},
        gps={GPS.GPSAltitude: IFDRational(1, 0)},
        xmp='<d drone-dji:GimbalPitchDegree="-900"/>',
    )
    assert read_frame_metadata(path) == FrameMetadata(
        width=40,
        height=30,
        gps_altitude_problem="EXIF gives GPSAltitude as 1/0, which cannot be read",
        attitude_problem='XMP gives GimbalPitchDegree as "-900", which cannot be read',
    )


def test_below_sea_level_is_negative(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", gps={GPS.GPSAltitudeRef: b"\x01", GPS.GPSAltitude: 12.0})
    assert read_frame_metadata(path).gps_altitude_m == -12.0


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow tells of damage that it reads past
def test_damaged_exif_is_no_error(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", main={Base.Make: "DJI"}, detail={Base.FocalLength: 8.8})
    content = bytearray(path.read_bytes())
    start = content.index(b"Exif\x00\x00") + 6
    content[start + 4 : start + 40] = bytes([255]) * 36
    path.write_bytes(bytes(content))
    assert read_frame_metadata(path).width == 40


def test_no_image_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_text("no image")
    with pytest.raises(ImageError, match="is not an image"):
        read_frame_metadata(path)
