import json
from pathlib import Path

import pytest

from transect.tracking.run_history import param_drift
from transect.training.trainer.checkpoints import COMPLETE, TRAINED, cut_results, read_trained, write_trained

_HEADER = "epoch,time,loss\n"


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ("1,1,0.5\n2,2,0.4\n3,3,0.3\n", "1,1,0.5\n2,2,0.4\n"),
        ("1,1,0.5\n2,2,0.4\n3,3", "1,1,0.5\n2,2,0.4\n"),
        ("1,1,0.5\n2,2,0.4\n", "1,1,0.5\n2,2,0.4\n"),
        ("", ""),
    ],
)
def test_epochs_that_are_trained_again_leave_the_table(rows: str, kept: str, tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text(_HEADER + rows)
    cut_results(table, 2)
    assert table.read_text() == _HEADER + kept


def test_a_table_that_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    cut_results(tmp_path / "results.csv", 2)
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_a_training_is_noted(tmp_path: Path) -> None:
    assert read_trained(tmp_path) is None
    complete = tmp_path / COMPLETE
    complete.parent.mkdir()
    complete.write_bytes(b"large")
    (complete.parent / "state-3.pt").write_bytes(b"large")
    write_trained(tmp_path, {"epochs": 3})
    assert read_trained(tmp_path) == {"epochs": 3}
    # A complete training is not resumed, so its state files are removed.
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [TRAINED]


def test_drift_names_what_changed_and_not_where_it_lies() -> None:
    before = {"lr0": "0.01", "epochs": "3", "save_dir": "/a", "gone": "1"}
    now = {"lr0": "0.02", "epochs": "3", "save_dir": "/b", "new": "1"}
    assert json.loads(param_drift(before, now)) == {"lr0": {"old": "0.01", "new": "0.02"}}
    assert param_drift(before, before) == ""
