"""A training recipe: a YAML file and overrides, checked key by key before anything is started."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transect.engine import VariantLimits
from transect.errors import InputError

HeadChoice = Literal["anchor-free", "end-to-end"]

# What Ultralytics takes for training detectors, less what Transect itself decides
# (data, device, folders, task) and what would change the classes or the meaning of a run.
TRAIN_KEYS = frozenset(
    {
        "amp",
        "batch",
        "bgr",
        "box",
        "cache",
        "channels_last",
        "close_mosaic",
        "cls",
        "cls_pw",
        "cls_remap",
        "compile",
        "copy_paste",
        "cos_lr",
        "cutmix",
        "degrees",
        "deterministic",
        "dfl",
        "epochs",
        "fliplr",
        "flipud",
        "fraction",
        "freeze",
        "hsv_h",
        "hsv_s",
        "hsv_v",
        "imgsz",
        "lr0",
        "lrf",
        "max_det",
        "mixup",
        "momentum",
        "mosaic",
        "multi_scale",
        "nbs",
        "optimizer",
        "patience",
        "perspective",
        "plots",
        "rect",
        "save_period",
        "scale",
        "seed",
        "shear",
        "time",
        "translate",
        "warmup_bias_lr",
        "warmup_epochs",
        "warmup_momentum",
        "weight_decay",
        "workers",
    }
)
_TOP_KEYS = frozenset({"model", "data", "pretrained", "head", "iou", "training_gsd_m", "precision", "train", "tags"})
_SECTIONS = frozenset({"precision", "train", "tags"})
_PRECISION = "precision."
_TAGS = "tags."


class PrecisionRecipe(BaseModel):
    """Which faster variants are made after training, and what they may lose against fp32.

    `int8` is calibrated on up to `calibration_images` of the training split. The limits are on the
    validation split: mAP50-95 and recall in points of 0..1, the count as a share of the labelled
    animals.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bf16: bool = True
    int8: bool = True
    calibration_images: int = Field(default=300, ge=1)
    max_map_loss: float = Field(default=0.005, ge=0, le=1)
    max_recall_loss: float = Field(default=0.005, ge=0, le=1)
    max_count_error: float = Field(default=0.005, ge=0, le=1)

    @property
    def limits(self) -> VariantLimits:
        """The limits as the package keeps them."""
        return VariantLimits(
            map50_95_loss=self.max_map_loss, recall_loss=self.max_recall_loss, count_error=self.max_count_error
        )


@dataclass(frozen=True)
class Recipe:
    """What to train and how.

    `train` goes to Ultralytics as it is. `iou` is the NMS threshold that the package recommends,
    `training_gsd_m` the ground sample distance of the training images in metres a pixel, if known, and
    `named` the MLflow experiment where the path does not name it.
    """

    path: Path
    train: dict[str, Any]
    tags: dict[str, str]
    model: str | None = None
    data: str | None = None
    pretrained: str | None = None
    head: HeadChoice = "anchor-free"
    iou: float = 0.5
    training_gsd_m: float | None = None
    precision: PrecisionRecipe = field(default_factory=PrecisionRecipe)
    named: str = ""

    @property
    def experiment(self) -> str:
        """The MLflow experiment."""
        return self.named or experiment_of(self.path)

    def as_yaml(self) -> str:
        """The recipe with its overrides applied, as it can be given again."""
        document: dict[str, Any] = {
            key: value
            for key in ("model", "data", "pretrained", "head", "iou", "training_gsd_m")
            if (value := getattr(self, key)) is not None
        }
        document |= {"precision": self.precision.model_dump(), "train": self.train, "tags": self.tags}
        return yaml.safe_dump(document, sort_keys=False)


