"""How often a comparison of two surveys calls equal numbers of animals different, where it should in 5%.

    python -m benchmarks.differences [--surveys 1000] [--markdown]

Two surveys of one population of unequal transects (as benchmarks/intervals.py makes it) fly as many transects as
each line says, drawn independently, so that every difference that is found is wrong. Beside it, how often a second
population of a quarter of the animals is found to be smaller. The test of `transect census compare` must be wrong in
at most 6.5% of the surveys on every line: else the exit code is 1.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from benchmarks.intervals import CLUSTERING, MEAN, SAMPLED, UNEQUAL
from benchmarks.reporting import Bar, Report, Table, cores

from transect.census.estimates.difference import Contrast, Estimated, mover, welch
from transect.census.estimates.estimate import estimate_strip
from transect.census.estimates.intervals import StripSample

FLOWN = ((10, 10), (20, 20), (40, 40), (10, 30), (8, 40), (5, 20))
DECLINE, WRONG = 0.25, 0.065


@dataclass(frozen=True)
class Called:
    """Share of the comparisons that call two surveys different: of equal numbers, and after a decline."""

    equal: float
    decline: float


def pairs(flown: tuple[int, int], k: float, change: float, surveys: int, seed: int) -> Iterator[list[Estimated]]:
    """The estimates of two surveys that both saw animals; the second of `change` times the animals (1: of the same)."""
    generator = np.random.default_rng(seed)
    possible, made = round(max(flown) / SAMPLED), 0
    while made < surveys:
        areas = generator.gamma(UNEQUAL**-2, UNEQUAL**2, possible)
        means = [MEAN * areas, change * MEAN * areas]
        counts = [generator.negative_binomial(k, k / (k + mean)).astype(np.float64) for mean in means]
        counts[1] = counts[0] if change == 1 else counts[1]
        found = []
        for animals, n in zip(counts, flown, strict=True):
            chosen = generator.choice(possible, n, replace=False)
            sample = StripSample(animals[chosen], areas[chosen], float(areas.sum()))
            estimate = estimate_strip([sample])
            if estimate.ci95 is not None:
                values = (estimate.estimate or 0.0, estimate.variance or 0.0, estimate.df or 1.0)
                found.append(Estimated(*values, estimate.ci95))
        if len(found) == len(flown):
            made += 1
            yield found


def called(flown: tuple[int, int], k: float, surveys: int, seed: int) -> dict[str, Called]:
    """How often each test calls the two surveys of a line different."""
    shares: dict[str, list[float]] = {"mover": [], "welch": []}
    for change in (1.0, DECLINE):
        hits = dict.fromkeys(shares, 0)
        for a, b in pairs(flown, k, change, surveys, seed):
            contrasts: dict[str, Contrast | None] = {"mover": mover(a, b), "welch": welch(a, b)}
            for name, contrast in contrasts.items():
                hits[name] += contrast is not None and contrast.p < 0.05
        for name, hit in hits.items():
            shares[name].append(hit / surveys)
    return {name: Called(*values) for name, values in shares.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surveys", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    lines = [(flown, k) for k in CLUSTERING for flown in FLOWN]
    with ProcessPoolExecutor(cores()) as pool:
        tasks = [pool.submit(called, flown, k, arguments.surveys, arguments.seed) for flown, k in lines]
        found = [task.result() for task in tasks]
    rows, bars = [], []
    for (flown, k), shares in zip(lines, found, strict=True):
        name = f"k {k:g}, {flown[0]} against {flown[1]} transects"
        rows.append((name, *(f"{one.equal:.3f} / {one.decline:.2f}" for one in (shares["mover"], shares["welch"]))))
        bars.append(Bar(f"mover, {name}", shares["mover"].equal, WRONG))
    report = Report(
        "Comparisons of two surveys",
        f"Share of {arguments.surveys} pairs of surveys that are called different at p < 0.05: of the same animals / "
        f"where the second has {DECLINE:g} times as many.",
        (Table(("two surveys", "mover", "welch"), tuple(rows)),),
        tuple(bars),
    )
    print(report.show(markdown=arguments.markdown))
    return 0 if all(bar.met for bar in bars) else 1


if __name__ == "__main__":
    raise SystemExit(main())
