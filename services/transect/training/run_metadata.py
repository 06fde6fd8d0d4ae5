"""Tags, parameters, metrics and files of a training's MLflow run, as plain names and values."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transect import __version__
from transect.datasets import dataset_summary
from transect.engine import BackgroundCounts, Evaluation
from transect.redaction import data_yaml_without_secrets
from transect.registry.client.metric_names import class_names
from transect.settings import SourceDiff
from transect.tracking.provenance import Provenance, installed_packages, source_diff
from transect.tracking.run_log import RunLog
from transect.tracking.system_metrics import machine_tags
from transect.training.plan import Plan


def run_tags(plan: Plan, provenance: Provenance) -> dict[str, str]:
    """Provenance tags of the run, under MLflow's names where they exist, else ours."""
    return {
        "mlflow.user": provenance.user,
        "mlflow.source.name": provenance.command,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": provenance.git_commit,
        "transect.git_dirty": str(provenance.git_dirty).lower(),
        "transect.command": provenance.command,
        "transect.host": provenance.host,
        **machine_tags(),
        "transect.device": plan.device,
        "transect.version": __version__,
        "transect.weights_used": plan.weights.kind,
        "transect.weights_sha256": plan.weights.sha256,
        "transect.weights_reason": plan.weights.sentence,
        "transect.dataset_digest": plan.digest,
        **{f"transect.dataset_review_{key}": value for key, value in plan.dataset.review.items()},
        **{f"version.{name}": text for name, text in provenance.versions.items()},
        **plan.recipe.tags,
    }


def log_start(log: RunLog, plan: Plan, folder: Path) -> None:
    """Log recipe with overrides, source, packages, the summary of the data set, and its splits as inputs of the run."""
    recipe, table = folder / "recipe.yaml", folder / "dataset_summary.csv"
    recipe.write_text(plan.recipe.as_yaml(), encoding="utf-8")
    table.write_text(as_csv(dataset_summary(plan.dataset)), encoding="utf-8")
    for path in (recipe, table, _published(plan.dataset.path, folder)):
        log.artifact(path, "config" if path != table else None)
    _log_source(log, folder, plan.source_diff)
    source = json.dumps({"uri": plan.dataset.path.as_uri()})
    for context, split in plan.dataset.splits.items():
        profile = json.dumps({"images": len(split.images), "classes": len(plan.dataset.names)})
        name = f"{plan.dataset.name}/{context}"
        log.dataset(name, plan.digests[context], source=source, context=context, profile=profile)


def _published(data_yaml: Path, folder: Path) -> Path:
    """The data.yaml as it is, or a copy in `folder` of the same name without `download` and secrets."""
    text = data_yaml.read_bytes().decode(errors="surrogateescape")
    cleaned = data_yaml_without_secrets(text)
    if cleaned == text:
        return data_yaml
    copy = folder / "published" / data_yaml.name
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(cleaned.encode(errors="surrogateescape"))
    return copy


def _log_source(log: RunLog, folder: Path, wanted: SourceDiff) -> None:
    """Log local changes to the commit, if any, and every installed package."""
    packages, patch = folder / "requirements.txt", folder / "changes.patch"
    packages.write_text(installed_packages(), encoding="utf-8")
    log.artifact(packages, "source")
    if changes := source_diff(Path.cwd(), wanted):
        patch.write_bytes(changes.encode(errors="surrogateescape"))
        log.artifact(patch, "source")


def configuration(plan: Plan, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the run: Ultralytics' effective `arguments`, and Transect's own."""
    return {
        **arguments,
        "architecture": plan.architecture.name,
        "head": plan.recipe.head,
        "weights_used": plan.weights.kind,
        "data": str(plan.dataset.path),
        "dataset_digest": plan.digest,
        "recipe": str(plan.recipe.path),
        "background": ", ".join(plan.recipe.background),
        "background_images": len(plan.background),
    }


def final_metrics(evaluation: Evaluation) -> dict[str, float]:
    """The final metrics under the names of the run: test/mAP50, and test/class/NAME/mAP50 per class."""
    final = {f"test/{_tracked(name)}": value for name, value in evaluation.metrics().items()}
    for class_name, metric_name in class_names(evaluation.per_class).items():
        values = evaluation.per_class[class_name].metrics()
        final |= {f"test/class/{metric_name}/{_tracked(name)}": value for name, value in values.items()}
    return final


def background_metrics(counts: BackgroundCounts | None) -> dict[str, float]:
    """Images and area of empty ground, and false alarms on it by class: background/class/NAME/alarms."""
    if counts is None:
        return {}
    found = {"background/images": float(counts.images), "background/mpx": counts.area_mpx}
    for name, metric_name in class_names(counts.counts).items():
        alarms = float(counts.alarms([name]).sum())
        found[f"background/class/{metric_name}/alarms"] = alarms
        found[f"background/class/{metric_name}/alarms_per_mpx"] = alarms / counts.area_mpx
    return found


def headline(evaluation: Evaluation) -> dict[str, float]:
    """The four headline metrics of a model."""
    return {
        "precision": evaluation.precision,
        "recall": evaluation.recall,
        "mAP50": evaluation.map50,
        "mAP50-95": evaluation.map50_95,
    }


def _tracked(name: str) -> str:
    # Ultralytics' name, so that charts compare runs of both.
    return "mAP50-95" if name == "mAP50_95" else name


def as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows of one shape as CSV with a header."""
    table = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
