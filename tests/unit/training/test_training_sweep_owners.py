"""Several workers on one study: who may take which trial, and whose result counts."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from sweep_work import shared_work
from transect.errors import InputError
from transect.settings import load_settings
from transect.training.sweep.config import METRICS, Pruner, Sampler, SweepConfig
from transect.training.sweep.storage import open_store
from transect.training.sweep.study import Claim, SweepStudy, TakenOverError
from transect.training.sweep.workers import Heartbeat, Owner, Watch, Worker, at_work

_STALE_S = 60.0
_CONFIG = SweepConfig(
    path=Path("sweep.yaml"),
    recipe=Path("tiny.yaml"),
    space={"lr0": FloatDistribution(1e-5, 1e-1, log=True)},
    trials=3,
    metric=METRICS[0],
    sampler=Sampler(),
    pruner=Pruner(kind="none"),
)


@dataclass
class _Clock:
    """A clock that the test moves on."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with at_work(tmp_path, _STALE_S, coordinator=False) as one:
        yield one


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Worker]:
    with at_work(tmp_path, _STALE_S, coordinator=True) as one:
        yield one


def _study(home: Path, config: SweepConfig = _CONFIG) -> SweepStudy:
    """The study as a process of its own has it."""
    settings = load_settings({"TRANSECT_HOME": str(home)}, env_file=None)
    study = SweepStudy(open_store(home / "sweeps" / "s", settings), "s", config, wait=0)
    study.open_work(shared_work(config))
    return study


def _claim(study: SweepStudy, worker: Worker) -> Claim:
    claim = study.claim(worker)
    assert claim is not None
    return claim


def _elsewhere(worker: Worker, clock: _Clock | None = None) -> Worker:
    """A worker as if on another machine, whose locks say nothing here."""
    owner = replace(worker.owner, machine="another", host="lion", coordinator=False)
    return Worker(owner, _STALE_S, clock or _Clock())


def test_workers_share_the_trials_and_take_none_of_a_living_one(tmp_path: Path, worker: Worker, other: Worker) -> None:
    mine, theirs = _study(tmp_path), _study(tmp_path)
    claims = [_claim(mine, worker), _claim(theirs, other), _claim(theirs, other)]
    assert [claim.trial.number for claim in claims] == [0, 1, 2]
    assert mine.claim(worker) is None
    assert [str(owner) for owner in mine.left().values()] == [f"process {worker.owner.pid} on {worker.owner.host}"] * 3
    for claim, value in zip(claims, (0.2, 0.5, 0.5), strict=True):
        mine.set_attr(claim.trial, "folder", "run")
        mine.complete(claim, value)
    assert mine.claim(worker) is None
    assert mine.left() == {}
    best = mine.best()
    assert best is not None
    assert best.number == 1
    # No worker makes trials: only the coordinator does, and then both find them.
    theirs.open_work(shared_work(replace(_CONFIG, trials=4)))
    assert _claim(mine, worker).trial.number == 3


def test_a_dead_worker_of_this_machine_is_known_by_its_lock(tmp_path: Path, worker: Worker) -> None:
    study = _study(tmp_path)
    with at_work(tmp_path, _STALE_S, coordinator=False) as dead:
        left = _claim(study, dead)
        lock = Path(dead.owner.lock)
    # As the system leaves the file of a killed process.
    lock.touch()
    taken = _claim(study, worker)
    assert (taken.trial.number, taken.trial.params) == (left.trial.number, left.trial.params)
    assert taken.left_by is not None
    assert (taken.left_by.worker, taken.certain) == (dead.owner.worker, True)


def test_a_coordinator_goes_on_with_the_trial_of_its_predecessor(tmp_path: Path, other: Worker) -> None:
    study = _study(tmp_path)
    before = Worker(replace(other.owner, worker="before", machine="another", host="id-of-a-container"), _STALE_S)
    left = _claim(study, before)
    taken = _claim(study, other)
    assert (taken.trial.number, taken.certain) == (left.trial.number, True)


