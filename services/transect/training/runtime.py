"""Ultralytics as we run it: offline, private, quiet, and loading no pickle that could run code."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Its own integrations would log beside ours, and only when they feel like it.
_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "sync", "vscode_msg")


def prepare_ultralytics(home: Path) -> None:
    """Set Ultralytics up before its first import; harmless when it is imported already.

    Its settings and caches go under `home`. It asks nothing of the network (pretrained weights are
    fetched by `transect.training.weights`), installs nothing, reports nothing, and refuses
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
    from ultralytics.nn import tasks
    from ultralytics.utils import SETTINGS, patches

    # The variable is read at import, which may have happened before we came.
    vars(tasks)["SAFE_LOAD"] = True
    # Its own Image.open answers a file that is no image with an attempt to install a package.
    Image.open = vars(patches)["_image_open"]
    wanted: dict[str, bool | str] = dict.fromkeys(_INTEGRATIONS, False)
    # Outside a checkout of its own it takes the working directory, which may be read-only.
    wanted["weights_dir"] = str((home / "ultralytics" / "weights").absolute())
    if any(SETTINGS[name] != value for name, value in wanted.items()):
        SETTINGS.update(wanted)


@contextmanager
def logged_to(file: Path) -> Iterator[None]:
    """Send what Ultralytics says to `file` instead of the terminal."""
    from ultralytics.utils import LOGGER

    handlers, level, propagate = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate
    target = logging.FileHandler(file, encoding="utf-8")
    target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOGGER.handlers[:] = [target]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    try:
        yield
    finally:
        LOGGER.handlers[:] = handlers
        LOGGER.setLevel(level)
        LOGGER.propagate = propagate
        target.close()
