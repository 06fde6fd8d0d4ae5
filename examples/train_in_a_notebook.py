"""Train, and read back what was logged: python examples/train_in_a_notebook.py DATA_YAML RECIPE

The cells of a notebook, one after the other. MLflow may be a server (MLFLOW_TRACKING_URI) or the local store; what it
could not be told waits under TRANSECT_HOME for `transect runs sync`.
"""

import sys
from pathlib import Path

import transect
from transect.registry import list_runs
from transect.settings import load_settings
from transect.training import TrainRequest, train


def main(data: str, recipe: str) -> None:
    """Train yolo11n by `recipe` on `data`, register the model, and print the newest run."""
    settings = load_settings()
    outcome = train(TrainRequest("yolo11n", Path(recipe), Path(data)), settings)
    print(f"version {outcome.version}: {outcome.metrics}")
    (newest,) = list_runs(transect.load_registry(settings), experiment=Path(recipe).stem, limit=1)
    print(f"run {newest.run_id} is {newest.status}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
