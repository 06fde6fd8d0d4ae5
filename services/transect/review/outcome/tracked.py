"""A review as a run in MLflow, linked with the census and the model version by tags."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transect.census.result import TAG_DETECTOR_STATE, in_mlflow
from transect.registry import CensusRun
from transect.review.outcome.record import minutes_spent


def review_run(record: Mapping[str, Any], manifest: Mapping[str, Any], files: Sequence[Path], log: str) -> CensusRun:
    """The run of a review; it is found again by the digest of its numbers, so that it is logged once."""
    survey, census, model, reviewed = manifest["survey"], manifest["census"], manifest["model"], record["reviewed"]
    spent, _, _ = minutes_spent(record)
    metrics = {
        "reviewed.boxes": float(reviewed["boxes"]),
        "reviewed.photos": float(reviewed["photos"]),
        "reviewed.minutes": spent,
        "reviewed.people": float(len(reviewed["reviewers"])),
    }
    for one in record["species"]:
        name = in_mlflow(one["species"])
        whole = one["strata"][-1] if one["strata"] else {}
        values = {
            "checked": one["flown"],
            "checked_se": one["flown_se"],
            "checked_ci95_low": (one["flown_ci95"] or (None, None))[0],
            "checked_ci95_high": (one["flown_ci95"] or (None, None))[1],
            "precision": one["precision"],
            "recall": one["recall"],
            "estimate": whole.get("estimate"),
            "se": whole.get("se"),
            "ci95_low": (whole.get("ci95") or (None, None))[0],
            "ci95_high": (whole.get("ci95") or (None, None))[1],
        }
        metrics |= {f"{name}.{key}": float(value) for key, value in values.items() if value is not None}
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return CensusRun(
        name=f"{survey['name']} review {manifest['name']}",
        params={
            "survey": survey["name"],
            "survey_digest": survey["digest"],
            "review": manifest["name"],
            "seed": str(manifest["seed"]),
            "model": model["name"],
            "model_version": model["version"],
            "census_run": census["run"],
        },
        metrics=metrics,
        tags={
            "transect.kind": "review",
            "transect.review_id": manifest["id"],
            # What it is found by again; the census has a run of its own.
            "transect.census_run": f"{census['run']} review {manifest['id'][:12]}",
            "transect.reviewed_census": census["run"],
            "transect.census_results": digest + ("" if log == "full" else f" {log}"),
            "transect.model_run_id": model["run_id"],
            "transect.package_sha256": model["package_sha256"],
            "transect.survey_digest": survey["digest"],
            TAG_DETECTOR_STATE: record["species"][-1]["state"],
            **{f"{TAG_DETECTOR_STATE}.{in_mlflow(one['species'])}": one["state"] for one in record["species"][:-1]},
        },
        artifacts=tuple(files),
    )
