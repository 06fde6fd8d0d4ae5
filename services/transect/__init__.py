"""Transect: train wildlife detectors, track every run, serve the best one, count animals."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transect.engine import Detector

__all__ = ["__version__", "open_model"]

__version__ = "0.1.0"

# Libraries that report their use to their makers. MLflow and ONNX Runtime look at these when they are imported, and one
# import gives whoever runs it an identity, in a file of the home directory: so before any module of ours imports them.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def open_model(reference: str = "") -> "Detector":
    """Open a registered model version: find it in MLflow, fetch it, verify every file, and only then load it.

    `reference` is `models:/detector@production`, `models:/detector/3`, or what else `transect models show` takes;
    empty means the alias TRANSECT_MODEL_ALIAS of TRANSECT_MODEL_NAME. Which MLflow, backend and precision, the
    environment says. Nothing that is fetched is run as a program: MLmodel, which tells MLflow's own client what code to
    import, is compared with its hash and not read. The caller closes the detector (`with` does).

    Raises SettingsError, RegistryError when the version cannot be had, PackageError when its files are not
    what was registered, and InputError for a backend or a precision that cannot be had here.
    """
    # Here, so that `import transect` stays light: MLflow's client takes seconds.
    from transect.registry import connect
    from transect.settings import load_settings

    settings = load_settings()
    registry = connect(settings)
    return registry.open(registry.resolve(reference or f"models:/{settings.model_name}@{settings.model_alias}"))
