"""Compare two censuses: changed settings and inputs, and a test of each difference of the numbers of animals.

Two surveys on their own transects are compared by the limits of each (MOVER), which keeps its level also where one has
far fewer transects than the other; benchmarks/differences.py measures it. Two results of the same photos share their
sampling error, so they are compared transect by transect: Jolly's method II of the differences of counts, corrected
ones where both are, and then with the errors of the corrections.

Where the detector is not validated on the ground of one of them, its errors there are unknown: the detector may cause
the difference, so there is no test.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from transect.census.estimates.difference import Contrast, Estimated, mover, paired, symmetric, welch
from transect.census.saved_result import SavedCensus, SavedCorrection, SavedEstimate
from transect.errors import InputError

Test = Literal["mover", "welch", "paired"]
Key = tuple[str, str]
# Areas that differ by more are of different ground.
_SAME_GROUND = 1e-3


@dataclass(frozen=True)
class Change:
    """A setting or an input that is not the same; None where one side has none."""

    what: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Difference:
    """B - A for one species in one stratum, with its 95% limits and a two-sided test of no difference.

    `detector_a` and `detector_b` are the states of the detector's validation for the species in each ("" where none
    counted). `ratio` is B / A. `test` is `mover` (from the limits of both), `welch` where one has no limits, `paired`
    where both are of the same photos. A value that does not exist is None, and `note` has the reason.
    """

    stratum: str
    species: str
    a: float | None
    b: float | None
    difference: float | None
    test: Test | None = None
    se: float | None = None
    df: float | None = None
    t: float | None = None
    p: float | None = None
    ci95: tuple[float, float] | None = None
    ratio: float | None = None
    ratio_ci95: tuple[float, float] | None = None
    note: str = ""
    detector_a: str = ""
    detector_b: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two censuses side by side; `only_a` and `only_b` are (stratum, species) without a partner.

    `detector_a` and `detector_b` are the states of the whole censuses, the weakest of their species'.
    """

    a: str
    b: str
    same_photos: bool
    changes: tuple[Change, ...]
    differences: tuple[Difference, ...]
    only_a: tuple[Key, ...]
    only_b: tuple[Key, ...]
    detector_a: str = ""
    detector_b: str = ""

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON, unrounded."""
        pairs = {side: [{"stratum": s, "species": n} for s, n in keys] for side, keys in self._only().items()}
        return {
            "a": self.a,
            "b": self.b,
            "same_photos": self.same_photos,
            "detector_a": self.detector_a,
            "detector_b": self.detector_b,
            "changes": [asdict(change) for change in self.changes],
            "differences": [asdict(difference) for difference in self.differences],
            **pairs,
        }

    def _only(self) -> dict[str, tuple[Key, ...]]:
        return {"only_a": self.only_a, "only_b": self.only_b}


def compare(a: SavedCensus, b: SavedCensus) -> Comparison:
    """Compare two results. Raises InputError where they share no estimate or are of different ground."""
    shared = [key for key in a.estimates if key in b.estimates]
    if not shared:
        raise InputError(
            f"{a.path} and {b.path} have no species and stratum in common, so there is nothing to compare; "
            f"the first has {_listed(a)}, the second {_listed(b)}."
        )
    for key in shared:
        _check_ground(a, b, key)
    same_photos = a.survey_digest is not None and a.survey_digest == b.survey_digest
    return Comparison(
        a=str(a.path),
        b=str(b.path),
        same_photos=same_photos,
        changes=_changes(a, b),
        differences=tuple(_difference(a, b, key, same_photos=same_photos) for key in shared),
        only_a=tuple(key for key in a.estimates if key not in b.estimates),
        only_b=tuple(key for key in b.estimates if key not in a.estimates),
        detector_a=a.state,
        detector_b=b.state,
    )


def _difference(a: SavedCensus, b: SavedCensus, key: Key, *, same_photos: bool) -> Difference:
    one, other = a.estimates[key], b.estimates[key]
    states = a.states.get(key[1], ""), b.states.get(key[1], "")
    plain = Difference(
        stratum=key[0],
        species=key[1],
        a=one.estimate,
        b=other.estimate,
        difference=None,
        detector_a=states[0],
        detector_b=states[1],
    )
    if one.estimate is None or other.estimate is None:
        return replace(plain, note=one.note or other.note)
    plain = replace(
        plain,
        difference=other.estimate - one.estimate,
        ratio=other.estimate / one.estimate if one.estimate > 0 else None,
    )
    why = _not_validated(*states) or _untestable(one, other)
    if why:
        return replace(plain, note=why)
    return _paired_difference(plain, a, b, key) if same_photos else _independent_difference(plain, one, other)


def _not_validated(first: str, second: str) -> str:
    """The reason for no test where the detector's errors are unknown; "" where they are known, or may be."""
    doubted = [name for name, state in (("first", first), ("second", second)) if state == "not validated here"]
    if not doubted:
        return ""
    which = "either" if len(doubted) == 2 else f"the {doubted[0]}"
    return (
        f"The detector is not validated in {which}, so its errors there are unknown and the difference may be theirs: "
        "no test."
    )


def _untestable(one: SavedEstimate, other: SavedEstimate) -> str:
    if one.estimate == other.estimate == 0 and one.ci95 is None and other.ci95 is None:
        return "None was seen in either."
    if one.corrected != other.corrected:
        which = "first" if one.corrected else "second"
        return f"Only the {which} is corrected for what the detector got wrong: no test."
    return ""


