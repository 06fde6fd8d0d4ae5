"""What several GPUs cannot share, and how the end of a rank is told."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from transect.errors import InputError
from transect.training.trainer.ranks import RankError, _failure, check_ranks, write_error
from transect.training.trainer.trainer import check_arguments


def test_a_batch_is_divided_among_the_gpus() -> None:
    check_ranks({"device": "0,1", "batch": 6})
    check_ranks({"device": "0,1"})
    check_ranks({"device": "cpu", "batch": -1, "rect": True})


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"batch": 7}, r"batch=7 cannot be divided among 3 GPUs; give a multiple, such as batch=6"),
        ({"batch": 2}, r"batch=2 cannot be divided among 3 GPUs; give a multiple, such as batch=3"),
        ({}, r"batch=16 cannot be divided among 3 GPUs; give a multiple, such as batch=15"),
        ({"batch": -1}, r"batch=-1 fits the batch to one GPU, and there are 3; give a number, such as batch=24"),
        ({"batch": 0.7}, r"batch=0.7 fits the batch to one GPU"),
        ({"batch": 6, "rect": True}, r"rect=true does not fit 3 GPUs"),
    ],
)
def test_what_gpus_cannot_share_is_refused_before_the_training(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        check_arguments({"device": "0,1,2", **arguments})


def _ended(*programs: str) -> list["subprocess.Popen[bytes]"]:
    found = [subprocess.Popen([sys.executable, "-c", program]) for program in programs]
    for process in found:
        process.wait()
    return found


def test_the_first_reason_is_told(tmp_path: Path) -> None:
    fails = _ended("raise SystemExit(1)", "raise SystemExit(1)")
    assert str(_failure(fails, ["0", "1"], tmp_path)) == (
        "A rank ended without a reason (exit codes 1, 1); its output is in ranks.log of the run."
    )
    write_error(tmp_path, 1, RuntimeError("CUDA out of memory.\nTried to allocate"))
    write_error(tmp_path, 0, ConnectionError("closed by peer"))
    told = _failure(fails, ["0", "2"], tmp_path)
    assert isinstance(told, RankError)
    # Who explains a training's errors of PyTorch explains this one.
    assert isinstance(told, RuntimeError)
    assert str(told) == "Rank 1 of 2, on GPU 2, failed: RuntimeError: CUDA out of memory. Tried to allocate"


def test_what_a_rank_refuses_is_no_failure_of_it(tmp_path: Path) -> None:
    write_error(tmp_path, 0, InputError("4 epochs are trained and epochs=2; give more epochs to resume."))
    told = _failure(_ended("raise SystemExit(1)"), ["0"], tmp_path)
    assert type(told) is InputError
    assert str(told) == "4 epochs are trained and epochs=2; give more epochs to resume."


def test_a_rank_that_was_killed_is_told_before_those_that_missed_it(tmp_path: Path) -> None:
    killed = "import os; os.kill(os.getpid(), 9)"
    write_error(tmp_path, 0, ConnectionError("closed by peer"))
    told = _failure(_ended("raise SystemExit(1)", killed), ["0", "1"], tmp_path)
    assert str(told).startswith("Rank 1 of 2, on GPU 1, was killed by SIGKILL, and the others were stopped")
