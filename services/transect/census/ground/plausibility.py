"""Plausibility checks: contradictory positions, heights and times. Such photos count, and are reported as issues."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from transect.census.ground.coverage import Coverage
from transect.census.ground.geometry import GroundView, distance_m
from transect.census.ground.placement.frames import Frame, Placement
from transect.census.issues import Issue
from transect.wording import count_of

# No survey aircraft flies faster, and clocks are read to a second.
_FASTEST_M_S = 150.0
_CLOCK_S = 1.0
# Over hills heights differ; a zero too many, or feet for metres, differs more.
_ODD_HEIGHT = 3.0
_FEWEST_HEIGHTS = 5
# Photos within this distance are at one point; so many of them, over so long, are no burst of the camera.
_ONE_POINT_M = 1.0
_FEWEST_TIMED = 3
_STILL_S = 2.0
_FEWEST_UNTIMED = 5
_FEWEST_SHARED = 6
_DIGITS = re.compile(r"(\d+)")


def plausibility_issues(frames: Sequence[Frame], views: Sequence[GroundView | None]) -> tuple[Issue, ...]:
    """The remarks on single photos, and suspects: odd heights, times against the order of names, leaps, and runs of
    photos at one point while time passes.
    """
    found = [
        Issue(frame.name, "remark", f"{frame.name}: {one.rstrip('.')}.") for frame in frames for one in frame.remarks
    ]
    by_transect: dict[str, list[int]] = {}
    for number, frame in enumerate(frames):
        if frame.transect is not None and frame.taken_at is not None:
            by_transect.setdefault(frame.transect, []).append(number)
    for transect, numbers in by_transect.items():
        found += _reversed_times(transect, [frames[number] for number in numbers])
        found += _leaps(transect, [(frames[number], views[number]) for number in numbers])
    return (*found, *_odd_heights(frames), *_stationary_runs(frames))


def _odd_heights(frames: Sequence[Frame]) -> Iterator[Issue]:
    heights = {frame.name: frame.placement.height_m for frame in frames if isinstance(frame.placement, Placement)}
    if len(heights) < _FEWEST_HEIGHTS:
        return
    usual = float(np.median(list(heights.values())))
    for name, height in heights.items():
        if not usual / _ODD_HEIGHT <= height <= usual * _ODD_HEIGHT:
            yield Issue(
                name,
                "suspect",
                f"{name} was taken from {height:.4g} m above ground, where the median of the survey is {usual:.4g} m: "
                "check its height, since its ground and its animals' places follow from it.",
            )


def _stationary_runs(frames: Sequence[Frame]) -> Iterator[Issue]:
    """Consecutive photos at one point: a hovering aircraft, a frozen receiver, or lost decimals."""
    placed = [(frame, frame.placement) for frame in frames if isinstance(frame.placement, Placement)]
    runs: list[list[tuple[Frame, Placement]]] = []
    for frame, placement in placed:
        if runs and _metres(runs[-1][0][1], placement) <= _ONE_POINT_M:
            runs[-1].append((frame, placement))
        else:
            runs.append([(frame, placement)])
    why = (
        "the aircraft hovered, the receiver stood still, or the file lost decimals; if the aircraft flew, their ground "
        "and their animals' places are wrong"
    )
    for run in runs:
        first, last = run[0][0], run[-1][0]
        seconds = _seconds(first, last)
        if (seconds is None and len(run) >= _FEWEST_UNTIMED) or (
            seconds is not None and len(run) >= _FEWEST_TIMED and seconds >= _STILL_S
        ):
            took = "" if seconds is None else f" though {seconds:g} s lie between the first and the last"
            yield Issue(
                first.name,
                "suspect",
                f"{first.name} to {last.name}: {len(run)} photos stand at one point, within {_ONE_POINT_M:g} m{took}: "
                f"{why}.",
            )
    shared = [run for run in runs if len(run) > 1 and (_seconds(run[0][0], run[-1][0]) or 0) >= 1]
    many = sum(map(len, shared))
    if many >= _FEWEST_SHARED and 2 * many >= len(placed) and max(map(len, shared)) < _FEWEST_TIMED:
        first = shared[0][0][0]
        yield Issue(
            first.name,
            "suspect",
            f"{first.name} is the first of {many} photos of which each stands where the photo before or after it "
            f"stands, within {_ONE_POINT_M:g} m, though time went by: {why}.",
        )


def _metres(one: Placement, other: Placement) -> float:
    return distance_m(one.longitude, one.latitude, other.longitude, other.latitude)


def _seconds(first: Frame, last: Frame) -> float | None:
    if first.taken_at is None or last.taken_at is None:
        return None
    return (last.taken_at - first.taken_at).total_seconds()


def _reversed_times(transect: str, frames: Sequence[Frame]) -> Iterator[Issue]:
    for before, after in pairwise(sorted(frames, key=lambda frame: _natural(frame.name))):
        if before.taken_at is not None and after.taken_at is not None and after.taken_at < before.taken_at:
            yield Issue(
                after.name,
                "suspect",
                f"In transect {transect} time runs backwards: {after.name} was taken at {after.taken_at}, the photo "
                f"before it by name, {before.name}, at {before.taken_at}. The photos are counted in order of time.",
            )


def _leaps(transect: str, flown: Sequence[tuple[Frame, GroundView | None]]) -> Iterator[Issue]:
    timed = ((frame.taken_at, frame.name, view) for frame, view in flown if frame.taken_at is not None)
    placed = sorted(((time, name, view) for time, name, view in timed if view is not None), key=lambda one: one[:2])
    for (earlier, before, one), (later, after, other) in pairwise(placed):
        seconds = (later - earlier).total_seconds() + _CLOCK_S
        metres = float(np.hypot(other.x - one.x, other.y - one.y))
        if metres > _FASTEST_M_S * seconds:
            yield Issue(
                after,
                "suspect",
                f"In transect {transect} {after} lies {metres / 1000:.3g} km from {before}, which was taken "
                f"{seconds - _CLOCK_S:g} s earlier: one of their positions or times is wrong.",
            )


def _natural(name: str) -> list[tuple[int, str]]:
    """A key for natural order: 9 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(name)]


