import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from transect.errors import InputError
from transect.synth.output import build_folder, is_finished, map_in_processes

PARAMETERS = {"kind": "test", "seed": 1}


def make(out: Path, text: str = "whole") -> None:
    with build_folder(out, PARAMETERS) as part:
        (part / "content.txt").write_text(text)


def test_a_finished_folder_is_known_by_its_parameters(tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert not is_finished(out, PARAMETERS)
    make(out)
    assert is_finished(out, PARAMETERS)
    assert not is_finished(out, PARAMETERS | {"seed": 2})
    assert json.loads((out / "synth.json").read_text())["seed"] == 1


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "set"
    with pytest.raises(FileNotFoundError), build_folder(out, PARAMETERS) as part:
        (part / "content.txt").write_text((part / "missing.txt").read_text())
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_old_set(tmp_path: Path) -> None:
    out = tmp_path / "set"
    make(out, "old")
    with pytest.raises(RuntimeError), build_folder(out, PARAMETERS):
        raise RuntimeError
    assert (out / "content.txt").read_text() == "old"
    make(out, "new")
    assert (out / "content.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_what_a_killed_run_left_is_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".set.part-{dead.pid}").mkdir()
    (tmp_path / f".set.part-{os.getppid()}").mkdir()  # another run, at work
    make(tmp_path / "set")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".set.part-{os.getppid()}", "set"]


def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="was not made by transect synth"):
        is_finished(tmp_path, PARAMETERS)
    with pytest.raises(InputError, match=r"letter\.txt"):
        is_finished(tmp_path / "letter.txt", PARAMETERS)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not is_finished(empty, PARAMETERS)


def test_an_unreadable_mark_means_unfinished(tmp_path: Path) -> None:
    (tmp_path / "synth.json").write_text('{"kind":')
    assert not is_finished(tmp_path, PARAMETERS)


@pytest.mark.parametrize("processes", [1, 2])
def test_results_keep_their_order(processes: int) -> None:
    assert list(map_in_processes(abs, range(-20, 20), processes)) == [abs(i) for i in range(-20, 20)]
