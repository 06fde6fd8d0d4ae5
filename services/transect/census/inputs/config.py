"""The configuration of a census: one small YAML file, every value with a default."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from transect.census.estimates.estimate import DEFAULT_METHOD, StripMethod
from transect.config_files import read_yaml_mapping
from transect.config_models import ConfigModel, check
from transect.engine import DetectOptions
from transect.errors import InputError
from transect.settings import Settings

Counting = Literal["matching", "division_line"]


class CensusConfig(ConfigModel):
    """Options of a census. None stands for the value of the settings, else of the model package.

    Boxes that score below the threshold, from `review_conf` on, are candidates: they are kept for people to review, and
    count nowhere. None keeps none.

    `workers` photos are decoded at a time; "auto" is two beside a network on the CPU, and one a core beside a GPU.

    `gsd` is the ground sample distance in metres a pixel at which photos are searched: those that differ from it by
    more than scales.UNTOUCHED are resampled to it. "auto" is that of the images the model was trained on, None
    searches photos as they are.

    `gps_error_m`, `yaw_error_deg` and `height_error_m` are standard deviations of one photo's recorded
    pose (None: estimated from the survey itself where enough animals are in two photos, else the default); the
    tolerance within which two boxes may be one animal is derived from them. `counting` is how an animal in several
    photos is counted once; photos more than `time_window_s` apart are never matched, and animals move up to
    `animal_speed_m_s` between photos. `method` gives the 95% limits. `trust` is for a survey to which the model's
    validation does not apply: "warn" gives the count without the detector's correction, "refuse" none.
    """

    conf: float | None = Field(default=None, ge=0, le=1)
    iou: float | None = Field(default=None, ge=0, le=1)
    review_conf: float | None = Field(default=0.05, ge=0, le=1)
    tile: Literal["auto", "off"] | int | None = None
    overlap: int | None = Field(default=None, ge=0)
    gsd: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | Literal["auto"] | None = None
    workers: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    gps_error_m: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    yaw_error_deg: float | None = Field(default=None, ge=0, le=45, allow_inf_nan=False)
    height_error_m: float = Field(default=1.0, ge=0, le=100, allow_inf_nan=False)
    counting: Counting = "matching"
    time_window_s: float = Field(default=20.0, ge=0, le=86400, allow_inf_nan=False)
    animal_speed_m_s: float = Field(default=1.0, ge=0, le=30, allow_inf_nan=False)
    match_sigmas: float = Field(default=4.0, gt=0, le=10, allow_inf_nan=False)
    max_off_nadir_deg: float = Field(default=20.0, gt=0, le=45, allow_inf_nan=False)
    method: StripMethod = DEFAULT_METHOD
    trust: Literal["warn", "refuse"] = "warn"
    thumbnails: int = Field(default=20, ge=0, le=40)

    def detect_options(self, settings: Settings) -> DetectOptions:
        """The detector's options: this file's values, else the settings'; the scale is each photo's own.

        Raises InputError where `gsd` and `tile` contradict each other.
        """
        options = DetectOptions(
            conf=settings.conf if self.conf is None else self.conf,
            iou=settings.iou if self.iou is None else self.iou,
            tile=settings.tile if self.tile is None else self.tile,
            overlap=settings.tile_overlap if self.overlap is None else self.overlap,
        )
        if self.gsd is not None and options.tile == "off":
            where = "the census configuration" if self.tile == "off" else "TRANSECT_TILE"
            raise InputError(
                f"gsd: {self.gsd} cannot be had with tile: off of {where}, which scales every photo to the model's "
                "input; set tile to auto, or gsd to null."
            )
        return options


def load_config(path: Path | None = None) -> CensusConfig:
    """Read a census configuration; None gives the defaults. Raises InputError, naming file and key."""
    if path is None:
        return CensusConfig()
    return check(CensusConfig, read_yaml_mapping(path, InputError), InputError, "a census configuration")
