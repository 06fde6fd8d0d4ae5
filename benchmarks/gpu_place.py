"""Where the steps of the benchmark of a GPU find what they work with, and on what they run."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from benchmarks.gpu_report import Skipped
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transect.engine import Precision
    from transect.engine.backends import Backend

ROOT = Path(__file__).parents[1]
"""A checkout, or the folder that a bundle was unpacked into."""

BUNDLED = ROOT / "bundled"
"""The model and the pictures that a bundle brings; a checkout makes its own."""

TILES = "tiles.npy"
MAX_BATCH = 16


@dataclass(frozen=True)
class Place:
    """`model` is the folder of the model package and of `TILES`; what is made in `scratch` is removed at the end.

    In a rehearsal the same code runs on a CPU.
    """

    model: Path
    scratch: Path
    rehearse: bool

    @property
    def device(self) -> str:
        """torch's name of where it computes."""
        return "cpu" if self.rehearse else "cuda"

    def package(self) -> Path:
        """The folder of the model package. Raises Skipped where there is none."""
        if not (self.model / "model.onnx").is_file():
            raise Skipped("There is no model: the step `model` did not make one.")
        return self.model

    def tiles(self) -> NDArray[np.uint8]:
        """(n, S, S, 3) RGB. Raises Skipped where there are none."""
        if not (self.model / TILES).is_file():
            raise Skipped("There are no pictures: the step `model` did not make them.")
        tiles: NDArray[np.uint8] = np.load(self.model / TILES)
        return tiles

    def need_gpu(self, why: str) -> None:
        """Raise Skipped in a rehearsal."""
        if self.rehearse:
            raise Skipped(f"It needs a GPU: {why}.")


def precisions(place: Place) -> "tuple[Precision, ...]":
    """What the backend computes on this GPU, fp32 first."""
    from transect.engine.backends import native_precisions

    # On a CPU, fp16 is so slow that a rehearsal would run out of time.
    found = {"fp32"} if place.rehearse else native_precisions("cuda")
    ordered: tuple[Precision, ...] = tuple(sorted(found, key=lambda name: (name != "fp32", name)))  # type: ignore[arg-type]
    return ordered


def open_gpu(place: Place, precision: "Precision" = "fp32") -> "Backend":
    """The backend that is measured: CUDA, or in a rehearsal the same code on ONNX Runtime's CPU provider.

    Raises as open_backend does, and Skipped without an ONNX Runtime for CUDA.
    """
    from transect.engine import read_manifest
    from transect.engine.backends import open_backend
    from transect.engine.backends.cuda.session import Gpu, gpu_is_supported

    package = place.package()
    manifest = read_manifest(package)
    model, size = package / manifest.model_file(precision), manifest.image_size
    if place.rehearse:
        providers = [("CPUExecutionProvider", dict[str, object]())]
        return Gpu("cuda", model, size, precision, providers=providers, device="cpu", max_batch=MAX_BATCH, wait_s=0.002)
    if not gpu_is_supported("cuda"):
        raise Skipped("The ONNX Runtime for NVIDIA GPUs (onnxruntime-gpu) is not installed here.")
    return open_backend(model, size, backend="cuda", precision=precision, max_batch=MAX_BATCH)


def package_root() -> Path:
    """The folder of the package `transect`."""
    import transect

    return Path(str(transect.__file__)).parent


def load_alone(path: str) -> ModuleType:
    """A module of `transect` without the package that it is in, such as "training/trainer/device.py".

    The package `transect.training` imports MLflow and more, which a machine with nothing but PyTorch lacks.
    """
    name = "alone_" + path.removesuffix(".py").replace("/", "_")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, package_root() / path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} cannot be loaded", name="transect")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
