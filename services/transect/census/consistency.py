"""What the photos of a survey say that cannot all be true. Such photos count, and are named."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from transect.census.ground.coverage import Coverage
from transect.census.ground.frames import Frame, Placement
from transect.census.ground.geometry import GroundView
from transect.census.result import Failure

# No survey aircraft flies faster, and clocks are read to a second.
_FASTEST_M_S = 150.0
_CLOCK_S = 1.0
# Over hills heights differ; a zero too many, or feet for metres, differs more.
_ODD_HEIGHT = 3.0
_FEWEST_HEIGHTS = 5
_DIGITS = re.compile(r"(\d+)")


def suspects(frames: Sequence[Frame], views: Sequence[GroundView | None]) -> tuple[Failure, ...]:
    """Photos with an odd clock or height, an order against their names, or too far from the photo before."""
    found = [Failure(frame.name, "suspect", f"{frame.name}: {frame.remark}") for frame in frames if frame.remark]
    by_transect: dict[str, list[int]] = {}
    for number, frame in enumerate(frames):
        if frame.transect is not None and frame.taken_at is not None:
            by_transect.setdefault(frame.transect, []).append(number)
    for transect, numbers in by_transect.items():
        found += _backwards(transect, [frames[number] for number in numbers])
        found += _leaps(transect, [(frames[number], views[number]) for number in numbers])
    return (*found, *_odd_heights(frames))


def _odd_heights(frames: Sequence[Frame]) -> Iterator[Failure]:
    heights = {frame.name: frame.placement.height_m for frame in frames if isinstance(frame.placement, Placement)}
    if len(heights) < _FEWEST_HEIGHTS:
        return
    usual = float(np.median(list(heights.values())))
    for name, height in heights.items():
        if not usual / _ODD_HEIGHT <= height <= usual * _ODD_HEIGHT:
            yield Failure(
                name,
                "suspect",
                f"{name} was taken from {height:.4g} m above ground, where the median of the survey is {usual:.4g} m: "
                "check its height, since its ground and its animals' places follow from it.",
            )


def _backwards(transect: str, frames: Sequence[Frame]) -> Iterator[Failure]:
    for before, after in pairwise(sorted(frames, key=lambda frame: _natural(frame.name))):
        if before.taken_at is not None and after.taken_at is not None and after.taken_at < before.taken_at:
            yield Failure(
                after.name,
                "suspect",
                f"In transect {transect} time runs backwards: {after.name} was taken at {after.taken_at}, the photo "
                f"before it by name, {before.name}, at {before.taken_at}. The photos are counted in order of time.",
            )


def _leaps(transect: str, flown: Sequence[tuple[Frame, GroundView | None]]) -> Iterator[Failure]:
    timed = ((frame.taken_at, frame.name, view) for frame, view in flown if frame.taken_at is not None)
    placed = sorted(((time, name, view) for time, name, view in timed if view is not None), key=lambda one: one[:2])
    for (earlier, before, one), (later, after, other) in pairwise(placed):
        seconds = (later - earlier).total_seconds() + _CLOCK_S
        metres = float(np.hypot(other.x - one.x, other.y - one.y))
        if metres > _FASTEST_M_S * seconds:
            yield Failure(
                after,
                "suspect",
                f"In transect {transect} {after} lies {metres / 1000:.3g} km from {before}, which was taken "
                f"{seconds - _CLOCK_S:g} s earlier: one of their positions or times is wrong.",
            )


def _natural(name: str) -> list[tuple[int, str]]:
    """Names in the order in which people count: 9 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(name)]


def unsampled(frames: Sequence[Frame], coverage: Coverage) -> tuple[Failure, ...]:
    """Transects that are no sample of any stratum, and why."""
    members: dict[str, list[int]] = {}
    for number in coverage.footprints:
        transect = frames[number].transect
        if transect is not None:
            members.setdefault(transect, []).append(number)
    sampled = {(unit.stratum, unit.transect) for unit in coverage.units}
    repeats = {(unit.stratum, name): unit.transect for unit in coverage.units for name in unit.again}
    failures = []
    for transect, numbers in sorted(members.items()):
        strata = {coverage.region_of[number] for number in numbers if number in coverage.region_of}
        if not strata and coverage.regions:
            reason = f"Transect {transect} ({len(numbers)} photos) lies in no stratum; its animals are in no estimate."
            failures.append(Failure(transect, "transect", reason))
        for stratum in sorted(strata):
            if (first := repeats.get((stratum, transect))) is not None:
                reason = (
                    f"Transect {transect} shows the ground of transect {first} in stratum {stratum} again; together "
                    f"they are one sample, and {transect} is no sample of its own."
                )
                failures.append(Failure(transect, "transect", reason))
            elif (stratum, transect) not in sampled:
                reason = (
                    f"Transect {transect} shows no ground of stratum {stratum} that no transect before it by name "
                    "shows; it is no sample of its own."
                )
                failures.append(Failure(transect, "transect", reason))
    return tuple(failures)


def lost(planned: Coverage, searched: Coverage) -> tuple[Failure, ...]:
    """Transects that were to be a sample and are none, since none of their photos could be searched."""
    left = {(unit.stratum, unit.transect) for unit in searched.units}
    return tuple(
        Failure(
            unit.transect,
            "transect",
            f"Transect {unit.transect} is no sample of stratum {unit.stratum}, since its photos there could not be "
            "searched; the estimate stands on the other transects alone.",
        )
        for unit in planned.units
        if (unit.stratum, unit.transect) not in left
    )
