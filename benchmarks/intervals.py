"""How often the 95% limits of each method hold the truth, in simulated strip surveys of herding animals.

    python -m benchmarks.intervals [--surveys 1000] [--markdown]

Each survey has a population of its own: ten times as many transects as are flown, of unequal size (gamma, coefficient
of variation 0.35), with negative binomial counts of mean 12 on a transect of mean size (variance mean + mean2 / k).
A tenth is flown, drawn without replacement; the truth is the sum over all of them. The second table adds two and
three strata of unlike density and sampling. Every method sees the same surveys. The recommended method must hold
the truth in 93 to 97% of the surveys of 20 transects: else the exit code is 1.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from benchmarks.reporting import Bar, Report, Table, cores

from transect.census.estimates.estimate import DEFAULT_METHOD, STRIP_METHODS, StripMethod, estimate_strip
from transect.census.estimates.intervals import StripSample

CLUSTERING = (0.5, 1.0, 3.0)
TRANSECTS = (10, 20, 40)
MEAN, UNEQUAL, SAMPLED = 12.0, 0.35, 0.1


@dataclass(frozen=True)
class Ground:
    """A stratum to simulate: transects flown, clustering k, mean count of a transect, share that is flown."""

    n: int
    k: float
    mean: float = MEAN
    sampled: float = SAMPLED


STRATA: tuple[tuple[str, tuple[Ground, ...]], ...] = (
    ("2 strata, 10 + 10, k 0.5", (Ground(10, 0.5), Ground(10, 0.5))),
    ("2 strata, 3 + 12, k 1", (Ground(3, 1), Ground(12, 1))),
    ("2 strata, 10 + 10, k 0.5, half and a tenth flown", (Ground(10, 0.5, 20, 0.5), Ground(10, 0.5, 4))),
    ("3 strata, 8 + 8 + 8, k 0.5", (Ground(8, 0.5),) * 3),
)


@dataclass(frozen=True)
class Held:
    """What became of the surveys: share of limits that held the truth, and their mean width over the truth."""

    share: float
    width: float


def simulate(grounds: Sequence[Ground], surveys: int, seed: int) -> Iterator[tuple[list[StripSample], float]]:
    """Samples of one survey after another, and the true total; surveys that see nothing are left out."""
    generator = np.random.default_rng(seed)
    made = 0
    while made < surveys:
        samples, truth = [], 0.0
        for ground in grounds:
            possible = round(ground.n / ground.sampled)
            areas = generator.gamma(UNEQUAL**-2, UNEQUAL**2, possible)
            mean = ground.mean * areas
            counts = generator.negative_binomial(ground.k, ground.k / (ground.k + mean)).astype(np.float64)
            flown = generator.choice(possible, ground.n, replace=False)
            samples.append(StripSample(counts[flown], areas[flown], float(areas.sum())))
            truth += float(counts.sum())
        if sum(sample.seen for sample in samples) > 0:
            made += 1
            yield samples, truth


def held(grounds: Sequence[Ground], surveys: int, seed: int) -> dict[StripMethod, Held]:
    """Coverage and width of every method on the same surveys; where one gives no limits, they held nothing."""
    hits, widths = dict.fromkeys(STRIP_METHODS, 0), dict.fromkeys(STRIP_METHODS, 0.0)
    for samples, truth in simulate(grounds, surveys, seed):
        for method in STRIP_METHODS:
            limits = estimate_strip(samples, method).ci95
            if limits is not None:
                hits[method] += limits[0] <= truth <= limits[1]
                widths[method] += (limits[1] - limits[0]) / truth
    return {method: Held(hits[method] / surveys, widths[method] / surveys) for method in STRIP_METHODS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surveys", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    single = [(f"k {k:g}, {n} transects", (Ground(n, k),)) for k in CLUSTERING for n in TRANSECTS]
    tasks = [grounds for _, grounds in (*single, *STRATA)]
    with ProcessPoolExecutor(cores()) as pool:
        found = list(pool.map(held, tasks, [arguments.surveys] * len(tasks), [arguments.seed] * len(tasks)))
    rows = [(name, *_cells(result)) for (name, _), result in zip((*single, *STRATA), found, strict=True)]
    bars = []
    for (name, grounds), result in zip(single, found, strict=False):
        if grounds[0].n == 20:
            share = result[DEFAULT_METHOD].share
            bars += [Bar(f"{DEFAULT_METHOD}, {name}", share, limit, at_least=limit < 0.95) for limit in (0.93, 0.97)]
    error = math.sqrt(0.95 * 0.05 / arguments.surveys)
    report = Report(
        "95% limits of strip surveys",
        f"Share of the limits that hold the truth / their mean width over the truth, {arguments.surveys} simulated "
        f"surveys a line; a share of 0.95 has a standard error of {error:.3f}.",
        (
            Table(("one stratum", *STRIP_METHODS), tuple(rows[: len(single)])),
            Table(("several strata", *STRIP_METHODS), tuple(rows[len(single) :])),
        ),
        tuple(bars),
    )
    print(report.show(markdown=arguments.markdown))
    return 0 if all(bar.met for bar in bars) else 1


def _cells(found: dict[StripMethod, Held]) -> list[str]:
    return [f"{found[method].share:.3f} / {found[method].width:.2f}" for method in STRIP_METHODS]


if __name__ == "__main__":
    raise SystemExit(main())
