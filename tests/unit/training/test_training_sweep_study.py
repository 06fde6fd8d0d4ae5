import math
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from sweep_work import shared_work
from transect.errors import InputError, SettingsError, UnreachableError
from transect.settings import load_settings
from transect.training.sweep.config import METRICS, Pruner, Sampler, SweepConfig, load_sweep
from transect.training.sweep.definition import difference
from transect.training.sweep.report import config_yaml, trials_csv, write_report
from transect.training.sweep.storage import open_store, retry_store
from transect.training.sweep.study import Claim, SweepStudy
from transect.training.sweep.workers import at_work

_CONFIG = SweepConfig(
    path=Path("sweep.yaml"),
    recipe=Path("tiny.yaml"),
    space={
        "lr0": FloatDistribution(1e-5, 1e-1, log=True),
        "epochs": IntDistribution(2, 10, step=2),
        "optimizer": CategoricalDistribution(["AdamW", "SGD"]),
    },
    trials=6,
    metric=METRICS[0],
    sampler=Sampler(seed=3, startup_trials=2),
    pruner=Pruner(startup_trials=1, warmup_epochs=0),
)


def _study(home: Path) -> SweepStudy:
    """The sweep `s` as a new process finds it."""
    settings = load_settings({"TRANSECT_HOME": str(home)}, env_file=None)
    study = SweepStudy(open_store(home / "sweeps" / "s", settings), "s", _CONFIG, wait=0)
    study.open_work(shared_work(_CONFIG))
    return study


def _claim(study: SweepStudy, home: Path) -> Claim:
    """A trial, of a worker that is killed then."""
    with at_work(home, 60, coordinator=False) as worker:
        claim = study.claim(worker)
    assert claim is not None
    return claim


def _run(study: SweepStudy, home: Path, count: int) -> list[dict[str, Any]]:
    drawn = []
    for _ in range(count):
        claim = _claim(study, home)
        trial = claim.trial
        study.set_attr(trial, "folder", f"run-{trial.number}")
        drawn.append(dict(trial.params))
        study.complete(claim, -abs(math.log10(trial.params["lr0"]) + 3))
    return drawn


def test_a_sweep_that_is_cut_short_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    at_once = _run(_study(tmp_path / "a"), tmp_path, 6)
    in_parts = _run(_study(tmp_path / "b"), tmp_path, 3)
    with at_work(tmp_path, 60, coordinator=True) as killed:
        left = _study(tmp_path / "b").claim(killed)
    with at_work(tmp_path, 60, coordinator=True) as worker:
        again = _study(tmp_path / "b").claim(worker)
    assert left is not None
    assert again is not None
    assert (again.trial.number, again.trial.params) == (left.trial.number, left.trial.params)
    _study(tmp_path / "b").release(again)
    in_parts += _run(_study(tmp_path / "b"), tmp_path, 3)
    assert in_parts == at_once
    assert len({repr(sorted(params.items())) for params in at_once}) > 1


def test_the_best_trial_is_a_complete_one(tmp_path: Path) -> None:
    study = _study(tmp_path)
    assert study.best() is None
    for value, end in ((0.3, "complete"), (0.9, "failed"), (0.5, "complete"), (0.9, "pruned"), (0.5, "complete")):
        claim = _claim(study, tmp_path)
        study.set_attr(claim.trial, "folder", f"run-{claim.trial.number}")
        claim.trial.report(value, 0)
        if end == "complete":
            study.complete(claim, value)
        elif end == "failed":
            study.failed(claim, "out of memory")
        else:
            study.pruned(claim)
    best = study.best()
    assert best is not None
    assert (best.number, best.value, best.folder) == (2, 0.5, "run-2")
    assert study.registered(best) == ""
    study.record_registered(best, "7")
    assert _study(tmp_path).registered(best) == "7"
    states = [trial.state for trial in study.ended()]
    complete, failed, pruned = TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED
    assert states == [complete, failed, complete, pruned, complete]
    rows = trials_csv(study.ended(), _CONFIG).splitlines()
    assert rows[0] == "trial,state,best/mAP50-95,epochs_run,seconds,lr0,epochs,optimizer,run,reason"
    assert rows[2].startswith("1,failed,,1,")
    assert rows[2].endswith(",run-1,out of memory")


