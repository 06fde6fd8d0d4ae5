"""Promotion and rollback of `production`: a candidate is served only after a comparison with production.

The engine evaluates both models on the same test split. The order of the writes makes an interruption
harmless at any point: first the verdict, as a run and as tags of the version; then `previous`, then
`production`, the only write that changes the served version; then the actor and reason, which the run has too.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from transect.datasets import Dataset, dataset_digest, load_dataset
from transect.errors import InputError, NotRegisteredError, PromotionRefusedError, RegistryError, TransectError
from transect.pages.templates import require_jinja
from transect.redaction import without_secrets
from transect.registry.client import names
from transect.registry.client.connection import mlflow_errors_as
from transect.registry.promotion.alias_lock import AliasLock, hold_alias_lock
from transect.registry.promotion.comparison import NotComparableError, compare_on_split
from transect.registry.promotion.gate import Evidence, GateConfig, Measured, judge
from transect.registry.promotion.record import (
    FAILED,
    FORCED,
    PROMOTED,
    REFUSED,
    Case,
    log_rollback,
    log_verdict,
    now,
    record_outcome,
)
from transect.registry.versions.cache import ResolvedVersion
from transect.registry.versions.census_basis import CensusBasis
from transect.registry.versions.registry import Registry

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of a promotion.

    `promoted` is false only if the version was already in production. `candidate` and `production` are
    the measurements, None if there are none; `run_id` is the run that records all of it.
    """

    promoted: bool
    name: str
    version: str
    was: str | None
    forced: bool
    sentence: str
    candidate: Measured | None = None
    production: Measured | None = None
    run_id: str = ""


@dataclass(frozen=True)
class Rollback:
    """The version that is served again, and the one that it replaced."""

    name: str
    version: str
    was: str
    sentence: str


def promote(
    registry: Registry,
    *,
    candidate: str = names.CANDIDATE,
    data: Path | None = None,
    gate: GateConfig | None = None,
    actor: str,
    reason: str = "",
    force: bool = False,
) -> Verdict:
    """Evaluate `candidate` and production on one test split; promote the candidate if it passes.

    The split comes from `data`, else from the data.yaml that the candidate was trained on; in both
    cases its digest must be the one in the candidate's tag. `force` (with a reason) overrides the
    gate. Every verdict is recorded as a run of the experiment `promotion` and as tags of the version.
    Raises PromotionRefusedError with every reason if the gate refuses, the models cannot be compared, or
    production moved during the evaluation; InputError for `force` without a reason, limits of an unknown
    class, or without Jinja2; NotRegisteredError if the candidate does not exist.
    """
    if force and not reason.strip():
        raise InputError("A forced promotion needs a reason, which is kept with the version: --reason TEXT.")
    # The reason is stored, and visible to everyone who may read models.
    reason = without_secrets(reason)
    challenger = registry.resolve(candidate)
    holder = _holder(registry, challenger.name)
    if holder is not None and holder.version == challenger.version:
        return _nothing_to_do(challenger)
    # The verdict's page comes after the evaluation, which may take an hour.
    require_jinja()
    case = _examine(
        registry,
        Case(challenger=challenger, holder=holder, gate=gate or GateConfig(), actor=actor, reason=reason),
        data,
    )
    case = replace(case, forced=force and bool(case.refusals))
    if case.forced and case.evidence is None:
        # Without a measurement the model may never have run; even a forced one must open.
        registry.open(challenger).close()
    _require_registered(registry, challenger)
    run_id = log_verdict(registry, case)
    if case.refusals and not case.forced:
        raise PromotionRefusedError(
            f"{challenger} was not promoted: {'; '.join(case.refusals)}. Train a better one, or promote it anyway "
            f"with --force --reason TEXT. All figures are in the run {run_id} of the experiment promotion."
        )
    try:
        moved = _move(registry, case)
    except TransectError as error:
        lost = isinstance(error, PromotionRefusedError)
        record_outcome(registry, case, run_id, REFUSED if lost else FAILED, {names.TAG_VERDICT_REASONS: str(error)})
        raise
    if not moved:
        return _nothing_to_do(challenger)
    record_outcome(registry, case, run_id, FORCED if case.forced else PROMOTED, _promotion_tags(case))
    return Verdict(
        promoted=True,
        name=challenger.name,
        version=challenger.version,
        was=None if holder is None else holder.version,
        forced=case.forced,
        sentence=_sentence(case),
        candidate=case.evidence.candidate if case.evidence else None,
        production=case.evidence.production if case.evidence else None,
        run_id=run_id,
    )


