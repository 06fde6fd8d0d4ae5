"""Training recipes: a YAML file and overrides, validated key by key."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transect.config_files import Keys, YamlMapping, placed, read_yaml_mapping, read_yaml_value, unknown_key
from transect.engine import HeadKind, VariantLimits
from transect.errors import InputError

# Ultralytics' arguments for training detectors, without those that Transect sets itself
# (data, device, folders, task) and those that would change the classes or the meaning of a run.
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
_TOP_KEYS = frozenset(
    {"model", "data", "background", "pretrained", "head", "iou", "training_gsd_m", "precision", "train", "tags"}
)
_SECTIONS = frozenset({"precision", "train", "tags"})
_PRECISION = "precision."
_TAGS = "tags."
# MLflow's mlflow.utils.validation.MAX_ENTITY_KEY_LENGTH.
_LONGEST_TAG = 250


class PrecisionRecipe(BaseModel):
    """Faster variants to make after training, and their maximum losses against fp32.

    `int8` is calibrated on up to `calibration_images` of the training split. The limits are on the
    validation split: mAP50-95 and recall in points of 0..1, the count as a share of the labelled
    animals.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bf16: bool = True
    int8: bool = True
    fp16: bool = True
    tf32: bool = True
    calibration_images: int = Field(default=300, ge=1)
    max_map_loss: float = Field(default=0.005, ge=0, le=1)
    max_recall_loss: float = Field(default=0.005, ge=0, le=1)
    max_count_error: float = Field(default=0.005, ge=0, le=1)

    @property
    def limits(self) -> VariantLimits:
        """The limits in the package's format."""
        return VariantLimits(
            map50_95_loss=self.max_map_loss, recall_loss=self.max_recall_loss, count_error=self.max_count_error
        )


class _OwnKeys(BaseModel):
    """The recipe's own keys that have limits. What `train` holds is Ultralytics' to check, see check_arguments."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    head: HeadKind = "anchor-free"
    iou: float = Field(default=0.5, gt=0, le=1)
    training_gsd_m: float | None = Field(default=None, gt=0)
    precision: PrecisionRecipe = PrecisionRecipe()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A validated recipe.

    `train` is passed to Ultralytics as it is. `background` names folders of pictures without any animal. `iou` is the
    NMS threshold that the package recommends, `training_gsd_m` the ground sample distance of the training images in
    metres a pixel, if known. `experiment_name` overrides the MLflow experiment that the path gives. `places` maps each
    key to the file and line, or override, that set it.
    """

    path: Path
    train: dict[str, Any]
    tags: dict[str, str]
    model: str | None = None
    data: str | None = None
    background: tuple[str, ...] = ()
    pretrained: str | None = None
    head: HeadKind = "anchor-free"
    iou: float = 0.5
    training_gsd_m: float | None = None
    precision: PrecisionRecipe = field(default_factory=PrecisionRecipe)
    experiment_name: str = ""
    places: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def experiment(self) -> str:
        """The MLflow experiment."""
        return self.experiment_name or experiment_of(self.path)

    def as_yaml(self) -> str:
        """The recipe with its overrides applied, as YAML that `load_recipe` reads."""
        document: dict[str, Any] = {
            key: value
            for key in ("model", "data", "pretrained", "head", "iou", "training_gsd_m")
            if (value := getattr(self, key)) is not None
        }
        if self.background:
            document["background"] = list(self.background)
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
    run, whose value is plain text. A `+` before a key, Hydra's syntax for additions, is allowed.

    Raises InputError for a missing or malformed file, an unknown key (with the nearest right one),
    or a value of the wrong kind.
    """
    source = _RecipeSource(
        path,
        read_yaml_mapping(path, InputError, "Recipe", "name one with --config; the checkout has some in configs/train"),
    )
    for override in overrides:
        source.override(override)
    top, train = source.top, source.train
    texts = {key: _text(top, key) for key in ("model", "data", "pretrained")}
    own = _own_keys(source)
    _check_image_size(source)
    return Recipe(
        path=path,
        train=train,
        tags=source.tags,
        model=texts["model"],
        data=texts["data"],
        background=_background(source),
        pretrained=texts["pretrained"],
        head=own.head,
        iou=own.iou,
        training_gsd_m=own.training_gsd_m,
        precision=own.precision,
        places=source.places,
    )


class _RecipeSource:
    """A recipe with the command line's overrides: values by section, and the place that set each."""

    def __init__(self, path: Path, document: YamlMapping) -> None:
        self.path, self._document = path, document
        self._overridden: dict[str, str] = {}
        refuse_unknown(document, (), _TOP_KEYS, str(path))
        self.top = {key: value for key, value in document.items() if key not in _SECTIONS}
        self.train = self._section("train")
        refuse_unknown(document, ("train",), TRAIN_KEYS, f"{path}, train")
        self.precision = self._section("precision")
        refuse_unknown(document, ("precision",), frozenset(PrecisionRecipe.model_fields), f"{path}, precision")
        # A tag is text: 1.10 stays 1.10.
        self.tags = {str(key): self._tag(key, value) for key, value in self._section("tags").items()}
        self.places = {key: self._place("train", key) for key in self.train} | {
            key: self._place(key) for key in self.top
        }

    def override(self, override: str) -> None:
        """Apply one KEY=VALUE of the command line."""
        key, value = _parse(override)
        if key in self._overridden:
            raise InputError(
                f"{key} is given twice, as {self._overridden[key]!r} and as {override!r}; keep one of them."
            )
        self._overridden[key] = override
        if key.startswith(_TAGS):
            self.tags[key.removeprefix(_TAGS)] = str(value)
            return
        if key.startswith(_PRECISION):
            self.precision[key.removeprefix(_PRECISION)] = value
        else:
            (self.top if key in _TOP_KEYS else self.train)[key] = value
        self.places[key] = f"override {override!r}"

    def error(self, problem: str, *keys: str) -> InputError:
        """The error for the value at `keys`, with its place."""
        name = keys[-1] if keys[0] != "precision" else f"{_PRECISION}{keys[-1]}"
        return InputError(placed(problem, self.places.get(name) or self._place(*keys)))

    def _place(self, *keys: str) -> str:
        return f"{self.path}, {self._document.where(*keys)}"

    def _tag(self, key: str | int, value: Any) -> str:
        try:
            _check_tag(str(key))
        except InputError as error:
            raise InputError(placed(str(error), self._place("tags", str(key)))) from error
        text = self._document.text("tags", key)
        if value is None or text is None:
            what = "nothing" if value is None else f"a {'list' if isinstance(value, list) else 'mapping'}"
            raise InputError(placed(f"tags.{key} is {what}: give text", self._place("tags", str(key))))
        return text

    def _section(self, key: str) -> dict[str, Any]:
        value = self._document.get(key)
        if value is not None and not isinstance(value, dict):
            raise InputError(self._document.placed(f"Recipe {self.path}: {key} must be a mapping", key))
        return dict(value or {})