def test_the_report_is_written_as_far_as_there_is_something_to_see(tmp_path: Path) -> None:
    study = _study(tmp_path)
    names = [path.name for path in write_report(tmp_path, study.ended(), study.study, _CONFIG)]
    assert names == ["sweep.yaml", "trials.csv"]
    _run(study, tmp_path, 6)
    written = write_report(tmp_path, study.ended(), study.study, _CONFIG)
    assert [path.name for path in written] == ["sweep.yaml", "trials.csv", "history.png", "importances.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[2:])


def test_the_sweep_that_was_run_can_be_given_again(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text("train: {epochs: 3}\n")
    again = tmp_path / "again.yaml"
    again.write_text(config_yaml(_CONFIG).replace("tiny.yaml", str(tmp_path / "tiny.yaml")))
    read = load_sweep(again)
    assert (read.space, read.trials, read.sampler, read.pruner) == (
        _CONFIG.space,
        _CONFIG.trials,
        _CONFIG.sampler,
        _CONFIG.pruner,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"space": {"lr0": "a", "lrf": "c"}}, "space (lrf)"),
        ({"space": {"lr0": "b"}}, "space (lr0)"),
        ({"recipe": {"train": {"epochs": 4}, "pretrained": "none"}}, "recipe (epochs)"),
        ({"recipe": {"train": {"epochs": 3}, "pretrained": "starter"}}, "recipe (pretrained)"),
        ({"model": "yolo26n"}, "model (yolo11n, and now yolo26n)"),
        ({"training set": "f" * 40}, f"training set (digest {'0' * 12}, and now {'f' * 12})"),
    ],
)
def test_what_changed_in_a_sweep_is_named(changes: dict[str, Any], message: str) -> None:
    before = {
        "space": {"lr0": "a"},
        "recipe": {"train": {"epochs": 3}, "pretrained": "none"},
        "model": "yolo11n",
        "training set": "0" * 40,
    }
    assert difference(before, {**before, **changes}) == message


@pytest.mark.parametrize("address", ["mysql://a:secret@b/c", "sqlite:///runs/mlflow.db", "nonsense"])
def test_an_address_that_is_no_postgresql_is_refused(address: str, tmp_path: Path) -> None:
    settings = load_settings({"TRANSECT_SWEEP_STORE": address}, env_file=None)
    with pytest.raises(SettingsError, match=r"TRANSECT_SWEEP_STORE .* give postgresql://") as raised:
        open_store(tmp_path, settings)
    assert "secret" not in str(raised.value)


def test_a_store_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    settings = load_settings({"TRANSECT_SWEEP_STORE": "postgresql://a:secret@127.0.0.1:9/c"}, env_file=None)
    with pytest.raises(UnreachableError, match=r"127.0.0.1:9/c cannot be used .*TRANSECT_SWEEP_STORE right") as raised:
        open_store(tmp_path, settings)
    assert "secret" not in str(raised.value)


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("not a database, but long enough to be taken for one" * 100)
    with pytest.raises(InputError, match=r"study\.db, cannot be opened"):
        open_store(tmp_path, load_settings({}, env_file=None))


def test_a_store_in_trouble_is_asked_again(tmp_path: Path) -> None:
    from sqlalchemy.exc import OperationalError

    tries = []

    def do() -> int:
        tries.append(1)
        if len(tries) < 2:
            raise OperationalError("SELECT", {}, Exception("database is locked"))
        return 5

    assert retry_store(do, wait=30) == 5
    tries.clear()
    with pytest.raises(UnreachableError, match=r"cannot be written \(database is locked\); nothing is lost"):
        retry_store(do, wait=0)
