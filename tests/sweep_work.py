"""What a sweep's coordinator tells its joiners, without a coordinator."""

from transect.training.sweep.config import SweepConfig
from transect.training.sweep.definition import Work
from transect.training.sweep.workers import machine


def shared_work(config: SweepConfig, *, stale_s: float = 60.0) -> Work:
    """The work of `config` for workers of this machine."""
    return Work(
        trials=config.trials,
        sampler=config.sampler.model_dump(),
        pruner=config.pruner.model_dump(),
        experiment="sweeps",
        run_id="",
        weights="",
        versions={},
        machine=machine(),
        stale_s=stale_s,
    )
