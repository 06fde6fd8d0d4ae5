"""The table of other processors: all combinations are there, and each one's variables do what they say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cpus.__main__ import COMBINATIONS, FILES, Combination, summary


def test_every_combination_is_there_once_and_every_file_exists(pytestconfig: pytest.Config) -> None:
    assert len(set(COMBINATIONS)) == len(COMBINATIONS) == 24
    assert all((pytestconfig.rootpath / name).is_file() for name in FILES)


@pytest.mark.parametrize(("forward", "native"), [("bf16", "True"), ("fp32", "False")])
def test_a_process_computes_as_configured(forward: str, native: str, pytestconfig: pytest.Config) -> None:
    code = (
        "from transect.training.trainer import cpu_bf16 as cpu; import torch; "
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


def test_the_counts_are_read_from_the_output_of_pytest() -> None:
    assert summary("..\nFAILED a\n1 failed, 60 passed, 2 skipped in 61.20s (0:01:01)\n") == (
        "1 failed, 60 passed, 2 skipped"
    )
    assert summary("=== 3 passed in 1.0s ===\n") == "3 passed"
    assert summary("killed") == "no summary"


def test_a_limit_below_avx2_is_for_torch_alone(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    (tmp_path / "test_limits.py").write_text(
        "import os, pytest, subprocess, sys\n"
        "def test_limits():\n"
        "    assert 'ONEDNN_MAX_CPU_ISA' not in os.environ\n"
        "    import transect.training.trainer.cpu_bf16\n"
        "    code = 'import os, transect.training.trainer.cpu_bf16; print(os.environ[\"FORCED_ISA\"])'\n"
        "    assert subprocess.check_output([sys.executable, '-c', code], text=True) == 'SSE41\\n'\n"
    )
    rules = ["-c", str(pytestconfig.rootpath / "pyproject.toml"), "-p", "no:cacheprovider", "-p", "conftest"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *rules, str(tmp_path / "test_limits.py")],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "SSE41", "PYTHONPATH": str(pytestconfig.rootpath / "tests")},
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
