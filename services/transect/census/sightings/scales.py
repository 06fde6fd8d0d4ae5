"""The scale at which each photo is searched, where `gsd` sets one ground sample distance for all."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from transect.census.ground.placement.frames import Frame
from transect.census.inputs.config import CensusConfig
from transect.engine import LEAST_SCALE, MOST_SCALE, PackageManifest
from transect.errors import InputError, SurveyError

# Photos whose ground sample distance differs by less are searched as they are, so that small variations of the flight's
# height do not blur its photos. Training varies the size of animals by a fifth and more (`scale` of the recipes), so a
# twentieth does not matter to a detector.
UNTOUCHED = 0.05


@dataclass(frozen=True)
class TargetGsd:
    """The ground sample distance to search at, in metres a pixel: the model's training GSD, or a configured one."""

    metres: float
    source: Literal["training", "given"]


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """A summary of the resampling: the target as in TargetGsd, and the range of the photos' scales.

    `resampled` photos have another scale than 1. `without_gsd` photos have no position and use the others' median.
    """

    target_gsd_m: float
    target: Literal["training", "given"]
    photos: int
    resampled: int
    without_gsd: int
    scale: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return asdict(self)


def target_gsd(config: CensusConfig, package: PackageManifest) -> TargetGsd | None:
    """Resolve `gsd` of the configuration for a model; None where photos are searched as they are.

    Raises InputError where `gsd` is auto and the package lacks the training GSD.
    """
    if config.gsd is None:
        return None
    if config.gsd != "auto":
        return TargetGsd(config.gsd, "given")
    if package.training_gsd_m is None:
        raise InputError(
            "gsd: auto needs the ground sample distance of the images that the model was trained on, and its package "
            "lacks it; write it in metres, as in gsd: 0.05, or train again with training_gsd_m in the recipe."
        )
    return TargetGsd(package.training_gsd_m, "training")


def with_scales(frames: Sequence[Frame], target: TargetGsd | None) -> tuple[Frame, ...]:
    """The frames, each with the scale at which it is searched; without a target as they are.

    A photo without a position uses the median of the others. One that would have to be shrunk or enlarged beyond the
    limits becomes `unreadable`, with the reason. Raises SurveyError where no photo has a position, or where the median
    is beyond the limits.
    """
    if target is None:
        return tuple(frames)
    gsds = [frame.placement.middle_gsd_m for frame in frames if frame.placement is not None and not frame.unreadable]
    if not gsds:
        raise SurveyError(
            "No photo has a place, so none has a ground sample distance to be resampled from; set gsd to null in the "
            "census configuration, or give the photos positions in flights.csv."
        )
    # The lower one of two, which is a photo's: where it is within the limits, at least that photo is searched.
    median = float(np.quantile(gsds, 0.5, method="lower"))
    if not LEAST_SCALE <= median / target.metres <= MOST_SCALE:
        raise SurveyError(
            f"The photos show {_in_cm(median)} a pixel (median), and gsd asks for {_in_cm(target.metres)}: photos are "
            f"shrunk at most {1 / LEAST_SCALE:g} times and enlarged at most {MOST_SCALE:g} times; check heights and "
            f"camera, and {_whose(target)}."
        )
    return tuple(_with_scale(frame, median, target) for frame in frames)


def resampling(frames: Sequence[Frame], target: TargetGsd | None) -> Resampling | None:
    """The summary of the photos that are searched; None without a target."""
    searched = [frame for frame in frames if frame.scale is not None and not frame.unreadable]
    scales = [frame.scale for frame in searched if frame.scale is not None]
    if target is None or not scales:
        return None
    return Resampling(
        target_gsd_m=target.metres,
        target=target.source,
        photos=len(searched),
        resampled=sum(scale != 1 for scale in scales),
        without_gsd=sum(frame.placement is None for frame in searched),
        scale={"least": min(scales), "median": float(np.median(scales)), "most": max(scales)},
    )


def _with_scale(frame: Frame, median: float, target: TargetGsd) -> Frame:
    if frame.unreadable:
        return frame
    gsd = median if frame.placement is None else frame.placement.middle_gsd_m
    scale = gsd / target.metres
    if not LEAST_SCALE <= scale <= MOST_SCALE:
        what = f"shrunk {1 / scale:.3g} times" if scale < 1 else f"enlarged {scale:.3g} times"
        most = 1 / LEAST_SCALE if scale < 1 else MOST_SCALE
        return replace(
            frame,
            unreadable=True,
            problem=f"{frame.name} shows {_in_cm(gsd)} a pixel and would have to be {what} for gsd: "
            f"{_in_cm(target.metres)}; the limit is {most:g}.",
        )
    # Three digits: the same to the last bit on every machine, and within half a percent of the target.
    return replace(frame, scale=1.0 if abs(scale - 1) <= UNTOUCHED else float(f"{scale:.3g}"))


def _whose(target: TargetGsd) -> str:
    return "training_gsd_m of the model's recipe" if target.source == "training" else "gsd, which is in metres"


def _in_cm(metres: float) -> str:
    return f"{metres * 100:.3g} cm"
