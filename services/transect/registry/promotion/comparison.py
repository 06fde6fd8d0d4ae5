"""Evaluate and time a candidate and production on the same images."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from transect.datasets import Dataset
from transect.engine import Detector, SearchedSplit, compare_splits, search_split
from transect.errors import PackageError, RegistryError, UnreachableError
from transect.imagery import decode_image
from transect.registry.client.queries import none_if_missing
from transect.registry.promotion.gate import Evidence, GateConfig, Latency, Measured
from transect.registry.versions.cache import ResolvedVersion
from transect.registry.versions.registry import Registry

_TIMED_IMAGES = 8
_ROUNDS = 7
# The second smallest of seven ratios is above the true median with a probability of 6% (sign test). The gate uses
# it, so that other load on the machine does not make an equal model count as slow.
_LOW = 1
_ROUND_S = 0.2


class NotComparableError(Exception):
    """Two models cannot be compared on one test split; the message is a clause of a sentence."""


def compare_on_split(
    registry: Registry, challenger: ResolvedVersion, holder: ResolvedVersion | None, dataset: Dataset, gate: GateConfig
) -> Evidence:
    """Evaluate and time `challenger`, and `holder` if there is one, on the test split.

    Both are open at the same time and run with the settings of the service. Raises PackageError and
    RegistryError if the challenger cannot be fetched or run, NotComparableError if the holder cannot,
    and the exceptions of search_split.
    """
    not_numbers = unusable_metrics(registry, challenger)
    with ExitStack() as stack:
        ours = stack.enter_context(registry.open(challenger))
        if holder is None:
            return Evidence(_measured(ours, _search(registry, ours, dataset)), not_numbers=not_numbers)
        theirs = stack.enter_context(_open_holder(registry, holder))
        searched, beside = _search(registry, ours, dataset), _search_holder(registry, theirs, dataset)
        return Evidence(
            candidate=_measured(ours, searched),
            production=_measured(theirs, beside),
            paired=compare_splits(searched, beside, confidence=gate.confidence),
            latency=_time_both(ours, theirs, dataset.splits["test"].images, registry.settings.max_pixels),
            not_numbers=not_numbers,
        )


def unusable_metrics(registry: Registry, version: ResolvedVersion) -> tuple[str, ...]:
    """Metrics of the version's training run whose last value is NaN or infinite, sorted; empty without its run."""
    run = none_if_missing(registry.client, version.name, lambda: registry.client.get_run(version.run_id))
    if run is None:
        return ()
    # A store without infinity stores the largest double instead.
    return tuple(
        sorted(name for name, value in run.data.metrics.items() if not math.isfinite(value) or abs(value) >= _LARGEST)
    )


_LARGEST = 1.7e308


def _open_holder(registry: Registry, holder: ResolvedVersion) -> Detector:
    try:
        return registry.open(holder)
    except UnreachableError:
        # Transient, and no property of production.
        raise
    except (PackageError, RegistryError) as error:
        raise NotComparableError(f"production cannot be evaluated beside it: {error}") from error


def _search_holder(registry: Registry, detector: Detector, dataset: Dataset) -> SearchedSplit:
    try:
        return _search(registry, detector, dataset)
    except PackageError as error:
        raise NotComparableError(f"production cannot be evaluated beside it: {error}") from error


def _search(registry: Registry, detector: Detector, dataset: Dataset) -> SearchedSplit:
    return search_split(
        detector,
        dataset.splits["test"],
        dataset.names,
        max_pixels=registry.settings.max_pixels,
        title=f"Evaluating {detector.ref.name} version {detector.ref.version}",
    )


def _measured(detector: Detector, searched: SearchedSplit) -> Measured:
    found = searched.evaluation()
    return Measured(
        map50=found.map50,
        map50_95=found.map50_95,
        precision=found.precision_at_conf,
        recall=found.recall_at_conf,
        count_error=found.count_error,
        precision_used=detector.precision,
        classes=found.class_metrics(),
    )


def _time_both(ours: Detector, theirs: Detector, paths: Sequence[Path], max_pixels: int) -> Latency | None:
    """Time both alternately on the first images; None without images."""
    images = [decode_image(path, max_pixels=max_pixels) for path in paths[:_TIMED_IMAGES]]
    if not images:
        return None
    ours_s, theirs_s = time_interleaved(lambda: _pass(ours, images), lambda: _pass(theirs, images))
    return latency_of(ours_s, theirs_s, len(images))


def latency_of(ours_s: Sequence[float], theirs_s: Sequence[float], images: int) -> Latency:
    """Latency from the seconds per image in each round; each ratio is of one round."""
    ratios = sorted(ours / theirs for ours, theirs in zip(ours_s, theirs_s, strict=True))
    return Latency(
        candidate_ms=1000 * median(ours_s),
        production_ms=1000 * median(theirs_s),
        ratio=median(ratios),
        ratio_low=ratios[_LOW],
        images=images,
        rounds=len(ratios),
    )


def time_interleaved(
    first: Callable[[], float], second: Callable[[], float], rounds: int = _ROUNDS
) -> tuple[list[float], list[float]]:
    """The results of both calls in `rounds` interleaved rounds after a warm-up; they alternate in going first.

    Other load on the machine then affects both.
    """
    first_s: list[float] = []
    second_s: list[float] = []
    calls = [(first, first_s), (second, second_s)]
    for number in range(rounds + 1):
        for call, seconds in calls if number % 2 else reversed(calls):
            took = call()
            if number:
                seconds.append(took)
    return first_s, second_s


def _pass(detector: Detector, images: Sequence[NDArray[np.uint8]]) -> float:
    """Seconds per image, searched one by one as for a client of the service."""
    start, done = perf_counter(), 0
    while not done or perf_counter() - start < _ROUND_S:
        for image in images:
            detector.detect(image)
        done += len(images)
    return (perf_counter() - start) / done
