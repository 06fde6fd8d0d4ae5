"""`transect runs sync`: deliver to MLflow what trainings and censuses keep on disk."""

from transect.errors import RegistryError
from transect.settings import load_settings


def sync() -> None:
    """Deliver what trainings and censuses logged while MLflow was unavailable, and register waiting models.

    Prints one line per run. Idempotent; skips a run that is still training, and a census that is being logged.
    """
    from transect.tracking.sync import sync_spools

    report = sync_spools(load_settings())
    for run in report.runs:
        print(run.sentence)
    if not report.runs:
        print("Nothing to deliver: MLflow has everything that was logged.")
    if not report.complete:
        waiting = sum(run.left > 0 for run in report.runs)
        raise RegistryError(f"{waiting} runs are not delivered in full; nothing of them is lost.")
