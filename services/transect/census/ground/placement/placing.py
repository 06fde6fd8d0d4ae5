"""The pose of a photo from its metadata and its row of flights.csv. Never a guess: a photo without one says why."""

from transect.census.ground.geometry import Pose, distance_m
from transect.census.ground.placement.attitude import Attitude, attitude_of
from transect.census.ground.placement.cameras import Camera, camera_of
from transect.census.ground.placement.elevation import PhotoTerrain, explain_height, height_above
from transect.census.ground.placement.frames import Placement
from transect.census.ground.unplaced import UnplacedError
from transect.census.inputs.flights import FlightRow
from transect.census.inputs.survey import SurveySpec
from transect.imagery import FrameMetadata

# flights.csv and EXIF that lie further apart are of different photos.
_CONTRADICTION_M = 1000.0
# Beyond this angle from nadir a corner of the picture is useless because of relief and haze.
_STEEPEST_RAY_DEG = 80.0


def place_photo(
    metadata: FrameMetadata,
    row: FlightRow | None,
    spec: SurveySpec,
    max_off_nadir_deg: float,
    ground: PhotoTerrain | None = None,
) -> Placement:
    """The pose of one photo; `ground` is the terrain, where a DEM gives it. Raises UnplacedError where it has none."""
    row = row or FlightRow(line=0, image="")
    latitude, longitude = position_of(metadata, row)
    height = _height(metadata, row, spec, ground)
    attitude = attitude_of(metadata, row)
    camera = camera_of(metadata, spec)
    _refuse_tilt(attitude, camera, metadata, max_off_nadir_deg)
    accuracy = row.accuracy_m if row.lat is not None else row.accuracy_m or metadata.position_sd_m
    return Placement(
        latitude=latitude,
        longitude=longitude,
        height_m=height,
        yaw_deg=attitude.yaw_deg,
        gsd_m=height / camera.focal_px,
        pitch_deg=attitude.pitch_deg,
        roll_deg=attitude.roll_deg,
        turn_deg=attitude.turn_deg,
        position_sd_m=accuracy,
        camera=camera,
    )


def _refuse_tilt(attitude: Attitude, camera: Camera, metadata: FrameMetadata, max_off_nadir_deg: float) -> None:
    if attitude.off_nadir_deg > max_off_nadir_deg:
        raise UnplacedError(
            f"a tilted camera: it looked {attitude.off_nadir_deg:.1f} degrees off the vertical; the limit is "
            f"{max_off_nadir_deg:g} (a pitch of -90 is straight down)."
        )
    # Angles alone: the same at any height.
    pose = Pose(
        x=0,
        y=0,
        yaw_deg=0,
        height_m=camera.focal_px,
        metres_per_pixel=1.0,
        width=metadata.width or 0,
        height=metadata.height or 0,
        pitch_deg=attitude.pitch_deg,
        roll_deg=attitude.roll_deg,
        turn_deg=attitude.turn_deg,
    )
    steepest = pose.steepest_ray_deg()
    if steepest > _STEEPEST_RAY_DEG:
        raise UnplacedError(f"a tilted camera: a corner of the picture looks {steepest:.0f} degrees off the vertical.")


def position_of(metadata: FrameMetadata, row: FlightRow) -> tuple[float, float]:
    """Latitude and longitude of a photo in WGS84 degrees. Raises UnplacedError where there are none."""
    latitude, longitude = metadata.latitude, metadata.longitude
    if row.lat is not None and row.lon is not None:
        if latitude is not None and longitude is not None:
            apart = distance_m(longitude, latitude, row.lon, row.lat)
            if apart > _CONTRADICTION_M:
                raise UnplacedError(
                    f"contradictory positions: EXIF and flights.csv line {row.line} lie {apart / 1000:.3g} km apart; "
                    "correct the row, or the photo that it names."
                )
        candidates = metadata.possible_positions if latitude is None else ()
        nearest = min((distance_m(lon, lat, row.lon, row.lat) for lat, lon in candidates), default=0.0)
        if nearest > _CONTRADICTION_M:
            raise UnplacedError(
                f"contradictory positions: EXIF, in whichever hemisphere, and flights.csv line {row.line} lie at least "
                f"{nearest / 1000:.3g} km apart; correct the row, or the photo that it names."
            )
        latitude, longitude = row.lat, row.lon
    if latitude is None or longitude is None:
        reason = metadata.position_problem or "neither flights.csv nor EXIF gives latitude and longitude"
        raise UnplacedError(f"no position: {reason}.")
    if abs(latitude) > 84 or abs(longitude) > 180 or (latitude == 0 and longitude == 0):
        raise UnplacedError(
            f"no position: latitude {latitude:g}, longitude {longitude:g} is not where a photo was taken."
        )
    return latitude, longitude


def _height(metadata: FrameMetadata, row: FlightRow, spec: SurveySpec, ground: PhotoTerrain | None) -> float:
    rule = spec.height
    height: float | None = None
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
        how = "" if ground is None else f": {explain_height(ground, rule, metadata)}"
    if height is None:
        missing = {
            "relative_altitude": metadata.relative_altitude_problem or "XMP has no RelativeAltitude",
            "flights": "flights.csv has no height_agl_m for it",
            "gps_altitude": metadata.gps_altitude_problem or "EXIF has no GPSAltitude",
            "fixed": "survey.yaml gives none",
        }
        besides = " and flights.csv no height_agl_m" if rule.source in ("relative_altitude", "gps_altitude") else ""
        raise UnplacedError(f"no height above ground: {missing[rule.source]}{besides}.")
    if not 0.1 <= height <= 20_000:
        raise UnplacedError(f"no height above ground: {height:g} m is impossible{how}.")
    return height
