"""Read a finished census: estimate.json, and manifest.json and transects.csv beside it where they exist."""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transect.census.applicability.state import STATES
from transect.census.inputs.table import read_table
from transect.census.outputs.writers import unescape_formula
from transect.errors import InputError

_ESTIMATES, _MANIFEST, _UNITS = "estimate.json", "manifest.json", "transects.csv"
_UNIT_COLUMNS = ("stratum", "species", "transect", "area_km2", "count")
# These differ between any two runs and are not about the surveys.
_NOT_FACTS = ("schema", "run", "created_at", "files")


@dataclass(frozen=True, kw_only=True)
class SavedEstimate:
    """One estimate of estimate.json; missing numbers are None."""

    method: str
    n: int
    estimate: float | None
    variance: float | None
    ci95: tuple[float, float] | None
    df: float | None
    stratum_km2: float | None
    corrected: bool
    note: str

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the variance: stated, else the transects less one."""
        return self.df if self.df is not None and self.df > 0 else float(max(self.n - 1, 1))


@dataclass(frozen=True)
class SavedCorrection:
    """The factor on the counts of a species, its coefficient of variation, and whether the counts are of one look.

    `alarms_se` is by stratum the standard error that subtracted false alarms of the ground add to the estimate.
    """

    factor: float
    cv: float
    of_single_look: bool
    alarms_se: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SavedUnit:
    """One transect as a species was counted on it."""

    area_km2: float
    count: int
    single_look: float

    def corrected(self, correction: SavedCorrection) -> float:
        """The corrected count; the ground's false alarms, as many a km2 everywhere, are not subtracted."""
        return correction.factor * (self.single_look if correction.of_single_look else self.count)


@dataclass(frozen=True, kw_only=True)
class SavedCensus:
    """Estimates and their transects by (stratum, species), the manifest's values, and corrections by species.

    `states` is by species whether the detector is validated there (applicability/state.py), and `state` that of the
    whole census: "not known" in results that predate it. Both are "" where no detector counted.
    """

    path: Path
    estimates: Mapping[tuple[str, str], SavedEstimate]
    facts: Mapping[str, Any]
    units: Mapping[tuple[str, str], Mapping[str, SavedUnit]]
    corrections: Mapping[str, SavedCorrection]
    state: str = ""
    states: Mapping[str, str] = field(default_factory=dict)

    @property
    def survey_digest(self) -> str | None:
        """The digest of survey.yaml, flights.csv and photos; None without a manifest."""
        survey = self.facts.get("survey")
        return survey.get("digest") if isinstance(survey, Mapping) else None


def read_census(path: Path) -> SavedCensus:
    """Read a result folder, or the file that `transect census estimate --json` printed.

    Raises InputError, naming the file, where it is neither.
    """
    if path.is_dir() and not (path / _ESTIMATES).is_file():
        raise InputError(
            f"{path} is no result of a census: it has no {_ESTIMATES}; name the folder results/NAME/RUN, "
            "or the file that `transect census estimate --json` printed."
        )
    source = path / _ESTIMATES if path.is_dir() else path
    content = _mapping(source)
    estimates = _estimates(source, content)
    state, states = _states(source, content, {species for _, species in estimates})
    if not path.is_dir():
        return SavedCensus(
            path=path, estimates=estimates, facts={}, units={}, corrections={}, state=state, states=states
        )
    facts = _mapping(path / _MANIFEST) if (path / _MANIFEST).is_file() else {}
    units = _units(path / _UNITS) if (path / _UNITS).is_file() else {}
    known = {key: facts[key] for key in facts if key not in _NOT_FACTS}
    return SavedCensus(
        path=path,
        estimates=estimates,
        facts=known,
        units=units,
        corrections=_corrections(source, content),
        state=state,
        states=states,
    )


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON; run the census again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; run the census again.")
    return content


def _estimates(path: Path, content: Mapping[str, Any]) -> dict[tuple[str, str], SavedEstimate]:
    records = content.get("estimates")
    if not isinstance(records, list) or not records:
        raise InputError(f"{path} holds no estimates: it must have a list `estimates` with at least one.")
    found: dict[tuple[str, str], SavedEstimate] = {}
    for number, record in enumerate(records, start=1):
        try:
            key = (str(record["stratum"]), str(record["species"]))
            estimate = _estimate(record)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: estimate {number} lacks or misspells {error}; run the census again.") from error
        if key in found:
            raise InputError(f"{path} has two estimates of {key[1]} in stratum {key[0]}.")
        found[key] = estimate
    return found


def _estimate(record: Mapping[str, Any]) -> SavedEstimate:
    limits = record["ci95"]
    return SavedEstimate(
        method=str(record["method"]),
        n=int(record["n"]),
        estimate=_number(record["estimate"]),
        variance=_number(record["variance"]),
        ci95=None if limits is None else (float(limits[0]), float(limits[1])),
        df=_number(record.get("df")),
        stratum_km2=_number(record.get("stratum_km2")),
        corrected=record.get("uncorrected") is not None,
        note=str(record.get("note") or ""),
    )


def _corrections(path: Path, content: Mapping[str, Any]) -> dict[str, SavedCorrection]:
    try:
        return {
            str(record["species"]): SavedCorrection(
                float(record["factor"]),
                float(record["cv"]),
                record["precision"] is not None,
                {
                    str(one["stratum"]): float(one["ground_alarms_se"])
                    for one in record.get("strata", ())
                    if one.get("ground_alarms_se") is not None
                },
            )
            for record in content.get("corrections") or ()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: a correction lacks or misspells {error}; run the census again.") from error


def _states(path: Path, content: Mapping[str, Any], species: Collection[str]) -> tuple[str, dict[str, str]]:
    record = content.get("detector")
    if record is None:
        # A census has always written its corrections, and `census estimate`, which needs no detector, never.
        state = "not known" if "corrections" in content else ""
        return state, dict.fromkeys(species, state)
    try:
        states = {name: str(record["species"][name]["detector"]) for name in species}
        state = str(record["state"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: detector lacks or misspells {error}; run the census again.") from error
    for one in (state, *states.values()):
        if one not in STATES:
            raise InputError(f"{path}: detector has the unknown state {one!r}; it knows {', '.join(STATES)}.")
    return state, states


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"the number {value!r}")
    return float(value)


def _units(path: Path) -> dict[tuple[str, str], dict[str, SavedUnit]]:
    units: dict[tuple[str, str], dict[str, SavedUnit]] = {}
    try:
        for row in read_table(path, _UNIT_COLUMNS, InputError, whole_rows=True):
            count, look = row.count("count"), row.number("single_look")
            stratum, species, transect = (
                unescape_formula(row.cells[key]) for key in ("stratum", "species", "transect")
            )
            counted = SavedUnit(row.amount("area_km2"), count, count if look is None else look)
            units.setdefault((stratum, species), {})[transect] = counted
    except InputError as error:
        raise InputError(f"{error} It is not what a census writes; run the census again.") from error
    return units
