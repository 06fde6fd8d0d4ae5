"""Record of promotion decisions: a run of the experiment `promotion`, and tags of the version."""

import json
import logging
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transect.engine import MAP50_95, Gain
from transect.errors import RegistryError
from transect.files import atomic_write, atomic_write_json
from transect.registry.client import names
from transect.registry.client.connection import mlflow_errors_as
from transect.registry.client.finished_run import log_finished_run
from transect.registry.client.metric_names import class_names
from transect.registry.promotion.gate import Evidence, GateConfig, Measured
from transect.registry.promotion.report import verdict_page
from transect.registry.versions.cache import ResolvedVersion
from transect.registry.versions.census_basis import CensusBasis
from transect.registry.versions.registry import Registry

_log = logging.getLogger(__name__)

EXPERIMENT = "promotion"
# Limits of a run's tag; a version's takes a dozen times as much. verdict.json is complete.
_MOST_CHARACTERS, _MOST_REFUSALS = 8000, 50
REFUSED, PASSED, PROMOTED, FORCED = "refused", "passed", "promoted", "forced"
FAILED, ROLLED_BACK = "failed", "rolled back"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One promotion request: the challenger, the version it would replace, the limits, and the measurements.

    `evidence` is None if nothing could be measured. `refusals` are the gate's, as clauses; `forced`
    means that the actor overrode them. `remarks` are sentences on the reliability of the figures. `census_basis`
    is the challenger's validation data for a census, which does not influence the decision.
    """

    challenger: ResolvedVersion
    holder: ResolvedVersion | None
    gate: GateConfig
    actor: str
    reason: str
    data: str = ""
    test_is_val: bool = False
    evidence: Evidence | None = None
    refusals: tuple[str, ...] = ()
    forced: bool = False
    remarks: tuple[str, ...] = ()
    census_basis: CensusBasis | None = None

    @property
    def title(self) -> str:
        """A short title of the case."""
        beside = f"version {self.holder.version}" if self.holder else "nothing"
        return f"{self.challenger} against {beside}"

    def as_json(self) -> dict[str, Any]:
        """The whole case as JSON values; None for a number that is not finite."""
        evidence = asdict(self.evidence) if self.evidence else {"candidate": None, "production": None}
        record = {
            "limits": self.gate.model_dump(),
            "data": self.data,
            "test_is_val": self.test_is_val,
            **evidence,
            "refusals": list(self.refusals),
            "remarks": list(self.remarks),
            "census_basis": None if self.census_basis is None else asdict(self.census_basis),
            "forced": self.forced,
        }
        plain: dict[str, Any] = _plain(record)
        return plain

    def summary(self) -> dict[str, Any]:
        """`as_json` without figures of single classes and with the first refusals only, to fit a tag."""
        whole = self.as_json()
        for figures in filter(None, (whole["candidate"], whole["production"], whole.get("paired"))):
            for of_classes in ("classes", "instances", "unlabelled"):
                figures.pop(of_classes, None)
        return {**whole, "refusals": list(self.refusals[:_MOST_REFUSALS])}


def log_verdict(registry: Registry, case: Case) -> str:
    """Log the case as a run of the experiment `promotion`, and tag the version; returns the run's id.

    The verdict is refused or passed; `record_outcome` later records the result of one that passed.
    Raises RegistryError: a decision that cannot be recorded must not take effect.
    """
    verdict = REFUSED if case.refusals and not case.forced else PASSED
    version, holder = case.challenger, case.holder
    tags = {
        names.TAG_VERDICT: verdict,
        names.TAG_VERDICT_REASONS: _cut("; ".join(case.refusals)) or "-",
        "transect.candidate_version": version.version,
        "transect.candidate_run": version.run_id,
        "transect.production_version": holder.version if holder else "-",
        "transect.production_run": holder.run_id if holder else "-",
        names.TAG_DATASET_DIGEST: version.tags.get(names.TAG_DATASET_DIGEST, "-"),
        names.TAG_CENSUS_BASIS: "-" if case.census_basis is None else str(case.census_basis),
        "transect.actor": case.actor,
        "transect.reason": case.reason.strip() or "-",
        "mlflow.user": case.actor,
        names.TAG_NOTE: _cut(_note(case, verdict)),
    }
    params = {
        "model": version.name,
        "candidate": version.version,
        "production": holder.version if holder else "-",
        "data": case.data or "-",
        "split": "val" if case.test_is_val else "test",
        **{f"limit.{name}": value for name, value in case.gate.as_params().items()},
    }
    experiment = registry.experiment(EXPERIMENT)
    name = f"{version.name}-{version.version}-against-{holder.version if holder else 'none'}"
    with tempfile.TemporaryDirectory(prefix="transect-verdict-") as folder:
        table, page = Path(folder) / "verdict.json", Path(folder) / "verdict.html"
        atomic_write_json(table, {"verdict": verdict, "actor": case.actor, "reason": case.reason, **case.as_json()})
        atomic_write(page, _page(case, verdict))
        with mlflow_errors_as(registry.uri, f"recording the verdict on {version}"):
            run_id = log_finished_run(
                registry.client,
                experiment,
                name=name,
                params=params,
                metrics=_metrics(case.evidence) if case.evidence else {},
                tags=tags,
                artifacts=[table, page],
            )
            known = {
                names.TAG_VERDICT: verdict,
                names.TAG_VERDICT_AT: now(),
                names.TAG_VERDICT_RUN: run_id,
                names.TAG_VERDICT_REASONS: tags[names.TAG_VERDICT_REASONS],
                names.TAG_GATE: json.dumps(case.summary()),
            }
            for key, value in known.items():
                registry.client.set_model_version_tag(version.name, version.version, key, value)
    return run_id


def record_outcome(registry: Registry, case: Case, run_id: str, verdict: str, tags: Mapping[str, str]) -> None:
    """Record the final result of a case that passed, in the run and on the version; a failure is a warning.

    `tags` are written with the verdict. The alias has already moved, or must not move any more, and a
    tag does not change that.
    """
    version = case.challenger
    try:
        with mlflow_errors_as(registry.uri, f"recording the outcome for {version}"):
            for key, value in {names.TAG_VERDICT: verdict, **tags}.items():
                registry.client.set_tag(run_id, key, value)
                registry.client.set_model_version_tag(version.name, version.version, key, value)
    except RegistryError as error:
        _log.warning("The run %s does not record that %s was %s: %s", run_id, version, verdict, error)


def log_rollback(registry: Registry, back: ResolvedVersion, was: ResolvedVersion, *, actor: str, reason: str) -> None:
    """Log a rollback that has happened as a run of the experiment `promotion` and as tags of `was`.

    A failure is a warning.
    """
    tags = {
        names.TAG_VERDICT: ROLLED_BACK,
        "transect.production_version": back.version,
        "transect.production_run": back.run_id,
        "transect.rolled_back_version": was.version,
        "transect.rolled_back_run": was.run_id,
        "transect.actor": actor,
        "transect.reason": reason or "-",
        "mlflow.user": actor,
    }
    of_version = {
        names.TAG_ROLLED_BACK_AT: now(),
        names.TAG_ROLLED_BACK_BY: actor,
        names.TAG_ROLLBACK_REASON: reason or "-",
    }
    try:
        with mlflow_errors_as(registry.uri, f"recording the rollback to {back}"):
            for key, value in of_version.items():
                registry.client.set_model_version_tag(was.name, was.version, key, value)
        experiment = registry.experiment(EXPERIMENT)
        with mlflow_errors_as(registry.uri, f"recording the rollback to {back}"):
            log_finished_run(
                registry.client,
                experiment,
                name=f"{back.name}-rollback-{was.version}-to-{back.version}",
                params={"model": back.name, "production": back.version, "rolled_back": was.version},
                metrics={},
                tags=tags,
                artifacts=[],
            )
    except RegistryError as error:
        _log.warning("The rollback to %s is done but not in the experiment %s: %s", back, EXPERIMENT, error)


def now() -> str:
    """The current time in UTC, in the format of the tags."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _page(case: Case, verdict: str) -> str:
    because = f", because: {case.reason.strip()}" if case.reason.strip() else ""
    request = f"Asked for by {case.actor} at {now()}{because}."
    return verdict_page(
        f"{case.title}: {'refused, forced' if case.forced else verdict}",
        case.refusals,
        case.evidence,
        case.gate,
        remarks=[request, *_for_a_census(case), *case.remarks],
    )


