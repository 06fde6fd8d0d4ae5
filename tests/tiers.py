"""The tiers of the tests, which are the folders of tests/: which files start first, and what time each tier takes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from transect.wording import count_of

# Files of more than a minute, the longest first: one that starts last would run beside an idle process. Seconds on two
# cores, from the durations that continuous integration prints.
SECONDS = {
    "containers": 520,
    "integration/test_training_sweep.py": 200,
    "integration/test_registry_accounts.py": 190,
    "integration/test_training_faults.py": 180,
    "integration/test_training_run.py": 150,
    "integration/test_serving_webhook.py": 140,
    "integration/test_census_kill.py": 130,
    "integration/test_training_reproduce.py": 120,
    "integration/test_promotion_gate.py": 100,
    "integration/test_registry_servers.py": 90,
    "integration/test_serving_following.py": 80,
    "integration/test_serving_rollback.py": 70,
    "integration/test_serving_swaps.py": 60,
    "integration/test_training_strangers.py": 60,
    "integration/test_cpus.py": 60,
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
