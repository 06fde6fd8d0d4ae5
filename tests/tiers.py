"""The tiers of the tests, which are the folders of tests/: which files start first, and what time each tier takes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from transect.wording import count_of

# The longest files, the longest first: one that starts last would run beside an idle process. Seconds of their slowest
# tests in a run of everything on two busy cores; only the order matters.
SECONDS = {
    "containers": 1000,
    "integration/test_training_sweep_workers.py": 300,
    "integration/test_training_sweep.py": 246,
    "integration/test_census_spool.py": 241,
    "integration/test_training_ranks.py": 240,
    "integration/test_cpus.py": 224,
    "integration/test_registry_accounts.py": 199,
    "integration/test_training_strangers.py": 183,
    "integration/test_serving_swaps.py": 172,
    "integration/test_training_faults.py": 169,
    "integration/test_training_run.py": 158,
    "integration/test_serving_webhook.py": 151,
    "integration/test_serving_following.py": 145,
    "integration/test_census_kill.py": 130,
    "integration/test_training_reproduce.py": 90,
    "integration/test_benchmarks_training.py": 66,
    "integration/test_serving_rollback.py": 63,
}
_TESTS = Path(__file__).parent


def longest_first(items: list[pytest.Item]) -> None:
    """Sort the tests by the time of their file; those of one file stay together, in their order."""
    items.sort(key=lambda item: -_seconds(item.path))


def _seconds(path: Path) -> int:
    if not path.is_relative_to(_TESTS):
        return 0
    file = path.relative_to(_TESTS)
    return SECONDS.get(file.as_posix(), SECONDS.get(file.parts[0], 0))


def tier_times(reports: Iterable[object]) -> Iterator[str]:
    """A line for each tier: its tests, and the seconds that they took, set-up included, added over all processes."""
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, set[str]] = defaultdict(set)
    for report in reports:
        if isinstance(report, pytest.TestReport):
            parts = Path(report.nodeid.partition("::")[0]).parts
            # A file outside of tests/ is a tier of its own.
            tier = parts[1] if parts[:1] == ("tests",) and len(parts) > 2 else report.nodeid.partition("::")[0]
            seconds[tier] += report.duration
            tests[tier].add(report.nodeid)
    for tier in sorted(seconds):
        number = count_of(len(tests[tier]), "test")
        yield f"{tier}: {number} took {seconds[tier]:.0f} s, added over all processes"
