"""What training starts from: Ultralytics' pretrained weights, our starter, a file, or nothing."""

import inspect
import logging
import shutil
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.errors import InputError
from transect.files import atomic_path, sha256_file
from transect.training.architecture import Architecture
from transect.training.checkpoint import load_checkpoint

logger = logging.getLogger(__name__)

STARTER_ARCHITECTURE = "yolo11n"
STARTER = Path(__file__).parent / "starter" / "yolo11n-starter.pt"
_ANSWER_WITHIN_S = 4.0
_STALLED_AFTER_S = 20.0


@dataclass(frozen=True)
class StartingWeights:
    """`path` is None when training starts from random weights; `sentence` says which and why."""

    path: Path | None
    kind: str
    sentence: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the file; "none" where there is no file."""
        return "none" if self.path is None else sha256_file(self.path)


def choose_weights(architecture: Architecture, pretrained: str, home: Path) -> StartingWeights:
    """Choose by TRANSECT_PRETRAINED: auto, starter, none, or a path.

    auto takes Ultralytics' pretrained weights (kept under `home`/weights; fetched once when the
    release page answers within seconds), else the starter where it fits, else none. A .pt given as
    the model is its own start, unless something else is asked for by name.

    Raises InputError when what was asked for by name does not exist or does not fit.
    """
    name = architecture.name
    if pretrained == "none":
        return StartingWeights(None, "none", f"Training {name} from scratch, as asked.")
    if pretrained == "starter":
        return _starter(name, "as asked")
    if pretrained != "auto":
        path = Path(pretrained)
        load_checkpoint(path)
        return StartingWeights(path.absolute(), "file", f"Training {name} from {path}, as asked.")
    if architecture.checkpoint is not None:
        sentence = f"Training on from the weights in {architecture.checkpoint}."
        return StartingWeights(architecture.checkpoint, "checkpoint", sentence)
    return _best_at_hand(name, home / "weights")


def _best_at_hand(name: str, folder: Path) -> StartingWeights:
    try:
        path = _pretrained(name, folder)
    except (OSError, InputError) as error:
        why = f"Ultralytics' pretrained weights cannot be had here ({_reason(error)})"
        if name == STARTER_ARCHITECTURE and STARTER.is_file():
            return _starter(name, why)
        return StartingWeights(None, "none", f"Training {name} from scratch: {why}.")
    return StartingWeights(path, "ultralytics", f"Training {name} from Ultralytics' pretrained weights ({path}).")


def _starter(name: str, why: str) -> StartingWeights:
    if name != STARTER_ARCHITECTURE:
        raise InputError(
            f"TRANSECT_PRETRAINED=starter fits {STARTER_ARCHITECTURE} alone, not {name}; use auto, none or a path."
        )
    if not STARTER.is_file():
        raise InputError(f"The starter weights {STARTER} are missing; make them with: make starter")
    return StartingWeights(STARTER, "starter", f"Training {name} from Transect's starter weights: {why}.")


def _pretrained(name: str, folder: Path) -> Path:
    """Ultralytics' weights of an architecture, kept in `folder`. Raises OSError or InputError."""
    from ultralytics.utils import downloads

    # YOLOv5 and v3 are published in their anchor-free form, under names that end in u.
    published = [file for file in (f"{name}.pt", f"{name}u.pt") if file in downloads.GITHUB_ASSETS_NAMES]
    if not published:
        raise InputError("none are published")
    target = folder / published[0]
    if not target.is_file():
        release = inspect.signature(downloads.attempt_download_asset).parameters["release"].default
        _download(
            f"https://github.com/{downloads.GITHUB_ASSETS_REPO}/releases/download/{release}/{target.name}", target
        )
    return target


def _download(url: str, target: Path) -> None:
    """Fetch `url` to `target`, whole or not at all. Raises OSError, or InputError for what is no checkpoint."""
    with _open_within(url, _ANSWER_WITHIN_S) as response, atomic_path(target) as temporary:
        logger.info("Downloading %s", url)
        with temporary.open("wb") as stream:
            shutil.copyfileobj(response, stream)
        expected = response.headers.get("Content-Length")
        if expected is not None and int(expected) != temporary.stat().st_size:
            raise OSError("the download broke off")
        load_checkpoint(temporary)


def _open_within(url: str, seconds: float) -> Any:
    """Open `url`, or raise OSError after `seconds`: name resolution alone can hang for a minute."""
    answer: list[Any] = []
    given_up = threading.Event()

    def ask() -> None:
        try:
            response = urllib.request.urlopen(url, timeout=_STALLED_AFTER_S)  # noqa: S310 - https, from a constant
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            answer.append(error)
        else:
            answer.append(response)
            if given_up.is_set():
                response.close()

    thread = threading.Thread(target=ask, name="pretrained-weights", daemon=True)
    thread.start()
    thread.join(seconds)
    if not answer:
        given_up.set()
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    if isinstance(answer[0], OSError):
        raise answer[0]
    return answer[0]


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return (cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)).rstrip(".")