def rollback(registry: Registry, *, actor: str, reason: str = "") -> Rollback:
    """Serve the previous production version again; the two aliases swap.

    Moving one alias changes the served version; `previous` then names the replaced version only so
    that a second rollback can restore it. Nothing is evaluated, because rollback is the remedy when
    production misbehaves, and the move comes first: a failure to record it is a warning. Raises
    NotRegisteredError if there is no production or no previous version, PromotionRefusedError if both
    are the same.
    """
    name = registry.settings.model_name
    _both(registry, name)
    with hold_alias_lock(registry.client, registry.uri, name, actor=actor) as lock:
        current, previous = _both(registry, name)
        _move_production(registry, lock, previous, f"rolling {name} back to version {previous.version}")
        _point_previous(registry, lock, current)
    log_rollback(registry, previous, current, actor=actor, reason=without_secrets(reason))
    sentence = (
        f"{previous} is in production again; version {current.version} is now {names.PREVIOUS}, "
        "so that a second rollback would bring it back."
    )
    return Rollback(name, previous.version, current.version, sentence)


def _both(registry: Registry, name: str) -> tuple[ResolvedVersion, ResolvedVersion]:
    """The current and the previous production version."""
    current = registry.resolve(f"models:/{name}@{names.PRODUCTION}")
    previous = registry.resolve(f"models:/{name}@{names.PREVIOUS}")
    if current.version == previous.version:
        raise PromotionRefusedError(
            f"{current} is both {names.PRODUCTION} and {names.PREVIOUS}; "
            "name the version to serve: transect models promote VERSION."
        )
    return current, previous


def _holder(registry: Registry, name: str) -> ResolvedVersion | None:
    try:
        return registry.resolve(f"models:/{name}@{names.PRODUCTION}")
    except NotRegisteredError:
        return None


def _nothing_to_do(challenger: ResolvedVersion) -> Verdict:
    sentence = f"{challenger} is in production already; nothing to do."
    return Verdict(
        promoted=False,
        name=challenger.name,
        version=challenger.version,
        was=challenger.version,
        forced=False,
        sentence=sentence,
    )


def _examine(registry: Registry, case: Case, data: Path | None) -> Case:
    """The case completed with its measurements and refusals."""
    challenger, holder = case.challenger, case.holder
    try:
        split = _test_split(challenger, data)
        _check_gate_classes(case.gate, split)
        evidence = compare_on_split(registry, challenger, holder, split, case.gate)
    except NotComparableError as error:
        return replace(case, refusals=(str(error),))
    refusals = judge(evidence, case.gate)
    basis = CensusBasis.of(registry.manifest(challenger))
    if holder is not None and (lost := _lost_classes(registry, challenger, holder)):
        # The metrics do not show this, because the test split is the candidate's own.
        refusals.append(f"production finds {', '.join(lost)} and it does not")
    return replace(
        case,
        data=str(split.path),
        test_is_val=split.test_is_val,
        evidence=evidence,
        refusals=tuple(refusals),
        remarks=(*_remarks(challenger, holder, split, evidence), *basis.warnings()),
        census_basis=basis,
    )


def _remarks(
    challenger: ResolvedVersion, holder: ResolvedVersion | None, split: Dataset, evidence: Evidence
) -> Iterator[str]:
    """Caveats on the figures, as sentences."""
    if split.test_is_val:
        yield "There is no test split: the figures are of the validation split, by which the weights were chosen."
    if evidence.paired is not None and (unlabelled := evidence.paired.unlabelled):
        yield f"No labelled object in the split, and so nothing known, of: {', '.join(unlabelled)}."
    digests = {version.tags.get(names.TAG_DATASET_DIGEST) for version in (challenger, holder) if version is not None}
    if len(digests) > 1:
        yield "Production was trained on other data, among which may be images of this split."


def _lost_classes(registry: Registry, challenger: ResolvedVersion, holder: ResolvedVersion) -> list[str]:
    return sorted(set(registry.manifest(holder).names) - set(registry.manifest(challenger).names))


def _check_gate_classes(gate: GateConfig, dataset: Dataset) -> None:
    if unknown := sorted(set(gate.classes) - set(dataset.names)):
        raise InputError(
            f"The gate has limits for {', '.join(unknown)}, and {dataset.path} has no such class; "
            f"it has {', '.join(dataset.names)}."
        )