def _independent_difference(plain: Difference, one: SavedEstimate, other: SavedEstimate) -> Difference:
    if one.variance is None or other.variance is None:
        return replace(plain, note="An estimate without a variance allows no test.")
    if one.variance == other.variance == 0:
        return replace(plain, note="Neither estimate has a sampling error, so there is no test.")
    ours, theirs = _estimated(one), _estimated(other)
    found = mover(ours, theirs)
    if found is not None:
        return _filled(plain, "mover", found)
    which = "first" if one.ci95 is None else "second"
    note = f"The {which} has no limits, so the test is Welch's and rests on the error of the other alone."
    if one.ci95 is not None and other.ci95 is not None:
        note = "The limits end at the estimates, so the test is Welch's."
    return replace(_filled(plain, "welch", welch(ours, theirs)), note=note)


def _paired_difference(plain: Difference, a: SavedCensus, b: SavedCensus, key: Key) -> Difference:
    stratum, species = key
    # A sum over strata is tested by the sum of the strata's variances.
    strata = [one for one, name in a.estimates if name == species and one != "all"] if stratum == "all" else [stratum]
    errors = [_paired_error(a, b, (one, species)) for one in strata]
    known = [error for error in errors if error is not None]
    if len(known) < max(len(errors), 1):
        note = "Both are of the same photos and share their sampling error: no test of independent surveys applies."
        return replace(plain, note=note)
    sampling = sum(se**2 for se, _ in known)
    # A correction is common to all strata, and its error has no degrees of freedom of its own.
    variance = sampling + _correction_variance(plain, a, b)
    if variance == 0:
        return replace(plain, note="The counts differ alike on all transects, so there is no test.")
    below = sum(se**4 / df for se, df in known)
    df = variance**2 / below if below > 0 else math.inf
    return _filled(plain, "paired", symmetric(plain.difference or 0.0, math.sqrt(variance), df))


def _paired_error(a: SavedCensus, b: SavedCensus, key: Key) -> tuple[float, float] | None:
    """`paired` for one stratum; None where the transects differ, or where a correction is not recorded."""
    ours, theirs = a.units.get(key, {}), b.units.get(key, {})
    if key not in a.estimates or len(ours) < 2 or set(ours) != set(theirs):
        return None
    ground, corrections = a.estimates[key].stratum_km2, (_correction(a, key), _correction(b, key))
    areas = np.array([ours[name].area_km2 for name in ours])
    if ground is None or not np.allclose(areas, [theirs[name].area_km2 for name in ours], rtol=_SAME_GROUND):
        return None
    if corrections[0] is None or corrections[1] is None:
        return None
    before = np.array([ours[name].corrected(corrections[0]) for name in ours])
    after = np.array([theirs[name].corrected(corrections[1]) for name in ours])
    return paired(before, after, areas, ground)


def _correction(census: SavedCensus, key: Key) -> SavedCorrection | None:
    """The correction of an estimate's counts; None where they were corrected and the census does not record how."""
    if not census.estimates[key].corrected:
        return SavedCorrection(1.0, 0.0, of_single_look=False)
    return census.corrections.get(key[1])


def _correction_variance(plain: Difference, a: SavedCensus, b: SavedCensus) -> float:
    """The variance that the errors of both corrections add to the difference; a common one shifts both alike."""
    key = (plain.stratum, plain.species)
    before, after = _correction(a, key), _correction(b, key)
    if before is None or after is None:
        return 0.0
    if before == after:
        return (before.cv * (plain.difference or 0.0)) ** 2
    alarms = sum(one.alarms_se.get(plain.stratum, 0.0) ** 2 for one in (before, after))
    return (before.cv * (plain.a or 0.0)) ** 2 + (after.cv * (plain.b or 0.0)) ** 2 + alarms


def _estimated(saved: SavedEstimate) -> Estimated:
    # A total coverage has no transects, and the error of its correction no degrees of freedom of its own.
    degrees = math.inf if saved.method == "total" else saved.degrees
    return Estimated(saved.estimate or 0.0, saved.variance or 0.0, degrees, saved.ci95)


def _filled(plain: Difference, test: Test, found: Contrast) -> Difference:
    values = {field.name: getattr(found, field.name) for field in fields(found)}
    # JSON has no infinity: without degrees of freedom the test is the normal one.
    return replace(plain, test=test, **values | {"df": found.df if math.isfinite(found.df) else None})


def _check_ground(a: SavedCensus, b: SavedCensus, key: Key) -> None:
    one, other = a.estimates[key].stratum_km2, b.estimates[key].stratum_km2
    if one is not None and other is not None and abs(one - other) > _SAME_GROUND * max(one, other):
        raise InputError(
            f"Stratum {key[0]} has {one:g} km2 in {a.path} and {other:g} km2 in {b.path}: numbers of animals on "
            "different ground cannot be compared."
        )


def _changes(a: SavedCensus, b: SavedCensus) -> tuple[Change, ...]:
    ours, theirs = _flat(a.facts), _flat(b.facts)
    keys = dict.fromkeys([*ours, *theirs])
    return tuple(Change(key, ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key))


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _listed(census: SavedCensus) -> str:
    return ", ".join(f"{species} in {stratum}" for stratum, species in list(census.estimates)[:5]) or "none"