def test_a_worker_of_another_machine_is_watched(tmp_path: Path, worker: Worker) -> None:
    study, clock = _study(tmp_path, replace(_CONFIG, trials=1)), _Clock()
    far = _elsewhere(worker)
    mine = Worker(replace(worker.owner, worker="mine"), _STALE_S, clock)
    left = _claim(study, far)
    heartbeat = study.heartbeat(left)
    for _ in range(20):
        assert study.claim(mine) is None
        assert heartbeat._renew()
        clock.seconds += 10
    # Its last heartbeat is watched from here on.
    for _ in range(6):
        assert study.claim(mine) is None
        clock.seconds += 10
    taken = _claim(study, mine)
    # It may live all the same: it has lost the trial, and what it has trained is no result.
    assert (taken.trial.number, taken.certain) == (left.trial.number, False)
    assert not heartbeat._renew()
    study.set_attr(taken.trial, "folder", "run")
    with pytest.raises(TakenOverError, match=r"Trial 0 of sweep s was taken over by process \d+ on .*, whose result"):
        study.complete(left, 0.9)
    study.release(left)
    study.complete(taken, 0.4)
    with pytest.raises(TakenOverError):
        study.failed(left, "too late")
    assert [(one.state, one.value) for one in study.ended()] == [(TrialState.COMPLETE, 0.4)]


def test_time_without_looks_does_not_count(tmp_path: Path) -> None:
    clock = _Clock()
    watch = Watch(_STALE_S, clock)
    assert watch.interval_s == 10
    # The store was away for an hour, in which no heartbeat could be written.
    assert not watch.is_stale(0, "a 1")
    clock.seconds += 3600
    assert not watch.is_stale(0, "a 1")
    for _ in range(5):
        clock.seconds += 10
        assert not watch.is_stale(0, "a 1")
    # A heartbeat, and a trial of its own.
    assert not watch.is_stale(0, "a 2")
    assert not watch.is_stale(1, "b 1")
    for _ in range(5):
        clock.seconds += 10
        assert not watch.is_stale(0, "a 2")
    clock.seconds += 10
    assert watch.is_stale(0, "a 2")
    assert not watch.is_stale(1, "b 1")


def test_a_trial_that_was_given_back_can_be_taken_at_once(tmp_path: Path, worker: Worker, other: Worker) -> None:
    study = _study(tmp_path)
    left = _claim(study, other)
    study.release(left)
    taken = _claim(study, worker)
    assert (taken.trial.number, taken.left_by) == (left.trial.number, None)
    with pytest.raises(TakenOverError):
        study.complete(left, 0.9)


def test_a_heartbeat_tells_that_the_trial_is_lost() -> None:
    asked = threading.Semaphore(0)
    answers = iter([True, False])

    def renew() -> bool:
        asked.release()
        return next(answers)

    with Heartbeat(renew, interval_s=0.001) as heartbeat:
        assert asked.acquire(timeout=60)
        assert asked.acquire(timeout=60)
        heartbeat._thread.join(60)
        assert heartbeat.lost
    with Heartbeat(lambda: True, interval_s=3600) as heartbeat:
        assert not heartbeat.lost


def test_a_sweep_that_is_not_in_the_store_cannot_be_joined(tmp_path: Path) -> None:
    _study(tmp_path)
    settings = load_settings({"TRANSECT_HOME": str(tmp_path)}, env_file=None)
    storage = open_store(tmp_path / "sweeps" / "s", settings)
    with pytest.raises(InputError, match=r"There is no sweep t to join in the store of this worker \(there: s\)"):
        SweepStudy(storage, "t", _CONFIG, wait=0, make=False)
    assert SweepStudy(storage, "s", _CONFIG, wait=0, make=False).work() == shared_work(_CONFIG)


def test_what_was_written_of_an_owner_is_read() -> None:
    owner = Owner(worker="w", host="lion", pid=7, machine="m", lock="/l", coordinator=False).beaten()
    assert Owner.read(owner.as_value()) == owner
    assert (owner.beat, owner.at[-1]) == (1, "Z")
    assert Owner.read(None) is None
