"""The trials of one worker, one after the other, until all of the sweep have ended."""

import gc
import logging
import time
from collections.abc import Callable
from datetime import timedelta

from transect.errors import TransectError
from transect.training.sweep.config import as_overrides
from transect.training.sweep.study import Claim, SweepStudy, TakenOverError
from transect.training.sweep.trial import SweepContext, TrialResult, run_trial
from transect.training.sweep.workers import Owner, Worker, owners_text

logger = logging.getLogger(__name__)

_MOST_FAILURES = 3
# A trial that another worker ends is noticed so soon.
_LONGEST_LOOK_S = 5.0


def run_trials(
    context: SweepContext, study: SweepStudy, worker: Worker, ended: Callable[[], None] = lambda: None
) -> list[int]:
    """Take trials and train them until all have ended; returns the numbers of those that this worker ended.

    While other workers train the last ones it waits, to take them over should their workers die. `ended` is called
    after each trial and each wait. Raises TransectError when three trials of this worker in a row failed.
    """
    numbers, took, failures = list[int](), list[float](), 0
    waits_for: dict[int, Owner | None] = {}
    while True:
        ended()
        claim = study.claim(worker)
        if claim is None:
            if not (left := study.left()):
                return numbers
            waits_for = _wait(worker, waits_for, left)
            continue
        began = time.monotonic()
        result = _run(claim, context, study)
        if result is None:
            continue
        took.append(time.monotonic() - began)
        numbers.append(claim.trial.number)
        _log_trial(context, study, claim, result, sum(took) / len(took))
        failures = failures + 1 if result.state == "failed" else 0
        if failures == _MOST_FAILURES and study.left():
            ended()
            raise TransectError(
                f"{_MOST_FAILURES} trials in a row failed, the last one because: {result.reason}. Mend that, or the "
                f"space of {context.config.path}; the same command resumes with the next trial."
            )


def _run(claim: Claim, context: SweepContext, study: SweepStudy) -> TrialResult | None:
    """Train a trial and tell its result; None when another worker has it by now."""
    trial = claim.trial
    after = f", after {claim.left_by}" if claim.left_by else ""
    settings = " ".join(as_overrides(trial.params))
    logger.info("Trial %d of sweep %s%s: %s", trial.number, context.name, after, settings)
    try:
        with study.heartbeat(claim) as heartbeat:
            result = run_trial(claim, study, context, heartbeat)
            _end(study, claim, result)
    except TakenOverError as error:
        logger.warning("%s", error)
        return None
    except BaseException:
        study.release(claim)
        raise
    finally:
        _free_memory()
    return result


def _wait(worker: Worker, before: dict[int, Owner | None], left: dict[int, Owner | None]) -> dict[int, Owner | None]:
    """Wait until another look is due; returns the trials that it told of."""
    if left.keys() != before.keys():
        logger.info("Waiting for %s.", owners_text(left))
    time.sleep(min(worker.watch.interval_s, _LONGEST_LOOK_S))
    return left


def _end(study: SweepStudy, claim: Claim, result: TrialResult) -> None:
    if result.value is not None:
        study.complete(claim, result.value)
    elif result.state == "pruned":
        study.pruned(claim)
    else:
        study.failed(claim, result.reason)


def _log_trial(context: SweepContext, study: SweepStudy, claim: Claim, result: TrialResult, mean_s: float) -> None:
    """Log one line about a finished trial."""
    name = context.config.value_name
    if result.value is not None:
        what = f"complete, {name} {result.value:.4f}"
    elif result.state == "pruned":
        what = f"stopped after epoch {result.epoch}, as the others were better"
    else:
        what = f"failed: {result.reason}"
    best, done, left = study.best(), len(study.ended()), study.left()
    so_far = f"best {best.value:.4f} in trial {best.number}" if best else "none complete yet"
    # This worker, and those that train now.
    workers = 1 + sum(owner is not None for owner in left.values())
    time_left = timedelta(seconds=round(mean_s * len(left) / workers))
    logger.info(
        "Trial %d %s; %s; %d of %d done, about %s left.",
        claim.trial.number,
        what,
        so_far,
        done,
        done + len(left),
        time_left,
    )


def _free_memory() -> None:
    """Free the last trial's network: reference cycles keep it alive, and the next one needs its memory."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