def _test_split(challenger: ResolvedVersion, data: Path | None) -> Dataset:
    path = data or Path(challenger.tags.get(names.TAG_DATA, ""))
    if data is None and not path.is_file():
        raise NotComparableError(
            f"its test split is not on this machine ({path}): give its data.yaml with --data, "
            "or promote where it was trained"
        )
    dataset = load_dataset(path)
    wanted, found = challenger.tags.get(names.TAG_DATASET_DIGEST, ""), dataset_digest(dataset)
    if wanted != found:
        raise NotComparableError(
            f"{path} is not the data it was trained with (digest {found}, its tag says {wanted or 'nothing'}), "
            "so that training images may be among the test images"
        )
    return dataset


def _move(registry: Registry, case: Case) -> bool:
    """Move the aliases if production is still the version compared with; False if it is the candidate already."""
    challenger, holder = case.challenger, case.holder
    with hold_alias_lock(registry.client, registry.uri, challenger.name, actor=case.actor) as lock:
        current = _holder(registry, challenger.name)
        if current is not None and current.version == challenger.version:
            return False
        if (current and current.version) != (holder and holder.version):
            raise PromotionRefusedError(
                f"{challenger} was not promoted: production moved to version {current.version if current else 'none'} "
                "while it was evaluated; run the same command again to compare with that."
            )
        _require_registered(registry, challenger)
        if holder is not None:
            with mlflow_errors_as(registry.uri, f"promoting {challenger}"):
                lock.check()
                registry.client.set_registered_model_alias(challenger.name, names.PREVIOUS, holder.version)
        _move_production(registry, lock, challenger, f"promoting {challenger}")
    return True


def _move_production(registry: Registry, lock: AliasLock, version: ResolvedVersion, doing: str) -> None:
    """Point `production` at `version`. If MLflow fails, read the alias: only the response may be lost."""
    lock.check()
    try:
        with mlflow_errors_as(registry.uri, doing):
            registry.client.set_registered_model_alias(version.name, names.PRODUCTION, version.version)
    except RegistryError as error:
        try:
            holder = _holder(registry, version.name)
        except RegistryError:
            raise type(error)(
                f"{error} Whether {version} is in production now is not known; transect models list shows it."
            ) from error
        if holder is None or holder.version != version.version:
            raise


def _point_previous(registry: Registry, lock: AliasLock, version: ResolvedVersion) -> None:
    """Point `previous` at the replaced version; a failure only prevents a second rollback."""
    try:
        with mlflow_errors_as(registry.uri, f"calling {version} {names.PREVIOUS}"):
            lock.check()
            registry.client.set_registered_model_alias(version.name, names.PREVIOUS, version.version)
    except RegistryError as error:
        _log.warning("The rollback is done, but the alias %s does not name %s: %s", names.PREVIOUS, version, error)


def _promotion_tags(case: Case) -> dict[str, str]:
    return {
        names.TAG_PROMOTED_AT: now(),
        names.TAG_PROMOTED_BY: case.actor,
        names.TAG_PROMOTION_REASON: case.reason.strip() or "the gate let it through",
        # Overwrites the tag of an earlier promotion.
        names.TAG_FORCED_BY: case.actor if case.forced else "-",
    }


def _require_registered(registry: Registry, challenger: ResolvedVersion) -> None:
    """Raise NotRegisteredError when the version, or its model, was deleted during the evaluation."""
    try:
        registry.resolve(f"models:/{challenger.name}/{challenger.version}")
    except NotRegisteredError as error:
        raise NotRegisteredError(
            f"{challenger} was deleted from MLflow while it was evaluated, so nothing was promoted: {error}"
        ) from error


def _sentence(case: Case) -> str:
    parts = [f"{case.challenger} is in production"]
    if case.holder is not None:
        parts.append(f"in place of version {case.holder.version}, which is now {names.PREVIOUS}")
    if case.evidence is not None:
        beside = f" (was {case.evidence.production.map50_95:.3f})" if case.evidence.production else ""
        split = "validation split" if case.test_is_val else "test split"
        found = case.evidence.candidate
        parts.append(f"mAP50 {found.map50:.3f}, mAP50-95 {found.map50_95:.3f}{beside} on the {split}")
    if case.refusals:
        parts.append(f"forced although {'; '.join(case.refusals)}")
    return " ".join([", ".join(parts) + ".", *case.remarks])