def _parse(override: str) -> tuple[str, Any]:
    _, separator, text = override.partition("=")
    key = override_key(override)
    if not separator or not key:
        raise InputError(f"Override {override!r} is not KEY=VALUE, such as epochs=5.")
    if key.startswith(_TAGS):
        _check_tag(key.removeprefix(_TAGS))
        return key, text
    ours = _TOP_KEYS - _SECTIONS | {f"{_PRECISION}{name}" for name in PrecisionRecipe.model_fields}
    if key not in TRAIN_KEYS | ours:
        raise InputError(f"Override {override!r}: {unknown_key(key, TRAIN_KEYS | ours, 'a training recipe')}.")
    return key, read_yaml_value(text, f"Override {override!r}")


def _check_tag(name: str) -> None:
    """Raise InputError for names that MLflow refuses, and for those reserved for Transect's own tags."""
    if not name or not all(c.isalnum() or c in "_-. /" for c in name) or not name.isascii():
        raise InputError(f"tags.{name} is not usable: a tag's name has letters, digits and _-. / only.")
    if len(name) > _LONGEST_TAG or any(part in {"", ".", ".."} for part in name.split("/")):
        raise InputError(
            f"tags.{name[:40]} is not usable: a tag's name has at most {_LONGEST_TAG} characters, "
            "and no part between slashes is empty, . or .. ."
        )
    if name.startswith(("mlflow.", "transect.", "version.")):
        raise InputError(f"tags.{name} is not usable: that name is MLflow's or Transect's own; take another.")


def override_key(override: str) -> str:
    """The recipe's key of a KEY=VALUE override."""
    return override.partition("=")[0].strip().removeprefix("+").removeprefix("train.")


def refuse_unknown(
    document: YamlMapping, at: Keys, known: Collection[str], where: str, what: str = "a training recipe"
) -> None:
    """Raise InputError for a key of the section `at` that is not in `known`, with the nearest one and its place."""
    section: Any = document
    for key in at:
        section = section.get(key)
    for key in section or ():
        if key not in known:
            raise InputError(document.placed(f"{where}: {unknown_key(key, known, what)}", *at, key))


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    return None if value is None else str(value)


def _background(source: _RecipeSource) -> tuple[str, ...]:
    value = source.top.get("background")
    if value is None:
        return ()
    folders = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) and one.strip() for one in folders):
        raise source.error(
            f"background={value!r} is not usable: give a folder of pictures without any animal, or a list of folders",
            "background",
        )
    return tuple(folders)


def _own_keys(source: _RecipeSource) -> _OwnKeys:
    values = {key: source.top.get(key) for key in _OwnKeys.model_fields}
    # A key without a value has its default.
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return _OwnKeys.model_validate({**given, "precision": source.precision})
    except ValidationError as error:
        first = error.errors()[0]
        keys = [str(part) for part in first["loc"]]
        reason = first["msg"][:1].lower() + first["msg"][1:]
        problem = f"{'.'.join(keys)}={first['input']!r} is not usable: {reason}"
        raise source.error(problem, *keys) from error


def _check_image_size(source: _RecipeSource) -> None:
    size = source.train.get("imgsz", 640)
    if isinstance(size, bool) or not isinstance(size, int) or size < 32 or size % 32:
        raise source.error(f"imgsz={size!r} is not usable: give a multiple of 32, such as 640", "train", "imgsz")
