"""What changed between two censuses, and whether the numbers of animals did: a test of each difference.

Two surveys on their own transects are compared by Welch's t, the difference over the root of the summed variances,
with Satterthwaite's degrees of freedom (Welch 1947, Biometrika 34: 28-35; for aerial counts Norton-Griffiths 1978,
Counting Animals). Two results of the same photos share their sampling error, so they are compared transect by
transect: Jolly's method II of the differences of the counts.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import stdtr, stdtrit

from transect.census.results import SavedCensus, SavedEstimate
from transect.errors import InputError

Test = Literal["welch", "paired"]
Key = tuple[str, str]
# Ground that differs by more is other ground.
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

    `ratio` is B / A; its limits come from the log scale. What does not exist is None, and `note` says why.
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


@dataclass(frozen=True)
class Comparison:
    """Two censuses side by side; `only_a` and `only_b` are (stratum, species) without a partner."""

    a: str
    b: str
    same_photos: bool
    changes: tuple[Change, ...]
    differences: tuple[Difference, ...]
    only_a: tuple[Key, ...]
    only_b: tuple[Key, ...]

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON, unrounded."""
        pairs = {side: [{"stratum": s, "species": n} for s, n in keys] for side, keys in self._only().items()}
        return {
            "a": self.a,
            "b": self.b,
            "same_photos": self.same_photos,
            "changes": [asdict(change) for change in self.changes],
            "differences": [asdict(difference) for difference in self.differences],
            **pairs,
        }

    def _only(self) -> dict[str, tuple[Key, ...]]:
        return {"only_a": self.only_a, "only_b": self.only_b}


def compare(a: SavedCensus, b: SavedCensus) -> Comparison:
    """Compare two results. Raises InputError in one sentence where they are of different things."""
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
        str(a.path),
        str(b.path),
        same_photos,
        _changes(a, b),
        tuple(_difference(a, b, key, same_photos=same_photos) for key in shared),
        tuple(key for key in a.estimates if key not in b.estimates),
        tuple(key for key in b.estimates if key not in a.estimates),
    )


def welch(a: SavedEstimate, b: SavedEstimate) -> tuple[float, float]:
    """Standard error of the difference of two independent estimates, and Satterthwaite's degrees of freedom."""
    variances = (a.variance or 0.0, b.variance or 0.0)
    total = sum(variances)
    below = sum(variance**2 / df for variance, df in zip(variances, (a.degrees, b.degrees), strict=True))
    return math.sqrt(total), total**2 / below if below > 0 else a.degrees + b.degrees


def paired(counts_a: np.ndarray, counts_b: np.ndarray, areas: np.ndarray, ground: float) -> tuple[float, float]:
    """Standard error and degrees of freedom of the difference of two counts on the same transects (n,).

    Jolly's method II of d = b - a on `areas` km2 in a stratum of `ground` km2, N = ground / mean area.
    """
    n, difference = len(areas), counts_b - counts_a
    possible = max(ground * n / float(areas.sum()), n)
    residuals = difference - difference.sum() / areas.sum() * areas
    variance = possible * (possible - n) / n * float(np.var(residuals, ddof=1))
    return math.sqrt(max(variance, 0.0)), float(n - 1)


def _difference(a: SavedCensus, b: SavedCensus, key: Key, *, same_photos: bool) -> Difference:
    one, other = a.estimates[key], b.estimates[key]
    plain = Difference(*key, one.estimate, other.estimate, None)
    if one.estimate is None or other.estimate is None:
        return replace(plain, note=one.note or other.note)
    plain = replace(
        plain,
        difference=other.estimate - one.estimate,
        ratio=other.estimate / one.estimate if one.estimate > 0 else None,
    )
    if one.estimate == other.estimate == 0:
        return replace(plain, note="None was seen in either.")
    if one.corrected != other.corrected:
        which = "first" if one.corrected else "second"
        return replace(plain, note=f"Only the {which} is corrected for what the detector got wrong: no test.")
    if same_photos:
        return _paired_difference(plain, a, b, key)
    if one.variance is None or other.variance is None:
        return replace(plain, note="An estimate without a variance allows no test.")
    se, df = welch(one, other)
    return _tested(plain, "welch", se, df, _log_error(one, other))


def _paired_difference(plain: Difference, a: SavedCensus, b: SavedCensus, key: Key) -> Difference:
    stratum, species = key
    # A sum over strata is tested by the sum of the strata's variances.
    strata = [one for one, name in a.estimates if name == species and one != "all"] if stratum == "all" else [stratum]
    errors = [_paired_error(a, b, (one, species)) for one in strata]
    known = [error for error in errors if error is not None]
    if len(known) < max(len(errors), 1):
        note = "Both are of the same photos and share their sampling error: no test of independent surveys applies."
        return replace(plain, note=note)
    variance = sum(se**2 for se, _ in known)
    if variance == 0:
        return replace(plain, note="The counts differ alike on all transects, so there is no test.")
    df = variance**2 / sum(se**4 / df for se, df in known)
    return _tested(plain, "paired", math.sqrt(variance), df, None)


def _paired_error(a: SavedCensus, b: SavedCensus, key: Key) -> tuple[float, float] | None:
    """`paired` for one stratum; None where the two have not the same transects, or are corrected."""
    ours, theirs = a.units.get(key, {}), b.units.get(key, {})
    if key not in a.estimates or a.estimates[key].corrected or len(ours) < 2 or set(ours) != set(theirs):
        return None
    ground = a.estimates[key].stratum_km2
    areas = np.array([ours[name][0] for name in ours])
    if ground is None or not np.allclose(areas, [theirs[name][0] for name in ours], rtol=_SAME_GROUND):
        return None
    before, after = (np.array([float(units[name][1]) for name in ours]) for units in (ours, theirs))
    return paired(before, after, areas, ground)


def _tested(plain: Difference, test: Test, se: float, df: float, log_se: float | None) -> Difference:
    if se == 0 or plain.difference is None:
        return replace(plain, note="Neither estimate has a sampling error, so there is no test.")
    t, reach = plain.difference / se, float(stdtrit(df, 0.975))
    limits = (plain.difference - reach * se, plain.difference + reach * se)
    ratio = None
    if log_se is not None and plain.ratio:
        ratio = (plain.ratio * math.exp(-reach * log_se), plain.ratio * math.exp(reach * log_se))
    p = float(2 * stdtr(df, -abs(t)))
    return replace(plain, test=test, se=se, df=df, t=t, p=p, ci95=limits, ratio_ci95=ratio)


def _log_error(one: SavedEstimate, other: SavedEstimate) -> float | None:
    """Standard error of ln(other / one): sqrt(ln(1 + CV2) + ln(1 + CV2))."""
    if not one.estimate or not other.estimate:
        return None
    squares = [(each.variance or 0.0) / (each.estimate or 1.0) ** 2 for each in (one, other)]
    return math.sqrt(sum(math.log1p(square) for square in squares))


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
