from dataclasses import replace
from datetime import datetime

import pytest

from transect.census.ground.placement.cameras import Camera
from transect.census.ground.placement.elevation import PhotoTerrain
from transect.census.ground.placement.frames import Placement
from transect.census.ground.placement.placing import place_photo
from transect.census.ground.unplaced import UnplacedError
from transect.census.inputs.flights import FlightRow
from transect.census.inputs.survey import SurveySpec
from transect.imagery import FrameMetadata

DRONE = FrameMetadata(
    width=1920,
    height=1440,
    focal_mm=8.8,
    taken_at=datetime(2026, 7, 14, 9, 30),  # noqa: DTZ001 - camera clocks have no zone
    latitude=-1.5,
    longitude=35.1,
    gps_altitude_m=1714.0,
    relative_altitude_m=64.0,
    yaw_deg=10.0,
    gimbal_yaw_deg=12.0,
    gimbal_pitch_deg=-90.0,
    gimbal_roll_deg=0.0,
)


def spec(**keys: object) -> SurveySpec:
    return SurveySpec.model_validate({"name": "s", "camera": {"sensor_width_mm": 13.2}} | keys)


def placed(metadata: FrameMetadata, row: FlightRow | None = None, survey: SurveySpec | None = None) -> Placement:
    return place_photo(metadata, row, survey or spec(), 5.0)


def refusal(metadata: FrameMetadata, row: FlightRow | None = None, survey: SurveySpec | None = None) -> str:
    with pytest.raises(UnplacedError) as caught:
        place_photo(metadata, row, survey or spec(), 5.0)
    return str(caught.value)


def test_a_drone_photo_is_placed_from_exif_and_xmp() -> None:
    camera = Camera("unnamed camera", 13.2 / 1920, 8.8, "survey.yaml")
    gsd: float = pytest.approx(0.05)  # type: ignore[assignment] # approx compares as a number
    assert placed(DRONE) == Placement(
        latitude=-1.5, longitude=35.1, height_m=64.0, yaw_deg=12.0, gsd_m=gsd, camera=camera
    )


def test_flights_win_cell_by_cell() -> None:
    found = placed(DRONE, FlightRow(line=2, image="a.jpg", lat=-1.505, lon=35.1, height_agl_m=128.0, yaw_deg=-90.0))
    assert (found.latitude, found.longitude, found.height_m, found.yaw_deg) == (-1.505, 35.1, 128.0, 270.0)
    assert found.gsd_m == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("height", "metres"),
    [
        ({"source": "relative_altitude"}, 64.0),
        ({"source": "fixed", "height_agl_m": 50}, 50.0),
        ({"source": "gps_altitude", "ground_elevation_m": 1650}, 64.0),
    ],
)
def test_height_follows_the_rule(height: dict[str, object], metres: float) -> None:
    assert placed(DRONE, survey=spec(height=height)).height_m == metres


def test_flight_yaw_serves_where_the_gimbal_says_nothing() -> None:
    assert placed(replace(DRONE, gimbal_yaw_deg=None)).yaw_deg == 10.0


def test_a_lens_in_survey_yaml_wins_over_exif() -> None:
    survey = spec(camera={"sensor_width_mm": 13.2, "focal_mm": 4.4})
    assert placed(DRONE, survey=survey).gsd_m == pytest.approx(0.1)


def test_an_upright_photo_has_the_same_ground_sample_distance() -> None:
    assert placed(replace(DRONE, width=1440, height=1920)).gsd_m == placed(DRONE).gsd_m


def test_a_camera_that_is_rolled_half_round_still_looks_down() -> None:
    assert placed(replace(DRONE, gimbal_roll_deg=180.0)) == placed(DRONE)
    assert placed(replace(DRONE, gimbal_pitch_deg=None, gimbal_roll_deg=None)) == placed(DRONE)