def unsampled_transects(frames: Sequence[Frame], coverage: Coverage) -> tuple[Issue, ...]:
    """Transects that are no sample of a stratum, with the reason."""
    members: dict[str, list[int]] = {}
    for number in coverage.footprints:
        transect = frames[number].transect
        if transect is not None:
            members.setdefault(transect, []).append(number)
    sampled = {(unit.stratum, unit.transect) for unit in coverage.units}
    repeats = {(unit.stratum, name): unit.transect for unit in coverage.units for name in unit.repeats}
    issues = []
    for transect, numbers in sorted(members.items()):
        strata = {coverage.region_of[number] for number in numbers if number in coverage.region_of}
        if not strata and coverage.regions:
            photos = count_of(len(numbers), "photo")
            reason = f"Transect {transect} ({photos}) lies in no stratum; its animals are in no estimate."
            issues.append(Issue(transect, "transect", reason))
        for stratum in sorted(strata):
            if (first := repeats.get((stratum, transect))) is not None:
                reason = (
                    f"Transect {transect} shows the ground of transect {first} in stratum {stratum} again; together "
                    f"they are one sample, and {transect} is no sample of its own."
                )
                issues.append(Issue(transect, "transect", reason))
            elif (stratum, transect) not in sampled:
                reason = (
                    f"Transect {transect} shows no ground of stratum {stratum} that no transect before it by name "
                    "shows; it is no sample of its own."
                )
                issues.append(Issue(transect, "transect", reason))
    return tuple(issues)


def unsearched_transects(planned: Coverage, searched: Coverage) -> tuple[Issue, ...]:
    """Planned sampling units that are lost, since none of their photos could be searched."""
    left = {(unit.stratum, unit.transect) for unit in searched.units}
    return tuple(
        Issue(
            unit.transect,
            "transect",
            f"Transect {unit.transect} is no sample of stratum {unit.stratum}, since its photos there could not be "
            "searched; the estimate stands on the other transects alone.",
        )
        for unit in planned.units
        if (unit.stratum, unit.transect) not in left
    )
