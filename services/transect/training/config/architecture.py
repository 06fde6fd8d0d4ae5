"""Model names: the Ultralytics architectures that Transect trains, with suggestions for misspelt ones."""

import difflib
import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from transect.config_files import read_yaml_mapping
from transect.errors import InputError
from transect.training.config.safe_load import load_checkpoint

# The heads that the engine decodes. Others (RT-DETR, open-vocabulary) have other output tensors.
_HEADS = frozenset({"Detect", "v10Detect"})
_OTHER_TASKS = {
    "Segment": "segmentation",
    "Segment26": "segmentation",
    "SemanticSegment": "segmentation",
    "Classify": "classification",
    "Pose": "pose",
    "Pose26": "pose",
    "OBB": "oriented-box",
    "OBB26": "oriented-box",
    "Depth": "depth",
}
_FAMILY = re.compile(r"^(yolov?\d+)([a-z]?)")


@dataclass(frozen=True)
class Architecture:
    """A model architecture: `name` for people and packages, `source` for Ultralytics.

    `checkpoint` is set for a .pt file, which has architecture and weights.
    `end_to_end` is whether it has an NMS-free head, beside the anchor-free one.
    """

    name: str
    source: str
    checkpoint: Path | None = None
    end_to_end: bool = False


def resolve_architecture(model: str) -> Architecture:
    """The architecture of a name (yolo11n), a .yaml path or a .pt path.

    Raises InputError, with similar names, for a name that is unknown or of another task, and for a
    file that is no detection architecture.
    """
    path = Path(model)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        document = _read_yaml(path)
        head = _head(document)
        _check_head(head, str(path))
        return Architecture(path.stem, str(path.absolute()), end_to_end=_is_end_to_end(document, head))
    if path.suffix == ".pt" and path.is_file():
        return _from_checkpoint(path)
    # Ultralytics' users also write yolo11n as yolo11n.pt or yolo11n.yaml.
    name = path.stem if model == path.name and path.suffix in {".pt", ".yaml", ".yml"} else model
    known = shipped_architectures()
    if name in known:
        _check_head(known[name].head, name)
        return Architecture(name, f"{name}.yaml", end_to_end=known[name].end_to_end)
    detection = [other for other, shipped in known.items() if shipped.head in _HEADS]
    near = difflib.get_close_matches(name, detection, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "try yolo11n, yolov8n or yolo26n."
    raise InputError(f"Model {model!r} is neither a file nor an Ultralytics architecture; {hint}")


@dataclass(frozen=True)
class Shipped:
    """An architecture file of Ultralytics: the class of its head, and whether the head is NMS-free."""

    head: str
    end_to_end: bool


@cache
def shipped_architectures() -> dict[str, Shipped]:
    """Every architecture of the installed Ultralytics, by name with its scale."""
    spec = importlib.util.find_spec("ultralytics")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("Training needs Ultralytics; install Transect with its extra: pip install 'transect[train]'.")
    folder = Path(spec.submodule_search_locations[0]) / "cfg" / "models"
    found = {}
    for path in sorted(folder.glob("*/*.yaml")):
        document = _read_yaml(path)
        head = _head(document)
        for name in _scaled_names(path.stem, document.get("scales")):
            found[name] = Shipped(head, _is_end_to_end(document, head))
    return found


def _scaled_names(stem: str, scales: Any) -> list[str]:
    """Ultralytics' rule: the scale's letter follows the version number (yolov8n-p2 is yolov8-p2 at n)."""
    family = _FAMILY.match(stem)
    if not isinstance(scales, dict) or family is None or family[2]:
        return [stem]
    return [_FAMILY.sub(rf"\g<1>{scale}", stem, count=1) for scale in scales]


def _read_yaml(path: Path) -> dict[str, Any]:
    document = read_yaml_mapping(path, InputError, "Architecture")
    if not isinstance(document.get("head"), list) or not document["head"]:
        raise InputError(f"{path} is no Ultralytics architecture: it has no head.")
    return document


def _head(document: dict[str, Any]) -> str:
    last = document["head"][-1]
    return str(last[2]) if isinstance(last, list) and len(last) > 2 else ""


def _is_end_to_end(document: dict[str, Any], head: str) -> bool:
    return head == "v10Detect" or bool(document.get("end2end"))


def _check_head(head: str, name: str) -> None:
    if head in _HEADS:
        return
    task = _OTHER_TASKS.get(head)
    what = f"a {task} architecture" if task else f"an architecture with the head {head!r}, which Transect cannot decode"
    family = _FAMILY.match(name)
    base = f"; did you mean {family[0]}?" if family and family[0] in shipped_architectures() else "."
    raise InputError(f"Model {name!r} is {what}; Transect trains detectors{base}")


def _from_checkpoint(path: Path) -> Architecture:
    """The architecture inside a checkpoint, which is loaded under Ultralytics' allow-list of classes."""

    model = load_checkpoint(path)
    head = model.model[-1]
    _check_head(type(head).__name__, path.name)
    return Architecture(
        name=Path(model.yaml.get("yaml_file", "")).stem or path.stem,
        source=str(path.absolute()),
        checkpoint=path.absolute(),
        end_to_end=getattr(head, "one2one_cv2", None) is not None,
    )