def test_tilt_up_to_the_limit_is_kept_for_the_projection() -> None:
    found = placed(replace(DRONE, gimbal_pitch_deg=-86.5, gimbal_roll_deg=-2.0))
    assert (found.pitch_deg, found.roll_deg, found.gsd_m) == (-86.5, -2.0, placed(DRONE).gsd_m)
    assert found.off_nadir_deg == pytest.approx(4.03, abs=0.01)
    row = FlightRow(line=2, image="a.jpg", pitch_deg=-91.0, roll_deg=1.0)
    assert placed(replace(DRONE, gimbal_pitch_deg=-50.0), row).pitch_deg == -91.0


def test_a_roll_of_180_turns_the_yaw_only_where_the_aircraft_says_so() -> None:
    """Some gimbals that point down over their back write the yaw turned with it; the flight's yaw decides."""
    turned = replace(DRONE, gimbal_roll_deg=180.0, gimbal_yaw_deg=-168.0)
    assert placed(turned) == placed(DRONE)
    assert placed(replace(turned, gimbal_roll_deg=-179.0)).roll_deg == 1.0
    for flight_yaw in (None, 100.0):
        assert "roll of 180" in refusal(replace(turned, yaw_deg=flight_yaw))
    row = FlightRow(line=2, image="a.jpg", yaw_deg=33.0)
    assert placed(replace(turned, yaw_deg=None), row).yaw_deg == 33.0


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0.0), (3, 180.0), (6, -90.0), (8, 90.0)])
def test_exif_orientation_turns_the_picture_and_not_the_camera(orientation: int, turn: float) -> None:
    found = placed(replace(DRONE, orientation=orientation))
    assert (found.yaw_deg, found.turn_deg) == (12.0, turn)


def test_how_well_a_position_is_known_is_said_for_that_position() -> None:
    rtk = replace(DRONE, position_sd_m=0.03)
    assert placed(rtk).position_sd_m == 0.03
    assert placed(rtk, FlightRow(line=2, image="a.jpg", lat=-1.5, lon=35.1)).position_sd_m is None
    assert placed(rtk, FlightRow(line=2, image="a.jpg", lat=-1.5, lon=35.1, accuracy_m=0.5)).position_sd_m == 0.5


def test_positions_that_contradict_each_other_by_kilometres_are_no_position() -> None:
    found = refusal(DRONE, FlightRow(line=7, image="a.jpg", lat=-1.6, lon=35.1))
    assert "EXIF and flights.csv line 7 lie 11.1 km apart" in found


def test_height_above_a_dem() -> None:
    survey = spec(height={"source": "dem", "dem": "dem.tif"})
    found = place_photo(DRONE, None, survey, 5.0, PhotoTerrain(1630.0, 1650.0))
    assert found.height_m == 84.0


@pytest.mark.parametrize("altitude", ["relative", "gps"])
def test_a_photo_without_an_altitude_above_a_dem_is_refused_alone(altitude: str) -> None:
    """It ended the whole census with a TypeError: the terms of a height that is not known were put into words."""
    survey = spec(height={"source": "dem", "dem": "dem.tif", "altitude": altitude})
    unknown = replace(DRONE, relative_altitude_m=None, gps_altitude_m=None)
    with pytest.raises(UnplacedError, match=r"no height above ground: .* and flights.csv no height_agl_m"):
        place_photo(unknown, None, survey, 5.0, PhotoTerrain(1630.0, 1650.0))


