"""The training machine: its description as tags, and its load as metrics."""

import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from transect.errors import TransectError

logger = logging.getLogger(__name__)

# MLflow's own interval; its pages show what starts with this prefix under "System metrics".
INTERVAL_S = 10.0
_PREFIX = "system/"
_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))

MetricSink = Callable[[Mapping[str, float], int], None]


def machine_tags() -> dict[str, str]:
    """CPU, cores, memory, GPUs, system and container image as tags of a run.

    A process cannot query the image that it runs in: a container needs CONTAINER_IMAGE in its environment.
    """
    return {
        "transect.cpu": _cpu_name(),
        "transect.cpu_cores": str(os.cpu_count() or 0),
        "transect.memory_gb": f"{psutil.virtual_memory().total / 1e9:.1f}",
        "transect.gpu": ", ".join(_gpu_names()) or "none",
        "transect.os": platform.platform(),
        "transect.container_image": _container_image(),
    }


@contextmanager
def watch_system(sink: MetricSink, interval: float = INTERVAL_S) -> Iterator[None]:
    """Sample the load of CPU, memory, disk, network and GPUs into `sink`, under MLflow's names, while the block runs.

    `sink` gets the values and a step: seconds since 1970, so that the steps of a resumed run follow the
    earlier ones. There is a sample at the beginning, one every `interval` seconds, and one at the end.
    """
    monitors = _monitors()
    done = threading.Event()

    def work() -> None:
        while True:
            ended = done.wait(interval)
            try:
                _sample(monitors, sink)
            except TransectError:
                # The training raises the same error at its next call to the log.
                return
            if ended:
                return

    _sample(monitors, sink)
    thread = threading.Thread(target=work, name="system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _sample(monitors: list[BaseMetricsMonitor], sink: MetricSink) -> None:
    values: dict[str, float] = {}
    for monitor in monitors:
        # A driver reload or a missing disk must not end a training.
        with suppress(psutil.Error, OSError, RuntimeError):
            monitor.collect_metrics()
            values |= {f"{_PREFIX}{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
    sink(values, int(time.time()))


def _monitors() -> list[BaseMetricsMonitor]:
    found: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        found.append(GPUMonitor())
    except Exception as error:  # noqa: BLE001 - NVML's errors share no class with others, and GPUs are optional
        logger.debug("No GPU is watched: %s", error)
    else:
        # It would warn in the terminal, at each sample, of values that a GPU does not measure (MIG, vGPU, WSL2).
        logging.getLogger(GPUMonitor.__module__).setLevel(logging.ERROR)
    return found


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu_names() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _container_image() -> str:
    if named := os.environ.get("CONTAINER_IMAGE"):
        return named
    return "unknown" if any(mark.exists() for mark in _CONTAINER_MARKS) else "none"
