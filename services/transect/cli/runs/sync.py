"""`transect runs sync`: deliver what trainings could not tell MLflow."""

from transect.errors import RegistryError
from transect.settings import load_settings


def sync() -> None:
    """Deliver what trainings could not tell MLflow while it was away, and register what waits for it.

    One line for each run. Does nothing twice; a run that is training now is left alone.
    """
    from transect.tracking.sync import sync_spools

    report = sync_spools(load_settings())
    for run in report.runs:
        print(run.sentence)
    if not report.runs:
        print("Nothing to deliver: MLflow has everything that the trainings told.")
    if not report.complete:
        waiting = sum(run.left > 0 for run in report.runs)
        raise RegistryError(f"{waiting} runs are not delivered in full; nothing of them is lost.")