@pytest.mark.parametrize(
    ("change", "survey", "words"),
    [
        ({"latitude": None}, {}, "no position"),
        ({"latitude": 0.0, "longitude": 0.0}, {}, "is not where a photo was taken"),
        ({"latitude": 89.0}, {}, "is not where a photo was taken"),
        ({"relative_altitude_m": None}, {}, "no RelativeAltitude"),
        ({"relative_altitude_m": -3.0}, {}, "-3 m is impossible"),
        ({"gps_altitude_m": None}, {"height": {"source": "gps_altitude", "ground_elevation_m": 1}}, "no GPSAltitude"),
        ({}, {"height": {"source": "flights"}}, "no height_agl_m"),
        ({"yaw_deg": None, "gimbal_yaw_deg": None}, {}, "no heading"),
        ({"orientation": 2}, {}, "mirrors it"),
        ({"latitude": None, "position_problem": "EXIF says latitude 0, longitude 0"}, {}, "EXIF says latitude 0"),
        ({"gps_altitude_m": 1640.0}, {"height": {"source": "gps_altitude", "ground_elevation_m": 1650}}, "-10 m is"),
        ({}, {"height": {"source": "dem", "dem": "dem.tif"}}, "dem.tif holds no elevation"),
        ({}, {"camera": {"sensor_width_mm": 100, "focal_mm": 5}}, "a corner of the picture looks 85 degrees"),
        ({}, {"camera": None}, "unnamed camera is not in the table"),
        ({"gimbal_pitch_deg": -80.0}, {}, "10.0 degrees off the vertical; the limit is 5"),
        ({"gimbal_roll_deg": 8.0}, {}, "8.0 degrees off"),
        ({"focal_mm": None}, {}, "no focal length"),
        ({"width": None}, {}, "no image size"),
    ],
)
def test_a_photo_that_cannot_be_placed_says_why(
    change: dict[str, float], survey: dict[str, object], words: str
) -> None:
    metadata = replace(DRONE, **change)  # type: ignore[arg-type] # fields by name
    assert words in refusal(metadata, survey=spec(**survey))


def test_what_cannot_be_read_is_a_reason_and_never_a_default() -> None:
    """Not straight down, not the aircraft's yaw, not absent; flights.csv settles each."""
    pitch = replace(DRONE, gimbal_pitch_deg=None, attitude_problem="XMP says GimbalPitchDegree 'nan'")
    assert refusal(pitch).startswith("no heading: XMP says GimbalPitchDegree 'nan'; give yaw_deg")
    assert placed(pitch, FlightRow(line=2, image="a.jpg", pitch_deg=-90.0)) == placed(DRONE)
    yaw = replace(DRONE, gimbal_yaw_deg=None, attitude_problem="XMP says GimbalYawDegree ''")
    assert "GimbalYawDegree ''" in refusal(yaw)
    assert placed(yaw, FlightRow(line=2, image="a.jpg", yaw_deg=12.0)) == placed(DRONE)
    # The aircraft's yaw is not needed where the gimbal gives all three.
    assert placed(replace(DRONE, yaw_deg=None, attitude_problem="XMP says FlightYawDegree 'x'")) == placed(DRONE)
    height = replace(DRONE, relative_altitude_m=None, relative_altitude_problem="XMP says RelativeAltitude 'high'")
    assert "XMP says RelativeAltitude 'high' and flights.csv no" in refusal(height)
    altitude = replace(DRONE, gps_altitude_m=None, gps_altitude_problem="EXIF says GPSAltitude 1/0")
    rule = {"source": "gps_altitude", "ground_elevation_m": 1650}
    assert "EXIF says GPSAltitude 1/0" in refusal(altitude, survey=spec(height=rule))
    assert placed(altitude, FlightRow(line=2, image="a.jpg", height_agl_m=64.0), spec(height=rule)).height_m == 64.0


def test_flights_settle_a_hemisphere_that_agrees_with_them() -> None:
    candidates = ((1.5, 35.1), (-1.5, 35.1))
    unsettled = replace(DRONE, latitude=None, longitude=None, position_problem="no N", possible_positions=candidates)
    assert refusal(unsettled) == "no position: no N."
    assert placed(unsettled, FlightRow(line=2, image="a.jpg", lat=-1.5, lon=35.1)).latitude == -1.5
    assert "in whichever hemisphere" in refusal(unsettled, FlightRow(line=2, image="a.jpg", lat=-1.6, lon=35.1))
