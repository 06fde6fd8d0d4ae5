"""What Transect overrides, replaces and reads inside Ultralytics is there, with these signatures.

None of it is promised to anyone: an upgrade that moves a hook would end as a training that cannot be resumed, hours
later. This ends it in seconds. Names are looked up in the source, because preparing Ultralytics sets some of them.
"""

import ast
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from ultralytics.data import base as dataset_base
from ultralytics.data import utils as data_utils
from ultralytics.engine import trainer as engine_trainer
from ultralytics.nn import tasks
from ultralytics.utils import downloads, patches, plotting

from transect.training.trainer import dataset as ours
from transect.training.trainer.resumable import ResumableTrainer

_OVERRIDDEN: dict[type, dict[str, str]] = {
    ours.ValidatedDataset: {
        "__init__": "self, *args, data, task='detect', **kwargs",
        "get_img_files": "self, img_path",
        "load_image": "self, i, rect_mode=True, resize_short=False",
        "get_labels": "self",
    },
    ours.ThresholdedConfusionMatrix: {"process_batch": "self, detections, batch, conf=0.25, iou_thres=0.45"},
    ours._DatasetValidator: {"init_metrics": "self, model"},
    ours.ValidatedDatasetTrainer: {
        "get_dataset": "self",
        "build_dataset": "self, img_path, mode='train', batch=None",
        "get_validator": "self",
    },
    ResumableTrainer: {
        "check_resume": "self, overrides",
        "resume_training": "self, ckpt",
        "_load_checkpoint_state": "self, ckpt",
        "_do_train": "self",
        "final_eval": "self",
        "save_model": "self",
        "_build_train_pipeline": "self",
        "optimizer_step": "self",
    },
}
_CALLED = {
    (engine_trainer.BaseTrainer, "add_callback"): "self, event, callback",
    (engine_trainer.BaseTrainer, "plot_metrics"): "self",
    (tasks.DetectionModel, "_predict_once"): "self, x, profile=False, embed=None",
}
_REPLACED = [
    (engine_trainer, "check_amp"),
    (engine_trainer, "GIT"),
    (tasks, "SAFE_LOAD"),
    (plotting, "check_font"),
    (data_utils, "check_font"),
]
_EVENTS = [
    "on_pretrain_routine_end",
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_train_epoch_end",
]
_TRAINER_STATE = [
    *("args", "save_dir", "wdir", "last", "best", "csv", "device"),
    *("model", "ema", "optimizer", "train_loader", "test_loader", "accumulate", "batch_size"),
    *("epoch", "epochs", "start_epoch", "tloss", "lr", "metrics", "resume"),
]
_DATASET_STATE = [
    *("im_files", "ims", "im_hw0", "im_hw", "imgsz", "augment", "cache"),
    *("buffer", "max_buffer_length", "fraction", "batch_shapes", "rect"),
]
_CHECKPOINT = ["epoch", "best_fitness", "optimizer", "train_metrics", "train_args", "ema"]


def _theirs(kind: type) -> type:
    """The nearest class of Ultralytics above `kind`."""
    return next(one for one in kind.__mro__ if one.__module__.startswith("ultralytics."))


def _signature(function: Callable[..., Any]) -> str:
    """Names, kinds and defaults of the parameters."""
    parameters = inspect.signature(function).parameters.values()
    return ", ".join(str(one.replace(annotation=inspect.Parameter.empty)) for one in parameters)


def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def _of_self(module: ModuleType) -> set[str]:
    """The attributes that methods of a module set on `self`."""
    return {
        node.attr
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [(kind, name, wanted) for kind, methods in _OVERRIDDEN.items() for name, wanted in methods.items()],
)
def test_an_overridden_method_is_there(kind: type, name: str, wanted: str) -> None:
    assert _signature(getattr(_theirs(kind), name)) == wanted


@pytest.mark.parametrize("kind", _OVERRIDDEN)
def test_every_overridden_method_stands_in_the_table(kind: type) -> None:
    """A method that Ultralytics adds under a name of ours is found too."""
    theirs = _theirs(kind)
    shared = {name for name, value in vars(kind).items() if inspect.isfunction(value) and hasattr(theirs, name)}
    # The trainers' own constructors have other parameters, and pass these on by name.
    assert shared - _OVERRIDDEN[kind].keys() <= {"__init__"}
    assert _OVERRIDDEN[kind].keys() <= shared


def test_the_trainer_is_made_from_overrides() -> None:
    parameters = inspect.signature(_theirs(ours.ValidatedDatasetTrainer)).parameters
    assert list(parameters) == ["cfg", "overrides", "_callbacks"]


@pytest.mark.parametrize(("kind", "name", "wanted"), [(*one, wanted) for one, wanted in _CALLED.items()])
def test_a_method_that_is_called_is_there(kind: type, name: str, wanted: str) -> None:
    assert _signature(getattr(kind, name)) == wanted


@pytest.mark.parametrize(("module", "name"), _REPLACED, ids=str)
def test_a_replaced_name_is_defined_and_read_in_its_module(module: ModuleType, name: str) -> None:
    nodes = list(ast.walk(_tree(module)))
    names = [node for node in nodes if isinstance(node, ast.Name) and node.id == name]
    imported = [one.asname or one.name for node in nodes if isinstance(node, ast.ImportFrom) for one in node.names]
    functions = [node.name for node in nodes if isinstance(node, ast.FunctionDef)]
    assigned = any(isinstance(node.ctx, ast.Store) for node in names)
    assert assigned or name in imported or name in functions
    assert any(isinstance(node.ctx, ast.Load) for node in names)


def test_pillows_own_open_is_kept() -> None:
    assert "_image_open = Image.open" in inspect.getsource(patches)


def test_the_release_of_the_weights_is_a_default() -> None:
    parameters = inspect.signature(downloads.attempt_download_asset).parameters
    assert str(parameters["release"].default).startswith("v8.")
    assert "yolo11n.pt" in downloads.GITHUB_ASSETS_NAMES


@pytest.mark.parametrize("event", _EVENTS)
def test_an_event_is_reported(event: str) -> None:
    assert f'run_callbacks("{event}")' in inspect.getsource(engine_trainer)


@pytest.mark.parametrize("name", _TRAINER_STATE)
def test_a_trainer_has_the_state_that_is_read_and_restored(name: str) -> None:
    assert name in _of_self(engine_trainer)


@pytest.mark.parametrize("name", _DATASET_STATE)
def test_a_data_set_has_the_state_that_is_read_and_restored(name: str) -> None:
    assert name in _of_self(dataset_base)


@pytest.mark.parametrize("path", ["last", "best"])
def test_a_checkpoint_is_written_through_its_path(path: str) -> None:
    """Which is how it becomes atomic."""
    assert f"self.{path}.write_bytes(" in inspect.getsource(engine_trainer.BaseTrainer.save_model)


@pytest.mark.parametrize("key", _CHECKPOINT)
def test_a_checkpoint_has_the_keys_that_are_read(key: str) -> None:
    assert f'"{key}": ' in inspect.getsource(engine_trainer.BaseTrainer.save_model)


def test_gradients_are_stepped_when_as_many_batches_as_accumulate_have_passed() -> None:
    """The first step after a resume relies on this comparison; see ResumableTrainer.accumulate."""
    loop = inspect.getsource(engine_trainer.BaseTrainer._do_train)
    assert "if ni - last_opt_step >= self.accumulate:" in loop
    assert "last_opt_step = -1" in loop
