import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from transect.tracking import system_metrics
from transect.tracking.system_metrics import machine_tags, watch_system


def test_the_machine_is_described() -> None:
    tags = machine_tags()
    assert set(tags) == {
        f"transect.{name}" for name in ("cpu", "cpu_cores", "memory_gb", "gpu", "os", "container_image")
    }
    assert all(tags.values())
    assert int(tags["transect.cpu_cores"]) > 0


def test_a_container_is_told_its_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(system_metrics, "_CONTAINER_MARKS", (tmp_path / "mark",))
    assert machine_tags()["transect.container_image"] == "none"
    (tmp_path / "mark").touch()
    assert machine_tags()["transect.container_image"] == "unknown"
    monkeypatch.setenv("CONTAINER_IMAGE", "trainer@sha256:12")
    assert machine_tags()["transect.container_image"] == "trainer@sha256:12"


def test_the_load_is_told_at_both_ends_and_between() -> None:
    samples: list[tuple[Mapping[str, float], int]] = []
    enough = threading.Event()

    def sink(values: Mapping[str, float], step: int) -> None:
        samples.append((values, step))
        if len(samples) >= 4:
            enough.set()

    with watch_system(sink, interval=0.01):
        assert enough.wait(30)
    count = len(samples)
    wanted = {
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_megabytes",
        "system/disk_usage_percentage",
        "system/network_receive_megabytes",
    }
    assert all(wanted <= set(values) for values, _ in samples)
    assert [step for _, step in samples] == sorted(step for _, step in samples)
    assert count >= 5
    assert not [thread for thread in threading.enumerate() if thread.name == "system-metrics"]


def test_a_gpu_that_cannot_be_watched_stops_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    class NvmlError(Exception):
        """NVML's errors are plain exceptions."""

    def fail() -> None:
        raise NvmlError("GPU is lost")

    monkeypatch.setattr(system_metrics, "GPUMonitor", fail)
    samples: list[set[str]] = []
    with watch_system(lambda values, _: samples.append(set(values))):
        pass
    assert len(samples) == 2
    assert not any("gpu" in name for name in samples[0])
