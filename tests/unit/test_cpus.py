"""The table of other processors: all combinations are there, and each one's variables do what they say."""

import subprocess
import sys

import pytest

from cpus.__main__ import COMBINATIONS, FILES, Combination, summary


def test_every_combination_is_there_once_and_every_file_exists(pytestconfig: pytest.Config) -> None:
    assert len(set(COMBINATIONS)) == len(COMBINATIONS) == 24
    assert all((pytestconfig.rootpath / name).is_file() for name in FILES)


@pytest.mark.parametrize(("forward", "native"), [("bf16", "True"), ("fp32", "False")])
def test_a_process_computes_as_it_is_told(forward: str, native: str, pytestconfig: pytest.Config) -> None:
    code = (
        "from transect.training import cpu; import torch; "
        "print(cpu.has_native_bf16(), torch.get_num_threads(), torch.backends.cpu.get_cpu_capability())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=Combination("SSE41", forward, 3).environment(),
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [native, "3", "DEFAULT"]


def test_the_counts_are_read_from_what_pytest_says() -> None:
    assert summary("..\nFAILED a\n1 failed, 60 passed, 2 skipped in 61.20s (0:01:01)\n") == (
        "1 failed, 60 passed, 2 skipped"
    )
    assert summary("=== 3 passed in 1.0s ===\n") == "3 passed"
    assert summary("killed") == "no summary"
