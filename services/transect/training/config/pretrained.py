"""Starting weights: Ultralytics' pretrained ones, our starter, a file, or none."""

import inspect
import logging
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transect.errors import InputError
from transect.files import atomic_path, sha256_file
from transect.training.config.architecture import Architecture
from transect.training.config.safe_load import load_checkpoint

logger = logging.getLogger(__name__)

STARTER_ARCHITECTURE = "yolo11n"
STARTER = Path(__file__).parents[1] / "starter" / "yolo11n-starter.pt"
# SHA-256 of the checkpoints of Ultralytics' assets, as several independent sources state them (November 2026).
# YOLOv8 was published twice, with and without its later metadata. Only files listed here are fetched.
PUBLISHED_SHA256: Mapping[str, frozenset[str]] = {
    "yolo11n.pt": frozenset({"0ebbc80d4a7680d14987a577cd21342b65ecfd94632bd9a8da63ae6417644ee1"}),
    "yolo11s.pt": frozenset({"85a76fe86dd8afe384648546b56a7a78580c7cb7b404fc595f97969322d502d5"}),
    "yolo11m.pt": frozenset({"d5ffc1a674953a08e11a8d21e022781b1b23a19b730afc309290bd9fb5305b95"}),
    "yolo11l.pt": frozenset({"9ebd0e09d59811db4b1d61e2bc6730649608b1ac47f8dd01e2da6bca7c20023f"}),
    "yolo11x.pt": frozenset({"7bc158aa95c0ebfdd87f70f01653c1131b93e92522dbe15c228bcd742e773a24"}),
    "yolo26n.pt": frozenset({"9b09cc8bf347f0fc8a5f7657480587f25db09b34bf33b0652110fb03a8ad4fef"}),
    "yolo26s.pt": frozenset({"646f8bc3fe0a656803d95c294f7852321748cb29d13466a1af8862e2db384a1b"}),
    "yolo26m.pt": frozenset({"401cea9ab23ad19246ff7744859816bc599f350e93c9dd30367b6f0a0745d0b7"}),
    "yolo26l.pt": frozenset({"9fe3c544f2b19bebad7ea41e76d7ad3d88b7c2f10d11d24430c5311f6b32db26"}),
    "yolo26x.pt": frozenset({"9fdd44a31c504547ffb81d2c6d9e6dac3493c8eaa8b0398d3f43bae6c7003e92"}),
    "yolov8n.pt": frozenset(
        {
            "f59b3d833e2ff32e194b5bb8e08d211dc7c5bdf144b90d2c8412c47ccfc83b36",
            "31e20dde3def09e2cf938c7be6fe23d9150bbbe503982af13345706515f2ef95",
        }
    ),
    "yolov8s.pt": frozenset(
        {
            "1f47a78bf100391c2a140b7ac73a1caae18c32779be7d310658112f7ac9aa78a",
            "268e5bb54c640c96c3510224833bc2eeacab4135c6deb41502156e39986b562d",
        }
    ),
    "yolov8m.pt": frozenset(
        {
            "5d4a90cdc7a21786cc59cd19778e9eafff836df9e2da32524737c7ee6efe4fe5",
            "6c25b0b63b1a433843f06d821a9ac1deb8d5805f74f0f38772c7308c5adc55a5",
        }
    ),
}
_ANSWER_WITHIN_S = 4.0
_STALLED_AFTER_S = 20.0


@dataclass(frozen=True)
class StartingWeights:
    """`path` is None for random weights; `sentence` states the choice and its reason."""

    path: Path | None
    kind: str
    sentence: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the file; "none" where there is no file."""
        return "none" if self.path is None else sha256_file(self.path)


def choose_weights(architecture: Architecture, pretrained: str, home: Path) -> StartingWeights:
    """Choose by TRANSECT_PRETRAINED: auto, starter, none, or a path.

    auto takes Ultralytics' pretrained weights (cached under `home`/weights; fetched once when the
    release page responds within seconds; checked against PUBLISHED_SHA256 each time), else the starter
    where it fits, else none. With auto, a .pt given as the model starts from its own weights.

    Raises InputError when explicitly requested weights do not exist or do not fit.
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
    return _automatic_weights(name, home / "weights")


def _automatic_weights(name: str, folder: Path) -> StartingWeights:
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
    if published[0] not in PUBLISHED_SHA256:
        raise InputError(
            f"Transect has no hash of {published[0]}; fetch it yourself and name it with TRANSECT_PRETRAINED=PATH"
        )
    target = folder / published[0]
    if target.is_file():
        _check_hash(target, target.name)
    else:
        release = inspect.signature(downloads.attempt_download_asset).parameters["release"].default
        _download(
            f"https://github.com/{downloads.GITHUB_ASSETS_REPO}/releases/download/{release}/{target.name}", target
        )
    return target


def _download(url: str, target: Path) -> None:
    """Fetch `url` to `target` atomically. Raises OSError, or InputError for a file that is no checkpoint."""
    with _open_within(url, _ANSWER_WITHIN_S) as response, atomic_path(target) as temporary:
        logger.info("Downloading %s", url)
        with temporary.open("wb") as stream:
            shutil.copyfileobj(response, stream)
        expected = response.headers.get("Content-Length")
        if expected is not None and int(expected) != temporary.stat().st_size:
            raise OSError("the download broke off")
        # Before anything parses it.
        _check_hash(temporary, target.name)
        load_checkpoint(temporary)


def _check_hash(path: Path, name: str) -> None:
    """Raise InputError for a file other than the published one of this name."""
    found = sha256_file(path)
    if found not in PUBLISHED_SHA256[name]:
        raise InputError(f"{path} is not the published {name}: its SHA-256 is {found}; delete it to fetch it again")


def _open_within(url: str, seconds: float) -> Any:
    """Open `url`, or raise OSError after `seconds`: name resolution alone can hang for a minute."""
    result: list[Any] = []
    given_up = threading.Event()

    def fetch() -> None:
        try:
            response = urllib.request.urlopen(url, timeout=_STALLED_AFTER_S)  # noqa: S310 - https, from a constant
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            result.append(error)
        else:
            result.append(response)
            if given_up.is_set():
                response.close()

    thread = threading.Thread(target=fetch, name="pretrained-weights", daemon=True)
    thread.start()
    thread.join(seconds)
    if not result:
        given_up.set()
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    if isinstance(result[0], OSError):
        raise result[0]
    return result[0]


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return (cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)).rstrip(".")
