"""A worker without trainings: python sweep_claimer.py HOME STORE GO takes trials until there are none, and prints them.

It begins when the file GO exists.
"""

import sys
import time
from pathlib import Path

from optuna.distributions import FloatDistribution

from transect.settings import load_settings
from transect.training.sweep.config import METRICS, Pruner, Sampler, SweepConfig
from transect.training.sweep.storage import open_store
from transect.training.sweep.study import SweepStudy
from transect.training.sweep.workers import at_work

NAME = "claimed"
CONFIG = SweepConfig(
    path=Path("sweep.yaml"),
    recipe=Path("tiny.yaml"),
    space={"lr0": FloatDistribution(1e-5, 1e-1, log=True)},
    trials=30,
    metric=METRICS[0],
    sampler=Sampler(startup_trials=5),
    pruner=Pruner(kind="none"),
)


def open_study(home: Path, store: str) -> SweepStudy:
    """The study as a process of its own has it."""
    settings = load_settings({"TRANSECT_HOME": str(home), "TRANSECT_SWEEP_STORE": store}, env_file=None)
    return SweepStudy(open_store(home / "sweeps" / NAME, settings), NAME, CONFIG, wait=60)


def main() -> None:
    """Take trials, and end each with the value of its setting."""
    home, store, go = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    study = open_study(home, store)
    with at_work(home, 60, coordinator=False) as worker:
        _say("ready")
        while not go.exists():
            time.sleep(0.001)
        while (claim := study.claim(worker)) is not None:
            study.complete(claim, claim.trial.params["lr0"])
            _say(str(claim.trial.number))


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