def _note(case: Case, verdict: str) -> str:
    """The run's description in MLflow, with links to both versions."""
    links = [("Candidate", case.challenger), *([("production", case.holder)] if case.holder else [])]
    beside = ", ".join(
        f"{role}: [{version}](#/models/{version.name}/versions/{version.version}) of [its run](#/runs/{version.run_id})"
        for role, version in links
    )
    lines = [f"- {reason}" for reason in (*case.refusals, *_for_a_census(case), *case.remarks)]
    return "\n".join([f"**{verdict}**. {beside}.", "", *lines])


def _for_a_census(case: Case) -> list[str]:
    return [] if case.census_basis is None else [f"Validation data of the candidate for a census: {case.census_basis}."]


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"


def _metrics(evidence: Evidence) -> dict[str, float]:
    measured = [one for one in (evidence.candidate, evidence.production) if one is not None]
    paired = evidence.paired.classes if evidence.paired is not None else {}
    class_part = class_names(dict.fromkeys([*(name for one in measured for name in one.classes), *paired]))
    metrics = _model_metrics("candidate", evidence.candidate, class_part)
    if evidence.production is not None:
        metrics |= _model_metrics("production", evidence.production, class_part)
    if evidence.paired is not None:
        metrics |= _gain_metrics("gain", evidence.paired.overall)
        for name, gains in paired.items():
            metrics |= _gain_metrics(f"gain/class/{class_part[name]}", gains)
    if (latency := evidence.latency) is not None:
        metrics |= {
            "candidate/image_ms": latency.candidate_ms,
            "production/image_ms": latency.production_ms,
            "latency_ratio": latency.ratio,
        }
    return metrics


def _model_metrics(prefix: str, measured: Measured, class_part: Mapping[str, str]) -> dict[str, float]:
    values = {
        "mAP50": measured.map50,
        "mAP50-95": measured.map50_95,
        "precision": measured.precision,
        "recall": measured.recall,
        "count_error": measured.count_error,
    }
    found = {f"{prefix}/{name}": value for name, value in values.items() if value is not None}
    for name, metrics in measured.classes.items():
        found |= {f"{prefix}/class/{class_part[name]}/{_tracked(metric)}": value for metric, value in metrics.items()}
    return found


def _gain_metrics(prefix: str, gains: Mapping[str, Gain]) -> dict[str, float]:
    found: dict[str, float] = {}
    for quantity, gain in gains.items():
        name = f"{prefix}/{_tracked(quantity)}"
        found |= {name: gain.gain, f"{name}_low": gain.low, f"{name}_high": gain.high}
    return found


def _tracked(name: str) -> str:
    # The name in training runs.
    return "mAP50-95" if name == MAP50_95 else name


def _plain(value: Any) -> Any:
    """`value` as JSON values; None for a number that is not finite."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
