import math

import pytest

from transect.census.ground.placement.cameras import Camera, camera_name, camera_of, cameras_of, known_cameras
from transect.census.ground.unplaced import UnplacedError
from transect.census.inputs.survey import SurveySpec
from transect.imagery import FrameMetadata


def spec(**keys: object) -> SurveySpec:
    return SurveySpec.model_validate({"name": "s"} | keys)


def photo(
    model: str | None, width: int = 5472, height: int = 3648, focal: float | None = 8.8, **more: object
) -> FrameMetadata:
    fields = {"make": "DJI", "model": model, "width": width, "height": height, "focal_mm": focal} | more
    return FrameMetadata(**fields)  # type: ignore[arg-type] # fields by name


def found(metadata: FrameMetadata, survey: SurveySpec | None = None) -> Camera:
    return camera_of(metadata, survey or spec())


def test_every_row_of_the_table_is_a_camera_that_can_be() -> None:
    for row in known_cameras():
        # Square pixels, between those of a telephone and those of a thermal camera.
        across, down = row.sensor_width_mm / row.width_px, row.sensor_height_mm / row.height_px
        assert across == pytest.approx(down, rel=0.012), row
        assert 0.0007 < across <= 0.012, row
        assert row.focal_mm is None or 2 < row.focal_mm < 60, row
    keys = [(row.model, row.focal_mm) for row in known_cameras()]
    assert len(set(keys)) == len(keys) > 70


def test_the_table_gives_what_makers_say_of_ground_sample_distance() -> None:
    """Published: Phantom 4 RTK H/36.5 cm (H in m), Zenmuse P1 with 35 mm H/80 cm."""
    assert found(photo("FC6310R")).focal_px == pytest.approx(3650, rel=0.01)
    assert found(photo("ZenmuseP1", 8192, 5460, 35.0)).focal_px == pytest.approx(8000, rel=0.01)


@pytest.mark.parametrize(
    ("metadata", "focal_px", "tolerance"),
    [
        (photo("FC6310R"), 3666.666504, 1e-4),
        (photo("XT705", make="Autel Robotics", focal=10.57), 4404.166667, 1e-4),
        (photo("M3E", 5280, 3956, 12.29), 3725.151611, 2e-3),
    ],
)
def test_the_table_gives_what_makers_write_into_their_photos(
    metadata: FrameMetadata, focal_px: float, tolerance: float
) -> None:
    """CalibratedFocalLength, the lens's design in pixels, of the XMP of published photos."""
    assert found(metadata).focal_px == pytest.approx(focal_px, rel=tolerance)


# Crop factors of the Lensfun database 0.3.4: the diagonal of 36 x 24 mm over the sensor's.
CROP_FACTORS = {
    **dict.fromkeys(("ILCE-5100", "ILCE-6000", "ILCE-6100", "ILCE-6300", "ILCE-6400", "ILCE-6500", "NEX-7"), 1.534),
    **dict.fromkeys(("ILCE-7", "ILCE-7M3", "ILCE-7M4", "ILCE-7R", "ILCE-7RM2", "ILCE-7RM3", "ILCE-7RM4"), 1.0),
    **dict.fromkeys(("ILCE-7RM4A", "ILCE-7RM5", "DSC-RX1RM2"), 1.0),
    **dict.fromkeys(("DSC-RX100", "DSC-RX100M2", "DSC-RX100M3", "FC6310", "FC3411"), 2.73),
    **dict.fromkeys(("Canon EOS 5D Mark II", "Canon EOS 5D Mark III", "Canon EOS 5D Mark IV", "Canon EOS 5DS"), 1.0),
    **dict.fromkeys(("Canon EOS 5DS R", "Canon EOS R", "Canon EOS R5"), 1.0),
    **dict.fromkeys(("Canon EOS 6D", "Canon EOS 6D Mark II"), 1.005),
    **dict.fromkeys(("NIKON D610", "NIKON D750", "NIKON D800", "NIKON D800E", "NIKON D810", "NIKON D850"), 1.0),
    **dict.fromkeys(("NIKON Z 7", "NIKON Z 7_2"), 1.0),
    **dict.fromkeys(("NIKON D5300", "NIKON D5600", "NIKON D7100", "NIKON D7200", "NIKON D7500"), 1.534),
    "NIKON D3200": 1.554,
    "FC300X": 5.5,
    "FC220": 5.64,
    "FC2103": 5.6,
    "L1D-20c": 2.8,
    "L2D-20c": 1.953,
}


