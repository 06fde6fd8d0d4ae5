"""The content of a census' run in MLflow. It imports no MLflow, so that a census can be counted without it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CensusRun:
    """A finished census as a run named `name`.

    `artifacts` are files, or folders that keep their names. The tag transect.census_run identifies the census, and
    transect.census_results its results.
    """

    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: tuple[Path, ...]
