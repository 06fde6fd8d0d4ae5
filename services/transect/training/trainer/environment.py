"""Ultralytics' environment: offline, private, quiet, and without pickles that could run code."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Its own integrations would log beside ours, depending on what is installed.
_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "sync", "vscode_msg")


def prepare_ultralytics(home: Path) -> None:
    """Set Ultralytics up before its first import; idempotent.

    Its settings and caches go under `home`. It makes no network requests (pretrained weights are
    fetched by `transect.training.config.pretrained`), installs nothing, reports nothing, and refuses
    checkpoints with other than known model classes.
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
    # It logs to the terminal that it has built its font cache.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)
    from PIL import Image
    from ultralytics.data import utils as data_utils
    from ultralytics.engine import trainer as git_of_trainer
    from ultralytics.nn import tasks
    from ultralytics.utils import SETTINGS, patches, plotting

    # The variable is read at import, which may have happened already.
    vars(tasks)["SAFE_LOAD"] = True
    # Ultralytics' Image.open tries to install a package when a file is no image.
    Image.open = vars(patches)["_image_open"]
    # Its own requests Arial from github.com before the first plot, offline or not.
    vars(plotting)["check_font"] = vars(data_utils)["check_font"] = _font
    # Each checkpoint would contain the URL of the repository's remote, with any password or token in it.
    vars(git_of_trainer)["GIT"] = SimpleNamespace(root=None, branch=None, commit=None, message=None, origin=None)
    wanted: dict[str, bool | str] = dict.fromkeys(_INTEGRATIONS, False)
    # Outside its own checkout it uses the working directory, which may be read-only.
    wanted["weights_dir"] = str((home / "ultralytics" / "weights").absolute())
    if any(SETTINGS[name] != value for name, value in wanted.items()):
        SETTINGS.update(wanted)


def _font(*_: object) -> str:
    """The font of all Ultralytics' plots: matplotlib's own."""
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


@contextmanager
def logged_to(file: Path) -> Iterator[None]:
    """Send Ultralytics' log, and PyTorch's warnings about it, to `file` instead of the terminal."""
    from ultralytics.utils import LOGGER

    handlers, level, propagate = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate
    target = logging.FileHandler(file, encoding="utf-8")
    target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOGGER.handlers[:] = [target]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        with _nondeterminism_logged_to(LOGGER):
            yield
    finally:
        LOGGER.handlers[:] = handlers
        LOGGER.setLevel(level)
        LOGGER.propagate = propagate
        target.close()


@contextmanager
def _nondeterminism_logged_to(log: logging.Logger) -> Iterator[None]:
    """Send PyTorch's warnings of nondeterministic GPU operations to `log`, each once.

    Ultralytics enables them (`deterministic`) and resets the warning filters in every epoch, so Python would print each
    of them once an epoch, into the progress bar.
    """
    show, shown = warnings.showwarning, set[str]()

    def showwarning(message: Warning | str, *where: Any, **options: Any) -> None:
        # All of them contain the name of the function.
        if "use_deterministic_algorithms" not in (text := str(message)):
            show(message, *where, **options)
        elif text not in shown:
            shown.add(text)
            log.warning("%s", text)

    warnings.showwarning = showwarning
    try:
        yield
    finally:
        warnings.showwarning = show
