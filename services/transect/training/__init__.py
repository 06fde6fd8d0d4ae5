"""An Ultralytics run, tracked, evaluated, packaged and registered."""

from transect.training.pipeline import TrainOutcome, train
from transect.training.plan import TrainRequest

__all__ = ["TrainOutcome", "TrainRequest", "train"]
