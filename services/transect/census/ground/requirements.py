"""What the photos of a survey must have in common before anything is counted."""

from collections.abc import Sequence

from transect.census.ground.cameras import camera_name
from transect.census.ground.frames import Frame, Reading
from transect.census.inputs.survey import Survey
from transect.errors import SurveyError


def require_one_kind(survey: Survey, reads: Sequence[Reading]) -> None:
    """Raise SurveyError where a survey holds both photos and maps."""
    maps = [read.name for read in reads if read.map is not None]
    photos = [read.name for read in reads if read.map is None and not read.failure]
    if maps and photos:
        raise SurveyError(
            f"Survey {survey.folder} mixes orthomosaics ({maps[0]}) and photos ({photos[0]}): a map is made of photos, "
            "so their animals would stand in it twice; count them as two surveys."
        )


def require_one_camera(survey: Survey, reads: Sequence[Reading]) -> None:
    """One sensor for all is wrong where several models took the photos."""
    spec = survey.spec
    if spec.camera is None:
        return
    models = {
        read.metadata.model: camera_name(read.metadata)
        for read in reads
        if read.map is None and read.metadata.model and read.metadata.model not in spec.cameras
    }
    if len(models) > 1:
        first, second, *_ = sorted(models.values())
        raise SurveyError(
            f"{survey.folder / 'survey.yaml'} gives one camera for all photos, but they come from several "
            f"({first}, {second}); give each its own as `cameras: {{MODEL: {{sensor_width_mm: ..., focal_mm: ...}}}}`, "
            "or none where the table of cameras knows them."
        )


def require_positions(survey: Survey, frames: Sequence[Frame]) -> None:
    """Raise SurveyError where no photo can be placed, with the reason of the first."""
    if any(frame.placement is not None for frame in frames):
        return
    if all(frame.unreadable for frame in frames):
        raise SurveyError(f"No photo of survey {survey.folder} can be read; the first: {frames[0].problem}")
    frame = next(frame for frame in frames if not frame.unreadable)
    reason = f"No photo of survey {survey.folder} has a usable position ({frame.name}: {frame.problem.rstrip('.')})"
    if frame.problem.startswith(("no position", "no height", "no heading")):
        columns = "image, transect, lat, lon, height_agl_m, yaw_deg"
        raise SurveyError(f"{reason}; add {survey.flights_path.name} with columns {columns}.")
    raise SurveyError(f"{reason}.")
