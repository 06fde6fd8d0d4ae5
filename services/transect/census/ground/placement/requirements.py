"""Requirements on all photos of a survey, checked before anything is counted."""

from collections.abc import Sequence

from transect.census.ground.placement.cameras import camera_name
from transect.census.ground.placement.frames import Frame, SourceFile
from transect.census.inputs.flights import FlightRow
from transect.census.inputs.survey import Survey
from transect.errors import SurveyError

_MOST_NAMED = 5


def require_one_kind(survey: Survey, files: Sequence[SourceFile]) -> None:
    """Raise SurveyError where a survey mixes photos and maps."""
    maps = [file.name for file in files if file.is_map]
    photos = [file.name for file in files if not file.is_map and not file.failure]
    if maps and photos:
        raise SurveyError(
            f"Survey {survey.folder} mixes orthomosaics ({maps[0]}) and photos ({photos[0]}): a map is made of photos, "
            "so their animals would stand in it twice; count them as two surveys."
        )


def require_one_camera(survey: Survey, files: Sequence[SourceFile]) -> None:
    """Raise SurveyError where survey.yaml gives one camera for photos of several models."""
    spec = survey.spec
    if spec.camera is None:
        return
    models = {
        file.metadata.model: camera_name(file.metadata)
        for file in files
        if not file.is_map and file.metadata.model and file.metadata.model not in spec.cameras
    }
    if len(models) > 1:
        first, second, *_ = sorted(models.values())
        raise SurveyError(
            f"{survey.folder / 'survey.yaml'} gives one camera for all photos, but they come from several "
            f"({first}, {second}); give each its own as `cameras: {{MODEL: {{sensor_width_mm: ..., focal_mm: ...}}}}`, "
            "or none where the table of cameras knows them."
        )


def require_positions(survey: Survey, frames: Sequence[Frame], unused: Sequence[FlightRow]) -> None:
    """Raise SurveyError where no photo can be placed, with the reason of the first and the remedy.

    `unused` are the rows of flights.csv that name no photo.
    """
    if any(frame.placement is not None for frame in frames):
        return
    if all(frame.unreadable for frame in frames):
        raise SurveyError(f"No photo of survey {survey.folder} can be read; the first: {frames[0].problem}")
    frame = next(frame for frame in frames if not frame.unreadable)
    what = "map" if frame.is_map else "photo"
    reason = f"No {what} of survey {survey.folder} has a usable position ({frame.name}: {frame.problem.rstrip('.')})"
    raise SurveyError(f"{reason}{_advice(survey, frame, unused)}.")


def _advice(survey: Survey, frame: Frame, unused: Sequence[FlightRow]) -> str:
    """How flights.csv can place the photo; empty for reasons of maps and terrain, which contain the remedy."""
    if frame.is_map or not frame.problem.startswith(("no position", "no height", "no heading")):
        return ""
    table = survey.flights_path.name
    if unused:
        named = ", ".join(f"line {row.line}: {row.image}" for row in unused[:_MOST_NAMED])
        more = f" and {len(unused) - _MOST_NAMED} more" if len(unused) > _MOST_NAMED else ""
        return (
            f"; {table} exists, but {len(unused)} of its rows name no photo ({named}{more}): write the photos' "
            "paths below images/"
        )
    if survey.flights_path.exists():
        return f"; {table} exists, but does not give it: fill in that photo's row"
    # Such reasons contain the remedy.
    if survey.spec.height.source == "dem" and frame.problem.startswith("no height"):
        return ""
    return f"; add {table} with columns image, transect, lat, lon, height_agl_m, yaw_deg"
