"""Common set-up of all tests: an environment without the developer's own settings."""

import os
import runpy
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # ships none

from make_variables import forget_make
from rotation import rest_of_the_day
from tiers import longest_first, tier_times

# Fixtures that make small real model packages, and an embedded store for them.
pytest_plugins = ["package_fixtures", "registry_fixtures"]

# Whoever asks oneDNN for less than AVX2 (`ONEDNN_MAX_CPU_ISA=SSE41 make test`) means torch: see tests/cpus.
if os.environ.get("ONEDNN_MAX_CPU_ISA") in ("SSE41", "AVX"):
    _startup = Path(__file__).parent / "cpus" / "startup"
    os.environ["FORCED_ISA"] = os.environ.pop("ONEDNN_MAX_CPU_ISA")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_startup), *filter(None, [os.environ.get("PYTHONPATH")])])
    runpy.run_path(str(_startup / "sitecustomize.py"))

# A shell starts what runs in its background with SIGINT ignored, which every process that a test starts, and
# interrupts, would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_OURS = ("TRANSECT_", "MLFLOW_", "AWS_", "POSTGRES_", "MINIO_")

forget_make()

# How long a case takes is the machine's affair: on a loaded one Hypothesis would call it a failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--photos",
        metavar="FOLDER",
        help="compare the engine with Ultralytics on the photos of this folder too (test_engine_parity.py)",
    )
    parser.addoption(
        "--rotate",
        action="store_true",
        help="run only those long tests whose turn it is today, as continuous integration does (rotation.py)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that rotate to another day, and start the longest files first."""
    if config.getoption("--rotate"):
        rest_of_the_day(items)
    longest_first(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the time of each tier."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    for line in tier_times(reports):
        terminalreporter.write_line(line)


class _Scheduling(LoadFileScheduling):  # type: ignore[misc]  # untyped
    """The tests of a file go to one process, and all of the containers to one too: they share a stack."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(super()._split_scope(nodeid))
        return str(file.parent if file.parent.name == "containers" else file)


@pytest.hookimpl(optionalhook=True)  # where xdist is left out: -p no:xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling:
    """Distribute the tests, if there are several processes."""
    return _Scheduling(config, log)


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    """Remove every variable that configures the program: a test sets what it needs.

    After the test too: the program names its MLflow in the environment, where the fixtures of the next
    module, which are made before any fixture of a single test, would find it.
    """
    _clean()
    yield
    _clean()


def _clean() -> None:
    for name in list(os.environ):
        if name.startswith(_OURS):
            del os.environ[name]
