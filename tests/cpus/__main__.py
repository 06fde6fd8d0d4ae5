"""The tests that train, as if on other processors: one row for each instruction set, forward pass and thread count.

usage: python -m tests.cpus [--part N] [PYTEST ARGUMENT ...]

Without --part all 24 combinations run. `--part N` runs the N-th alone, from 0, and any larger number takes its turn:
`--part $(date +%j)` is another one every day. The exit code is 1 where a test failed.
"""

import argparse
import itertools
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_STARTUP = Path(__file__).parent / "startup"
# Everything whose outcome is computed by a training, or by a network that one made.
FILES = (
    "tests/integration/test_promotion_trained.py",
    "tests/integration/test_training_faults.py",
    "tests/integration/test_training_not_finite.py",
    "tests/integration/test_training_rates.py",
    "tests/integration/test_training_record.py",
    "tests/integration/test_training_reproduce.py",
    "tests/integration/test_training_resume.py",
    "tests/integration/test_training_run.py",
    "tests/integration/test_training_sweep.py",
    "tests/integration/test_training_int8.py",
    "tests/unit/training/test_training_variants.py",
    "tests/unit/engine/test_engine_precision.py",
)
# oneDNN's name, and what torch calls the nearest level of its own kernels.
_ISAS = {"SSE41": "default", "AVX2": "avx2", "AVX512_CORE": "avx512", "": ""}


@dataclass(frozen=True)
class Combination:
    """A processor to compute like: oneDNN's instruction set ("" for this machine's), forward pass, threads."""

    isa: str
    forward: str
    threads: int

    def environment(self) -> dict[str, str]:
        """The variables that make it real, in pytest and in what the tests start."""
        path = os.pathsep.join([str(_STARTUP), *filter(None, [os.environ.get("PYTHONPATH")])])
        # OpenVINO, which reads oneDNN's variable too, runs at AVX2 and above alone: see the start-up file.
        variable = "FORCED_ISA" if self.isa == "SSE41" else "ONEDNN_MAX_CPU_ISA"
        limits = {variable: self.isa, "ATEN_CPU_CAPABILITY": _ISAS[self.isa]} if self.isa else {}
        return {
            **os.environ,
            **limits,
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": str(self.threads),
            "FORCED_FORWARD": self.forward,
            "FORCED_THREADS": str(self.threads),
        }


COMBINATIONS = tuple(itertools.starmap(Combination, itertools.product(_ISAS, ("bf16", "fp32"), (1, 2, 4))))


def summary(output: str) -> str:
    """pytest's counts without its time, such as `1 failed, 60 passed`."""
    found = re.findall(r"^(?:=+ )?((?:\d+ \w+(?:, )?)+) in [\d.]+s", output, re.MULTILINE)
    return str(found[-1]) if found else "no summary"


def _run(one: Combination, arguments: list[str]) -> tuple[bool, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(arguments or FILES)]
    done = subprocess.run(command, cwd=_ROOT, env=one.environment(), capture_output=True, text=True, check=False)
    failed = "".join(f"\n    {line}" for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR")))
    return done.returncode == 0, summary(done.stdout) + failed


def main() -> int:
    """Run what was asked for, row by row."""
    parser = argparse.ArgumentParser(prog="python -m tests.cpus", description=__doc__)
    parser.add_argument("--part", type=int)
    options, arguments = parser.parse_known_args()
    wanted = COMBINATIONS if options.part is None else (COMBINATIONS[options.part % len(COMBINATIONS)],)
    print(f"{'instruction set':<16}{'forward':<9}{'threads':<9}{'minutes':<9}tests", flush=True)
    passed = True
    for one in wanted:
        start = time.monotonic()
        good, said = _run(one, arguments)
        passed &= good
        minutes = (time.monotonic() - start) / 60
        print(f"{one.isa or 'default':<16}{one.forward:<9}{one.threads:<9}{minutes:<9.1f}{said}", flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
