"""The gate: a candidate is served only after it was measured beside what is served now.

Both models are evaluated by the engine on the same test split. The order of the writes makes every
interruption harmless: tags first, then `previous`, then `production`, which alone changes what is
served.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transect.datasets import Dataset, dataset_digest, load_dataset
from transect.engine import evaluate_package
from transect.errors import InputError, NotRegisteredError, PackageError, PromotionRefusedError, RegistryError
from transect.registry import names
from transect.registry.cache import ResolvedVersion
from transect.registry.connection import translated
from transect.registry.gate import GateConfig, Measured, judge
from transect.registry.store import Registry


@dataclass(frozen=True)
class Verdict:
    """What a promotion came to.

    `promoted` is false only when the version was in production already. `candidate` and `production`
    are what was measured, None where nothing was.
    """

    promoted: bool
    name: str
    version: str
    was: str | None
    forced: bool
    sentence: str
    candidate: Measured | None = None
    production: Measured | None = None


@dataclass(frozen=True)
class Rollback:
    """Which version is served again, and which one was taken back."""

    name: str
    version: str
    was: str
    sentence: str


@dataclass(frozen=True)
class _Comparison:
    data: str = ""
    test_is_val: bool = False
    candidate: Measured | None = None
    production: Measured | None = None
    refusals: tuple[str, ...] = ()


class _NotComparableError(Exception):
    """Why the two models cannot be measured on one test split, as a clause of a sentence."""


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
    """Evaluate `candidate` and production on one test split; the candidate becomes production if it may.

    The split comes from `data`, else from the data.yaml that the candidate was trained on; in both
    cases its digest must be the one in the candidate's tag. `force` (with a reason) promotes although
    the gate refuses. Raises PromotionRefusedError when the gate refuses, when the models cannot be
    compared, or when production moved during the evaluation; InputError for `force` without a reason.
    """
    if force and not reason.strip():
        raise InputError("A forced promotion needs a reason, which is kept with the version: --reason TEXT.")
    gate = gate or GateConfig()
    challenger = registry.resolve(candidate)
    holder = _holder(registry, challenger.name)
    if holder is not None and holder.version == challenger.version:
        sentence = f"{challenger} is in production already; nothing to do."
        return Verdict(False, challenger.name, challenger.version, holder.version, False, sentence)
    comparison = _compare(registry, challenger, holder, data, gate)
    if comparison.refusals and not force:
        raise PromotionRefusedError(
            f"{challenger} was not promoted: {'; '.join(comparison.refusals)}. "
            "Train a better one, or promote it anyway with --force --reason TEXT."
        )
    record = {"limits": gate.model_dump(), **asdict(comparison), "forced": bool(comparison.refusals)}
    _move(registry, challenger, holder, record, actor=actor, reason=reason)
    return Verdict(
        promoted=True,
        name=challenger.name,
        version=challenger.version,
        was=None if holder is None else holder.version,
        forced=bool(comparison.refusals),
        sentence=_sentence(challenger, holder, comparison),
        candidate=comparison.candidate,
        production=comparison.production,
    )


def rollback(registry: Registry, *, actor: str, reason: str = "") -> Rollback:
    """Serve the previous production version again; the two aliases change places.

    Nothing is evaluated, because this is the way out when production misbehaves. Raises
    NotRegisteredError when there is no production or no previous version, PromotionRefusedError
    when both are the same.
    """
    name = registry.settings.model_name
    current = registry.resolve(f"models:/{name}@{names.PRODUCTION}")
    previous = registry.resolve(f"models:/{name}@{names.PREVIOUS}")
    if current.version == previous.version:
        raise PromotionRefusedError(
            f"{current} is both {names.PRODUCTION} and {names.PREVIOUS}; "
            "name the version to serve: transect models promote VERSION."
        )
    tags = {
        names.TAG_ROLLED_BACK_AT: _now(),
        names.TAG_ROLLED_BACK_BY: actor,
        names.TAG_ROLLBACK_REASON: reason or "-",
    }
    with translated(registry.uri, f"rolling {name} back to version {previous.version}"):
        for key, value in tags.items():
            registry.client.set_model_version_tag(name, current.version, key, value)
        # What is served goes first: a failure after it costs only the way forward again.
        registry.client.set_registered_model_alias(name, names.PRODUCTION, previous.version)
        registry.client.set_registered_model_alias(name, names.PREVIOUS, current.version)
    sentence = f"{previous} is in production again; version {current.version} is now {names.PREVIOUS}."
    return Rollback(name, previous.version, current.version, sentence)


def _holder(registry: Registry, name: str) -> ResolvedVersion | None:
    try:
        return registry.resolve(f"models:/{name}@{names.PRODUCTION}")
    except NotRegisteredError:
        return None


def _compare(
    registry: Registry, challenger: ResolvedVersion, holder: ResolvedVersion | None, data: Path | None, gate: GateConfig
) -> _Comparison:
    try:
        split = _test_split(challenger, data)
        ours = _measure(registry, challenger, split)
        theirs = None if holder is None else _measure_holder(registry, holder, split)
    except _NotComparableError as error:
        return _Comparison(refusals=(str(error),))
    refusals = judge(ours, theirs, gate)
    if holder is not None and (lost := _lost_classes(registry, challenger, holder)):
        # The test split is the candidate's own, so that its numbers do not show this.
        refusals.append(f"production finds {', '.join(lost)} and it does not")
    return _Comparison(str(split.path), split.test_is_val, ours, theirs, tuple(refusals))


def _lost_classes(registry: Registry, challenger: ResolvedVersion, holder: ResolvedVersion) -> list[str]:
    return sorted(set(registry.manifest(holder).names) - set(registry.manifest(challenger).names))


def _test_split(challenger: ResolvedVersion, data: Path | None) -> Dataset:
    path = data or Path(challenger.tags.get(names.TAG_DATA, ""))
    if data is None and not path.is_file():
        raise _NotComparableError(
            f"its test split is not on this machine ({path}): give its data.yaml with --data, "
            "or promote where it was trained"
        )
    dataset = load_dataset(path)
    wanted, found = challenger.tags.get(names.TAG_DATASET_DIGEST, ""), dataset_digest(dataset)
    if wanted != found:
        raise _NotComparableError(
            f"{path} is not the data it was trained with (digest {found}, its tag says {wanted or 'nothing'}), "
            "so that training images may be among the test images"
        )
    return dataset


def _measure_holder(registry: Registry, holder: ResolvedVersion, dataset: Dataset) -> Measured:
    try:
        return _measure(registry, holder, dataset)
    except (PackageError, RegistryError) as error:
        raise _NotComparableError(f"production cannot be evaluated beside it: {error}") from error


def _measure(registry: Registry, version: ResolvedVersion, dataset: Dataset) -> Measured:
    with registry.open(version) as detector:
        result = evaluate_package(
            detector,
            dataset.splits["test"],
            dataset.names,
            max_pixels=registry.settings.max_pixels,
            title=f"Evaluating {version}",
        )
        return Measured(result.map50, result.map50_95, result.precision, result.recall, detector.precision)


def _move(
    registry: Registry,
    challenger: ResolvedVersion,
    holder: ResolvedVersion | None,
    record: dict[str, Any],
    *,
    actor: str,
    reason: str,
) -> None:
    client, name, version = registry.client, challenger.name, challenger.version
    tags = {
        names.TAG_PROMOTED_AT: _now(),
        names.TAG_PROMOTED_BY: actor,
        names.TAG_PROMOTION_REASON: reason.strip() or "the gate let it through",
        names.TAG_GATE: json.dumps(record),
    }
    # MLflow has no compare-and-set; looking again right before the move narrows the gap to milliseconds.
    now = _holder(registry, name)
    if (now and now.version) != (holder and holder.version):
        raise PromotionRefusedError(
            f"{challenger} was not promoted: production moved to version {now.version if now else 'none'} "
            "while it was evaluated; run the same command again to compare with that."
        )
    with translated(registry.uri, f"promoting {challenger}"):
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value)
        if holder is not None:
            client.set_registered_model_alias(name, names.PREVIOUS, holder.version)
        client.set_registered_model_alias(name, names.PRODUCTION, version)


def _sentence(challenger: ResolvedVersion, holder: ResolvedVersion | None, comparison: _Comparison) -> str:
    parts = [f"{challenger} is in production"]
    if holder is not None:
        parts.append(f"in place of version {holder.version}, which is now {names.PREVIOUS}")
    if comparison.candidate is not None:
        beside = f" (was {comparison.production.map50_95:.3f})" if comparison.production else ""
        split = "validation split, as there is no test split" if comparison.test_is_val else "test split"
        parts.append(
            f"mAP50 {comparison.candidate.map50:.3f}, mAP50-95 {comparison.candidate.map50_95:.3f}{beside} "
            f"on the {split}"
        )
    if comparison.refusals:
        parts.append(f"forced although {'; '.join(comparison.refusals)}")
    return ", ".join(parts) + "."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
