"""What a training's run must hold, item by item, and which of it a run lacks."""

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from ultralytics.cfg import get_cfg

from transect.datasets import load_dataset, split_digest
from transect.registry import Registry
from transect.registry.client.queries import stored_files

# A value that an item must have, or what must be true of it.
Wanted = Mapping[str, object | Callable[[Any], bool]]

_LOSSES = {"yolov8n": ("box", "cls", "dfl"), "yolo11n": ("box", "cls", "dfl"), "yolo26n": ("box", "cls", "l1")}
_MEASURES = ("precision", "recall", "mAP50", "mAP50-95")
_SYSTEM = (
    *("cpu_utilization_percentage", "system_memory_usage_megabytes", "system_memory_usage_percentage"),
    *("disk_usage_percentage", "network_receive_megabytes", "network_transmit_megabytes"),
)
_TAGS = (
    *("mlflow.user", "mlflow.source.name", "mlflow.source.git.commit", "transect.git_dirty", "transect.command"),
    *(f"transect.{name}" for name in ("host", "cpu", "cpu_cores", "memory_gb", "gpu", "os", "container_image")),
    *(f"transect.{name}" for name in ("device", "version", "weights_used", "weights_sha256", "dataset_digest")),
    *(f"transect.{name}" for name in ("batch_used", "epochs_run", "model_version")),
    *(f"version.{name}" for name in ("python", "torch", "torchvision", "ultralytics", "mlflow", "numpy", "opencv")),
    *(f"version.{name}" for name in ("transect", "onnx", "onnxruntime", "openvino", "nncf")),
)
_FILES = (
    *("dataset_summary.csv", "config/recipe.yaml", "config/data.yaml"),
    *("source/requirements.txt", "source/changes.patch"),
    *(f"training/{name}" for name in ("results.csv", "args.yaml", "ultralytics.log")),
    *(f"plots/{name}.png" for name in ("confusion_matrix", "confusion_matrix_normalized", "results")),
    *(f"plots/Box{curve}_curve.png" for curve in ("PR", "P", "R", "F1")),
    *("plots/labels.jpg", "plots/train_batch0.jpg"),
    *(f"plots/val_batch0_{name}.jpg" for name in ("labels", "pred", "compare")),
    *(f"model/{name}" for name in ("MLmodel", "model.onnx", "weights.pt", "package.json")),
)
_COLUMNS = ("images", "empty_images", "boxes", "box_px_05", "box_px_50", "box_px_95")


def wanted_items(model: str, data: Path, epochs: int, **known: object) -> dict[str, object | Callable[[Any], bool]]:
    """The items of a run that trained `model` on `data`; `known` are parameters and tags with one right value.

    Metrics of each epoch are wanted with every step; where no value is known, one that is not empty.
    """
    losses = _LOSSES[model]
    each_epoch = [
        *(f"{split}/{name}" for split in ("train", "val") for name in ("loss", *(f"{loss}_loss" for loss in losses))),
        *(f"metrics/{name}" for name in _MEASURES),
        *(f"lr/pg{group}" for group in range(3)),
    ]
    dataset = load_dataset(data)
    at_the_end = [
        *(f"{where}/{name}" for where in ("best", "test") for name in _MEASURES),
        *(f"test/class/{name}/{what}" for name in dataset.names for what in (*_MEASURES, "instances")),
    ]
    return {
        "status": "FINISHED",
        # That of the run's folder.
        "name": re.compile(rf"\d{{4}}-\d\d-\d\d_\d{{6}}_{model}").fullmatch,
        **{
            f"metric {name}": lambda values: [step for step, _ in values] == [*range(1, epochs + 1)]
            for name in each_epoch
        },
        **{f"metric {name}": lambda values: bool(values) and math.isfinite(values[-1][1]) for name in at_the_end},
        **{f"metric system/{name}": bool for name in _SYSTEM},
        # All of what Ultralytics is configured with, and what becomes of it.
        **{
            f"param {name}": bool for name in (*vars(get_cfg()), "architecture", "head", "optimizer_used", "initial_lr")
        },
        **{
            f"param {name}": bool
            for name in ("weight_decay_used", "forward_precision", "cpu_threads", "dataset_digest")
        },
        **{f"tag {name}": bool for name in _TAGS},
        **{f"artifact {name}": lambda size: size > 0 for name in _FILES},
        **{f"data set {split}": split_digest(dataset, split) for split in dataset.splits},
        **{
            f"{column} of {split} {name} in dataset_summary.csv": bool
            for split in dataset.splits
            for name in ("all", *dataset.names)
            for column in _COLUMNS
        },
        **known,
    }


def read_items(registry: Registry, run_id: str, scratch: Path) -> dict[str, Any]:
    """Everything that MLflow gives back of a run, under the names of `wanted_items`."""
    client = registry.client
    run = client.get_run(run_id)
    metrics = {
        name: [(one.step, one.value) for one in client.get_metric_history(run_id, name)]
        if name.startswith(("train/", "val/", "metrics/", "lr/"))
        else [(0, value)]
        for name, value in run.data.metrics.items()
    }
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return {
        "status": run.info.status,
        "name": run.info.run_name,
        "experiment": client.get_experiment(run.info.experiment_id).name,
        **{f"metric {name}": values for name, values in metrics.items()},
        **{f"param {name}": value for name, value in run.data.params.items()},
        **{f"tag {name}": value for name, value in run.data.tags.items()},
        **{f"artifact {info.path}": info.file_size for info in stored_files(client, run_id)},
        **{f"data set {given.tags[0].value}": given.dataset.digest for given in inputs},
        **dict(_summary(client, run_id, scratch)),
    }


def missing(items: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """The names of the items that are not there, or not as they should be."""
    return [name for name, right in wanted.items() if name not in items or not _is(items[name], right)]


def _is(value: Any, right: object | Callable[[Any], bool]) -> bool:
    return bool(right(value)) if callable(right) else bool(value == right)


def _summary(client: MlflowClient, run_id: str, scratch: Path) -> Iterator[tuple[str, str]]:
    table = Path(client.download_artifacts(run_id, "dataset_summary.csv", str(scratch)))
    for row in csv.DictReader(table.read_text().splitlines()):
        for column in set(row) - {"split", "class"}:
            yield f"{column} of {row['split']} {row['class']} in dataset_summary.csv", row[column]
