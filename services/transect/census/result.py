"""The result of a census, and its form as a run in MLflow."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transect.census.counting.tally import SpeciesRow
from transect.census.issues import Issue
from transect.registry import CensusRun

_NOT_IN_METRIC_NAMES = re.compile(r"[^A-Za-z0-9_\-./ ]+")

TAG_DETECTOR_STATE = "transect.detector_state"
"""The tag of a census' run for the state of the detector's validation; with .SPECIES that of one species."""

WITHOUT_POSITIONS = frozenset({"counts.csv", "estimate.csv", "estimate.json", "manifest.json", "transects.csv"})
"""The files of a result that contain numbers of animals and no positions."""


@dataclass(frozen=True, kw_only=True)
class CensusResult:
    """A finished census: its folder, one row a species, the issues, the report and the manifest."""

    name: str
    folder: Path
    rows: tuple[SpeciesRow, ...]
    issues: tuple[Issue, ...]
    report: Path
    manifest: dict[str, Any]
    files: tuple[Path, ...]

    def as_run(self, log: Literal["full", "summary"] = "full") -> CensusRun:
        """The census as its run in MLflow.

        A `summary` has the artifacts without positions; it is a run of its own beside the full one.
        Metrics named `doubtful` come from a correction whose errors are unknown on this ground.
        """
        model, survey, images = self.manifest["model"], self.manifest["survey"], self.manifest["images"]
        params = {
            "survey": survey["name"],
            "survey_digest": survey["digest"],
            "sampling": survey["sampling"],
            "model": model["name"],
            "model_version": model["version"],
            **{f"options.{key}": value for key, value in self.manifest["options"].items()},
            **{f"config.{key}": value for key, value in self.manifest["config"].items()},
        }
        metrics = {f"images.{key}": float(value) for key, value in images.items()}
        metrics["area_km2"] = float(self.manifest["area_km2"])
        for row in self.rows:
            values = {
                "seen": row.seen,
                "seen_unplaced": row.seen_unplaced,
                "unique": row.unique,
                "single_look": row.single_look,
                "corrected": row.corrected,
                "estimate": row.estimate,
                "se": row.se,
                "ci95_low": row.ci95[0] if row.ci95 else None,
                "ci95_high": row.ci95[1] if row.ci95 else None,
                "density_per_km2": row.density_per_km2,
                "doubtful": row.doubtful,
                "doubtful_estimate": row.doubtful_estimate,
                "doubtful_ci95_low": row.doubtful_ci95[0] if row.doubtful_ci95 else None,
                "doubtful_ci95_high": row.doubtful_ci95[1] if row.doubtful_ci95 else None,
            }
            species = in_mlflow(row.species)
            metrics |= {f"{species}.{key}": float(value) for key, value in values.items() if value is not None}
        tags = {
            "transect.kind": "census",
            "transect.census_run": self.manifest["run"],
            "transect.census_results": self._results_digest() + ("" if log == "full" else f" {log}"),
            "transect.model_run_id": model["run_id"],
            "transect.package_sha256": model["package_sha256"],
            "transect.survey_digest": survey["digest"],
            TAG_DETECTOR_STATE: self.manifest["detector"]["state"],
            **{f"{TAG_DETECTOR_STATE}.{in_mlflow(row.species)}": row.detector for row in self.rows},
        }
        files = tuple(file for file in self.files if log == "full" or file.name in WITHOUT_POSITIONS)
        return CensusRun(name=self.name, params=params, metrics=metrics, tags=tags, artifacts=files)

    def _results_digest(self) -> str:
        """SHA-256 of the manifest, which contains the results' hashes, without its time of creation."""
        content = {key: value for key, value in self.manifest.items() if key != "created_at"}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def in_mlflow(species: str) -> str:
    """A species as it stands in the name of a metric or a tag."""
    return _NOT_IN_METRIC_NAMES.sub("_", species)