@pytest.mark.parametrize("model", CROP_FACTORS)
def test_sensors_are_as_large_as_lensfun_says(model: str) -> None:
    rows = [row for row in known_cameras() if row.model == model]
    assert rows
    for row in rows:
        diagonal = math.hypot(row.sensor_width_mm, row.sensor_height_mm)
        assert math.hypot(36, 24) / diagonal == pytest.approx(CROP_FACTORS[model], rel=0.03)


def test_a_strip_of_the_sensor_keeps_its_scale_and_a_smaller_copy_does_not() -> None:
    whole = found(photo("FC6310"))
    for width, height in ((4864, 3648), (5472, 3078), (3648, 5472)):
        assert found(photo("FC6310", width, height)).focal_px == whole.focal_px
    assert found(photo("FC6310", 2736, 1824)).focal_px == pytest.approx(whole.focal_px / 2)
    with pytest.raises(UnplacedError, match="4000 x 3000 pixels is neither the whole sensor of DJI FC6310"):
        camera_of(photo("FC6310", 4000, 3000), spec())


@pytest.mark.parametrize(
    ("width", "height", "focal", "pitch_um"),
    [(8000, 6000, 4.4, 0.8), (4000, 3000, 4.4, 1.6), (4000, 3000, 30.0, 1.6), (640, 512, 9.1, 12.0)],
)
def test_a_drone_of_several_cameras_is_told_apart_by_its_lens(
    width: int, height: int, focal: float, pitch_um: float
) -> None:
    assert found(photo("M3T", width, height, focal)).pixel_pitch_mm * 1000 == pytest.approx(pitch_um)


def test_survey_yaml_wins_for_all_or_by_model() -> None:
    one = spec(camera={"sensor_width_mm": 13.0, "focal_mm": 9.0})
    assert found(photo("FC6310"), one) == Camera("DJI FC6310", 13.0 / 5472, 9.0, "survey.yaml")
    by_model = spec(cameras={"FC6310": {"pixel_pitch_um": 2.5}})
    assert found(photo("FC6310"), by_model) == Camera("DJI FC6310", 0.0025, 8.8, "survey.yaml")
    assert found(photo("FC3411", focal=8.38), by_model).source == "table of cameras"
    # The lens alone: the sensor is known.
    lens = found(photo("FC6310"), spec(camera={"focal_mm": 8.6}))
    assert (lens.focal_mm, lens.source) == (8.6, "table of cameras")


def test_exif_of_the_focal_plane_serves_for_an_unknown_camera() -> None:
    camera = found(photo("X-1", pixel_pitch_um=4.1))
    assert camera.pixel_pitch_mm == pytest.approx(0.0041)
    assert camera.source == "EXIF focal plane"


def test_a_known_camera_with_one_lens_needs_no_focal_length_in_exif() -> None:
    assert found(photo("FC6310", focal=None)).focal_mm == 8.8


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (photo("X-1"), r"DJI X-1 is not in the table of cameras; add `camera: {sensor_width_mm: ..., focal_mm: ...}`"),
        (photo("FC6310", focal=24.0), "DJI FC6310 with a lens of 24 mm is not in the table"),
        (photo(None, make=None), "unnamed camera is not in the table"),
        (photo("ZenmuseP1", 8192, 5460, None), "no focal length: neither EXIF nor the table"),
        (photo("HERO11 Black", make="GoPro"), "fisheye"),
        (photo("FC6310", digital_zoom=2.0), "digital zoom of 2"),
        (photo("FC6310", width=0), "no image size"),
    ],
)
def test_a_camera_that_is_not_known_says_what_to_do(metadata: FrameMetadata, words: str) -> None:
    with pytest.raises(UnplacedError) as refused:
        camera_of(metadata, spec())
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_names_do_not_say_the_make_twice() -> None:
    assert camera_name(FrameMetadata(make="NIKON CORPORATION", model="NIKON D850")) == "NIKON D850"
    assert camera_name(FrameMetadata(make="SONY", model="ILCE-7RM4")) == "SONY ILCE-7RM4"


def test_cameras_are_listed_with_their_photos() -> None:
    class Placed:
        def __init__(self, camera: Camera) -> None:
            self.camera = camera

    big, small = found(photo("FC6310")), found(photo("FC3411", focal=8.38))
    listed = cameras_of([Placed(big), Placed(small), Placed(big)])
    assert [(one["camera"], one["photos"]) for one in listed] == [("DJI FC3411", 1), ("DJI FC6310", 2)]
    assert listed[1]["pixel_pitch_um"] == pytest.approx(2.4, abs=1e-3)