def experiment_of(path: Path) -> str:
    """The MLflow experiment of a configuration file: its path, with underscores and without its suffix."""
    path = path.resolve()
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return "_".join(part for part in path.with_suffix("").parts if part != path.anchor)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key=value` overrides, whose values are read as YAML.

    A key is one of `train`'s, one of the recipe's own, `precision.KEY`, or `tags.NAME` for a tag of the
    run, whose value is taken as it stands. A `+` before a key, as Hydra writes what it adds, is allowed.

    Raises InputError for a missing or malformed file, an unknown key (with the nearest right one),
    or a value of the wrong kind.
    """
    document = _read(path)
    refuse_unknown(document, _TOP_KEYS, str(path))
    train = _mapping(document, "train", path)
    refuse_unknown(train, TRAIN_KEYS, f"{path}, train")
    tags = {str(key): str(value) for key, value in _mapping(document, "tags", path).items()}
    for name in tags:
        _check_tag(name)
    precision = _mapping(document, "precision", path)
    top = {key: value for key, value in document.items() if key not in _SECTIONS}
    for override in overrides:
        key, value = _parse(override)
        if key.startswith(_TAGS):
            tags[key.removeprefix(_TAGS)] = str(value)
        elif key.startswith(_PRECISION):
            precision[key.removeprefix(_PRECISION)] = value
        else:
            (top if key in _TOP_KEYS else train)[key] = value
    texts = {key: _text(top, key) for key in ("model", "data", "pretrained")}
    iou, gsd = _number(top, "iou", upper=1.0), _number(top, "training_gsd_m")
    _check_image_size(train.get("imgsz", 640))
    return Recipe(
        path,
        train,
        tags,
        model=texts["model"],
        data=texts["data"],
        pretrained=texts["pretrained"],
        head=_head(top),
        iou=0.5 if iou is None else iou,
        training_gsd_m=gsd,
        precision=_precision(precision),
    )


def _read(path: Path) -> dict[str, Any]:
    document = read_yaml(path, "Recipe", "configs/train holds some")
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InputError(f"Recipe {path} must be a mapping with the key train.")
    return document


def read_yaml(path: Path, what: str, hint: str) -> Any:
    """What a file of the user's says; `what` it is and `hint`, where one is found, stand in the InputError."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}; {hint}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {path} is not YAML: {' '.join(str(error).split())}.") from error


def _parse(override: str) -> tuple[str, Any]:
    _, separator, text = override.partition("=")
    key = override_key(override)
    if not separator or not key:
        raise InputError(f"Override {override!r} is not KEY=VALUE, such as epochs=5.")
    if key.startswith(_TAGS):
        _check_tag(key.removeprefix(_TAGS))
        return key, text
    ours = _TOP_KEYS - _SECTIONS | {f"{_PRECISION}{name}" for name in PrecisionRecipe.model_fields}
    refuse_unknown([key], TRAIN_KEYS | ours, "override")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"Override {override!r}: the value is not YAML.") from error
    if isinstance(value, str):
        # YAML 1.1 takes 1e-3 for a word.
        try:
            value = float(value)
        except ValueError:
            return key, value
    return key, value


def _check_tag(name: str) -> None:
    """Refuse names that MLflow refuses, and those that tell what Transect itself knows of a run."""
    if not name or not all(c.isalnum() or c in "_-. /" for c in name) or not name.isascii():
        raise InputError(f"tags.{name} is not usable: a tag's name has letters, digits and _-. / only.")
    if name.startswith(("mlflow.", "transect.", "version.")):
        raise InputError(f"tags.{name} is not usable: that name is MLflow's or Transect's own; take another.")


def _mapping(document: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise InputError(f"Recipe {path}: {key} must be a mapping.")
    return dict(value)


def override_key(override: str) -> str:
    """The key of a KEY=VALUE override, as the recipe has it."""
    return override.partition("=")[0].strip().removeprefix("+").removeprefix("train.")


def refuse_unknown(keys: Iterable[str], known: frozenset[str], where: str, what: str = "a training recipe") -> None:
    """Raise InputError for a key that is none of `what`, with the nearest that is."""
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}."
            raise InputError(f"{where}: {key!r} is not a key of {what}; {hint}")


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    return None if value is None else str(value)


def _number(document: dict[str, Any], key: str, upper: float = float("inf")) -> float | None:
    value = document.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= upper:
        raise InputError(
            f"{key}={value!r} is not usable: give a number over 0{' and at most 1' if upper == 1 else ''}."
        )
    return float(value)


def _precision(section: dict[str, Any]) -> PrecisionRecipe:
    refuse_unknown(section, frozenset(PrecisionRecipe.model_fields), "precision")
    try:
        return PrecisionRecipe.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        name = first["loc"][0]
        raise InputError(f"{_PRECISION}{name}={first['input']!r} is not usable: {first['msg']}.") from error


def _head(document: dict[str, Any]) -> HeadChoice:
    head: HeadChoice | None = document.get("head")
    if head not in (None, "anchor-free", "end-to-end"):
        raise InputError(f"head={head!r} is not usable: give anchor-free or end-to-end.")
    return head or "anchor-free"


def _check_image_size(size: Any) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 32 or size % 32:
        raise InputError(f"imgsz={size!r} is not usable: give a multiple of 32, such as 640.")
