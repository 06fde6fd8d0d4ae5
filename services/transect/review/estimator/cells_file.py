"""Bins and groups as plain numbers in a JSON file, so that anybody can check the statistics by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transect.errors import InputError
from transect.review.estimator.area import AreaEstimate, StratumDesign
from transect.review.estimator.cells import BoxBin, Cell, PhotoGroup
from transect.review.estimator.flown import Flown, Share

_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Area = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Number = Annotated[int, Field(ge=0)]
_C = TypeVar("_C", bound=Cell)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Transect(_Model):
    area_km2: _Area


class _Bin(_Model):
    boxes: _Number
    weight_by_transect: list[_Amount]
    reviewed: list[tuple[_Number, Literal[0, 1], _Amount]]


class _Group(_Model):
    photos: _Number
    z_by_transect: list[_Amount]
    searched: list[tuple[_Number, _Amount, _Amount]]


class _Cells(_Model):
    transects: list[_Transect] = Field(min_length=1)
    stratum_area_km2: _Area
    transects_possible: _Area | None = None
    bins: list[_Bin]
    groups: list[_Group]


def estimate_cells(path: Path) -> dict[str, Any]:
    """The estimate from a cells file, unrounded and without floors, with None for what does not exist.

    `limits` are of the flown total; `jolly2` and `lognormal` of the stratum, with both phases in them. Raises
    InputError for a file that cannot be read, is no cells file, or says what cannot be.
    """
    try:
        cells = _Cells.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path} is no cells file: {f'{where}: ' if where else ''}{first['msg']}.") from error
    areas = np.array([one.area_km2 for one in cells.transects])
    try:
        bins = [_bin(one, len(areas), f"bins.{number}") for number, one in enumerate(cells.bins)]
        groups = [_group(one, len(areas), f"groups.{number}") for number, one in enumerate(cells.groups)]
        design = StratumDesign("", np.arange(len(areas)), areas, cells.stratum_area_km2, cells.transects_possible)
        design.sample(np.zeros(len(areas)))
    except ValueError as error:
        raise InputError(f"{path}: {error}.") from error
    return estimate_record(Flown(bins, groups), design)


def estimate_record(flown: Flown, design: StratumDesign) -> dict[str, Any]:
    """The estimate of one stratum that is all of the flown ground, as JSON."""
    area = AreaEstimate(flown, [design])
    if flown.unknown:
        names = ("total", "variance", "se", "limits", "precision", "precision_se", "recall", "recall_se")
        more = ("predicted_by_transect", "estimated_by_transect", "lambda", "estimate", "estimate_variance")
        return dict.fromkeys((*names, *more, "estimate_se", "jolly2", "lognormal"), None)
    precision, recall = flown.precision, flown.recall()
    return {
        "total": flown.total,
        "variance": flown.variance,
        "se": flown.variance**0.5,
        "limits": list(flown.limits),
        **_share("precision", precision),
        **_share("recall", recall),
        "predicted_by_transect": flown.predicted.tolist(),
        "estimated_by_transect": flown.estimated.tolist(),
        "lambda": area.spread_factor,
        "estimate": area.estimate,
        "estimate_variance": area.variance,
        "estimate_se": None if area.variance is None else area.variance**0.5,
        "jolly2": _listed(area.limits("jolly2")),
        "lognormal": _listed(area.limits("lognormal")),
    }


def _share(name: str, share: Share | None) -> dict[str, float | None]:
    return {name: None if share is None else share.value, f"{name}_se": None if share is None else share.se}


def _listed(limits: tuple[float, float] | None) -> list[float] | None:
    return None if limits is None else list(limits)


def _bin(one: _Bin, transects: int, where: str) -> BoxBin:
    reviewed = [(transect, weight, verdict * weight) for transect, verdict, weight in one.reviewed]
    return _cell(BoxBin, one.boxes, (one.weight_by_transect, transects), reviewed, where)


def _group(one: _Group, transects: int, where: str) -> PhotoGroup:
    return _cell(PhotoGroup, one.photos, (one.z_by_transect, transects), one.searched, where)


def _cell(
    kind: type[_C],
    population: int,
    sizes: tuple[list[float], int],
    reviewed: Sequence[tuple[int, float, float]],
    where: str,
) -> _C:
    size_by_transect, transects = sizes
    if len(size_by_transect) != transects:
        raise ValueError(f"{where} has {len(size_by_transect)} sums by transect for {transects} transects")
    columns = np.array(reviewed, np.float64).reshape(-1, 3)
    try:
        return kind(
            population=population,
            size_by_transect=np.array(size_by_transect, np.float64),
            transect=columns[:, 0].astype(np.int64),
            size=columns[:, 1],
            value=columns[:, 2],
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
