"""From what a photo and its row of flights.csv say to a pose, or to the reason why it has none. Nothing is guessed."""

from transect.census.ground.geometry import Pose, distance_m
from transect.census.ground.placement.attitude import Attitude, attitude_of
from transect.census.ground.placement.cameras import Camera, camera_of
from transect.census.ground.placement.elevation import Ground, height_above, reckoning
from transect.census.ground.placement.frames import Placement
from transect.census.inputs.flights import FlightRow
from transect.census.inputs.survey import SurveySpec
from transect.imagery import FrameMetadata

# flights.csv and EXIF that lie further apart speak of different photos.
_CONTRADICTION_M = 1000.0
# A corner of the picture that looks further than this from straight down is lost to relief and haze.
_STEEPEST_RAY_DEG = 80.0


def place(
    metadata: FrameMetadata,
    row: FlightRow | None,
    spec: SurveySpec,
    max_off_nadir_deg: float,
    ground: Ground | None = None,
) -> Placement | str:
    """The pose of one photo, or a sentence that says what it lacks. `ground` is the terrain, where a DEM gives it."""
    row = row or FlightRow(0, "")
    position = position_of(metadata, row)
    if isinstance(position, str):
        return position
    height = _height(metadata, row, spec, ground)
    if isinstance(height, str):
        return height
    attitude = attitude_of(metadata, row)
    if isinstance(attitude, str):
        return attitude
    camera = camera_of(metadata, spec)
    if isinstance(camera, str):
        return camera
    problem = _tilt_problem(attitude, camera, metadata, max_off_nadir_deg)
    if problem:
        return problem
    accuracy = row.accuracy_m if row.lat is not None else row.accuracy_m or metadata.position_sd_m
    return Placement(
        position[0],
        position[1],
        height,
        attitude.yaw_deg,
        height / camera.focal_px,
        attitude.pitch_deg,
        attitude.roll_deg,
        attitude.turn_deg,
        accuracy,
        camera,
    )


def _tilt_problem(attitude: Attitude, camera: Camera, metadata: FrameMetadata, max_off_nadir_deg: float) -> str:
    if attitude.off_nadir_deg > max_off_nadir_deg:
        return (
            f"a tilted camera: it looked {attitude.off_nadir_deg:.1f} degrees off the vertical; the limit is "
            f"{max_off_nadir_deg:g} (a pitch of -90 is straight down)."
        )
    size = (metadata.width or 0, metadata.height or 0)
    # Angles alone: the same at any height.
    pose = Pose(0, 0, 0, camera.focal_px, 1.0, *size, attitude.pitch_deg, attitude.roll_deg, attitude.turn_deg)
    steepest = pose.steepest_ray_deg()
    if steepest > _STEEPEST_RAY_DEG:
        return f"a tilted camera: a corner of the picture looks {steepest:.0f} degrees off the vertical."
    return ""


def position_of(metadata: FrameMetadata, row: FlightRow) -> tuple[float, float] | str:
    """Latitude and longitude of a photo in WGS84 degrees, or a sentence that says why there are none."""
    latitude, longitude = metadata.latitude, metadata.longitude
    if row.lat is not None and row.lon is not None:
        if latitude is not None and longitude is not None:
            apart = distance_m(longitude, latitude, row.lon, row.lat)
            if apart > _CONTRADICTION_M:
                return (
                    f"contradictory positions: EXIF and flights.csv line {row.line} lie {apart / 1000:.3g} km apart; "
                    "correct the row, or the photo that it names."
                )
        candidates = metadata.possible_positions if latitude is None else ()
        nearest = min((distance_m(lon, lat, row.lon, row.lat) for lat, lon in candidates), default=0.0)
        if nearest > _CONTRADICTION_M:
            return (
                f"contradictory positions: EXIF, in whichever hemisphere, and flights.csv line {row.line} lie at least "
                f"{nearest / 1000:.3g} km apart; correct the row, or the photo that it names."
            )
        latitude, longitude = row.lat, row.lon
    if latitude is None or longitude is None:
        told = metadata.position_problem or "neither flights.csv nor EXIF gives latitude and longitude"
        return f"no position: {told}."
    if abs(latitude) > 84 or abs(longitude) > 180 or (latitude == 0 and longitude == 0):
        return f"no position: latitude {latitude:g}, longitude {longitude:g} is not where a photo was taken."
    return latitude, longitude


def _height(metadata: FrameMetadata, row: FlightRow, spec: SurveySpec, ground: Ground | None) -> float | str:
    rule = spec.height
    height: float | str | None = None
    how = ""
    if row.height_agl_m is not None:
        height = row.height_agl_m
    elif rule.source == "fixed":
        height = rule.height_agl_m
    elif rule.source == "gps_altitude":
        altitude, elevation = metadata.gps_altitude_m, rule.ground_elevation_m
        if altitude is not None and elevation is not None:
            height = altitude - elevation
            how = f": an altitude of {altitude:g} m, less height: ground_elevation_m {elevation:g}; check both"
    elif rule.source == "relative_altitude":
        height = metadata.relative_altitude_m
    elif rule.source == "dem":
        height = height_above(ground, rule, metadata)
        how = "" if ground is None else f": {reckoning(ground, rule, metadata)}"
    if isinstance(height, str):
        return height
    if height is None:
        asked = {
            "relative_altitude": metadata.relative_altitude_problem or "XMP has no RelativeAltitude",
            "flights": "flights.csv has no height_agl_m for it",
            "gps_altitude": metadata.gps_altitude_problem or "EXIF has no GPSAltitude",
            "fixed": "survey.yaml gives none",
        }
        besides = " and flights.csv no height_agl_m" if rule.source in ("relative_altitude", "gps_altitude") else ""
        return f"no height above ground: {asked[rule.source]}{besides}."
    if not 0.1 <= height <= 20_000:
        return f"no height above ground: {height:g} m is impossible{how}."
    return height
