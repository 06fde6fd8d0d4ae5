"""Ultralytics as we run it: offline, private, quiet, and loading no pickle that could run code."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Its own integrations would log beside ours, and only when they feel like it.
_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "sync", "vscode_msg")


def prepare_ultralytics(home: Path) -> None:
    """Set Ultralytics up before its first import; harmless when it is imported already.

    Its settings and caches go under `home`. It asks nothing of the network (pretrained weights are
    fetched by `transect.training.config.pretrained`), installs nothing, reports nothing, and refuses
    checkpoints that hold anything but known model classes.
    """
    os.environ.update(
        {
            "YOLO_CONFIG_DIR": str((home / "ultralytics").absolute()),
            "YOLO_AUTOINSTALL": "false",
            "YOLO_OFFLINE": "true",
            "YOLO_VERBOSE": "false",
            "ULTRALYTICS_SAFE_LOAD": "true",
        }
    )
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.setdefault("MPLCONFIGDIR", str((home / "matplotlib").absolute()))
    # It says in the terminal that it has made its cache of fonts.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)
    from PIL import Image
    from ultralytics.data import utils as data_utils
    from ultralytics.engine import trainer as git_of_trainer
    from ultralytics.nn import tasks
    from ultralytics.utils import SETTINGS, patches, plotting

    # The variable is read at import, which may have happened before we came.
    vars(tasks)["SAFE_LOAD"] = True
    # Its own Image.open answers a file that is no image with an attempt to install a package.
    Image.open = vars(patches)["_image_open"]
    # Its own asks github.com for Arial before the first picture is drawn, offline or not.
    vars(plotting)["check_font"] = vars(data_utils)["check_font"] = _font
    # Each checkpoint would hold the address of the repository's remote, with the password or token in it.
    vars(git_of_trainer)["GIT"] = SimpleNamespace(root=None, branch=None, commit=None, message=None, origin=None)
    wanted: dict[str, bool | str] = dict.fromkeys(_INTEGRATIONS, False)
    # Outside a checkout of its own it takes the working directory, which may be read-only.
    wanted["weights_dir"] = str((home / "ultralytics" / "weights").absolute())
    if any(SETTINGS[name] != value for name, value in wanted.items()):
        SETTINGS.update(wanted)


def _font(*_: object) -> str:
    """The font of Ultralytics' pictures, whichever it asks for: the one that matplotlib brings."""
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


@contextmanager
def logged_to(file: Path) -> Iterator[None]:
    """Send to `file` instead of the terminal what Ultralytics says, and what PyTorch warns of for its sake."""
    from ultralytics.utils import LOGGER

    handlers, level, propagate = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate
    target = logging.FileHandler(file, encoding="utf-8")
    target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOGGER.handlers[:] = [target]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        with _nondeterminism_told_to(LOGGER):
            yield
    finally:
        LOGGER.handlers[:] = handlers
        LOGGER.setLevel(level)
        LOGGER.propagate = propagate
        target.close()


@contextmanager
def _nondeterminism_told_to(log: logging.Logger) -> Iterator[None]:
    """Send to `log`, each once, PyTorch's warnings of operations that a GPU computes in no fixed order.

    Ultralytics lets PyTorch warn of them (`deterministic`) and changes the filters for warnings in every epoch, so that
    Python would show each of them once an epoch, in the middle of the bar.
    """
    show, told = warnings.showwarning, set[str]()

    def showwarning(message: Warning | str, *where: Any, **options: Any) -> None:
        # The name of the function stands in all of them.
        if "use_deterministic_algorithms" not in (text := str(message)):
            show(message, *where, **options)
        elif text not in told:
            told.add(text)
            log.warning("%s", text)

    warnings.showwarning = showwarning
    try:
        yield
    finally:
        warnings.showwarning = show
