"""The data loaders' use of /dev/shm, against real loaders and the Compose files' limits."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_dataloader

from tiny_datasets import write_spots_dataset
from transect.datasets import Dataset, Split, load_dataset
from transect.errors import InputError
from transect.training.config.recipe import load_recipe
from transect.training.trainer import shared_memory
from transect.training.trainer.dataset import ValidatedDatasetTrainer
from transect.training.trainer.shared_memory import (
    Loader,
    built_loaders,
    check_loaders,
    check_shared_memory,
    plan_loaders,
    val_rectangle,
)
from transect.training.trainer.trainer import TrainingCallbacks, run_training

ROOT = Path(__file__).parents[3]
_CORES = 64
_UNITS = {"m": 2**20, "g": 2**30}


def _split(images: int, size: tuple[int, int]) -> Split:
    path = Path("picture.png")
    return Split((path,) * images, (path,) * images, (np.zeros((0, 5)),) * images, (size,) * images)


def _set(train_images: int, val_images: int) -> Dataset:
    train, val = (_split(images, (640, 640)) for images in (train_images, val_images))
    return Dataset(Path("data.yaml"), ("sheep",), {"train": train, "val": val, "test": val}, test_is_val=True)


def _large() -> Dataset:
    """So large that every worker has batches to make."""
    return _set(10_000, 10_000)


def _wildlife(**overrides: Any) -> dict[str, Any]:
    recipe = load_recipe(ROOT / "configs" / "train" / "wildlife.yaml", ())
    return {**recipe.train, "model": "yolo11n.yaml", "device": "0", **overrides}


def _needed(dataset: Dataset, gpus: int = 1, cores: int = _CORES, **overrides: Any) -> int:
    return sum(loader.max_bytes for loader in plan_loaders(dataset, _wildlife(**overrides), gpus, cores))


def _trainer(file: str) -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["services"]["trainer"]
    return service


def _shm_size(file: str) -> int:
    text = str(_trainer(file)["shm_size"])
    return int(text[:-1]) * _UNITS[text[-1]]


@pytest.mark.parametrize(
    ("overrides", "needed_gb", "fits_without_gpus"),
    [
        ({}, 2.02, True),
        ({"imgsz": 1024}, 5.04, False),
        ({"batch": 64}, 8.07, False),
        ({"imgsz": 1024, "batch": 64}, 20.14, False),
        ({"workers": 0, "batch": 64}, 0, True),
    ],
)
def test_what_the_compose_files_give_is_enough(
    overrides: dict[str, Any], needed_gb: float, fits_without_gpus: bool
) -> None:
    needed = _needed(_large(), **overrides)
    assert needed / 1e9 == pytest.approx(needed_gb, abs=0.01)
    assert (needed <= _shm_size("compose.yaml")) is fits_without_gpus
    assert needed <= _shm_size("compose.gpu.yaml")


def test_the_trainer_with_gpus_may_lock_memory_and_has_the_stack_of_nvidias_container() -> None:
    assert _trainer("compose.gpu.yaml")["ulimits"] == {"memlock": -1, "stack": 64 * 2**20}


def test_the_documentation_has_these_figures() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for side in (640, 1024):
        for batch in (16, 64):
            needed = _needed(_large(), imgsz=side, batch=batch)
            assert f"| {side} | {batch} | {needed / 1e9:.1f} GB |" in text


def test_cores_gpus_and_small_sets_make_fewer_workers() -> None:
    train, val = plan_loaders(_large(), _wildlife(), gpus=2, cores=12)
    assert (train.workers, val.workers) == (6, 6)
    train, val = plan_loaders(_set(40, 20), _wildlife(), gpus=1, cores=_CORES)
    assert (train.workers, train.batch) == (3, 16)
    # A single batch is loaded without workers.
    assert (val.workers, val.batch, val.max_bytes) == (0, 20, 0)


def test_each_gpu_has_loaders_for_its_share() -> None:
    one, two = (plan_loaders(_large(), {**_wildlife(batch=32), "device": device}, 2, 12) for device in ("0", "0,1"))
    assert [loader.batch for loader in one] == [32, 64]
    assert [loader.batch for loader in two] == [16, 32] * 2
    assert [loader.workers for loader in two] == [loader.workers for loader in one] * 2


def test_rectangles_of_a_validation() -> None:
    assert val_rectangle([(640, 640)], 640, 32) == (672, 672)
    assert val_rectangle([(6000, 4000), (6000, 3000)], 640, 32) == (448, 672)
    assert val_rectangle([(3000, 4000)], 640, 32) == (672, 512)
    assert val_rectangle([(3000, 4000), (4000, 3000)], 640, 32) == (672, 672)


@pytest.mark.parametrize("overrides", [{"batch": -1}, {"batch": 0.8}, {"fraction": 0.1}])
def test_what_only_the_trainer_knows_is_left_to_it(overrides: dict[str, Any]) -> None:
    assert plan_loaders(_large(), _wildlife(**overrides), 1, _CORES) == ()


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the free bytes of /dev/shm."""

    def give(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(total=2 * free, used=free, free=free))

    return give


def test_too_little_is_one_sentence_with_both_figures(
    room: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: _CORES)
    room(2 * 2**30)
    check_shared_memory(_large(), _wildlife())
    with pytest.raises(InputError, match=r"may need 8\.07 GB .*/dev/shm has 2\.15 GB free; .*shm_size.*workers=2"):
        check_shared_memory(_large(), _wildlife(batch=64))
    # Loaders of a CPU have no workers, whatever the recipe says.
    check_shared_memory(_large(), _wildlife(batch=64, device="cpu"))


def test_exactly_enough_is_enough(room: Callable[[int], None]) -> None:
    loader = Loader(workers=2, prefetch=4, batch=4, height=64, width=64)
    room(loader.max_bytes)
    check_loaders([loader])
    room(loader.max_bytes - 1)
    with pytest.raises(InputError):
        check_loaders([loader])


def test_a_system_without_this_place_has_no_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_memory, "SHM", tmp_path / "shm")
    check_loaders([Loader(workers=1000, prefetch=1000, batch=1000, height=1000, width=1000)])


# Real loaders ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(write_spots_dataset(tmp_path_factory.mktemp("spots"), images=12, size=96))


@contextmanager
def _loader(spots: Dataset, mode: str, batch: int, workers: int) -> Iterator[Any]:
    """A loader as the trainer makes it, with workers although there is no GPU."""
    stub: Any = SimpleNamespace(
        dataset=spots, data={"names": {0: "pale", 1: "dark"}, "nc": 2, "channels": 3},
        args=get_cfg(overrides={"imgsz": 96}), model=SimpleNamespace(stride=torch.tensor([32.0])),
    )  # fmt: skip
    dataset = ValidatedDatasetTrainer.build_dataset(stub, mode, mode, batch)
    loader = build_dataloader(dataset, batch, workers, shuffle=mode == "train", device="cpu")
    try:
        yield loader
    finally:
        loader.close()


def _taken(loader: Any) -> int:
    """Bytes of the shared memory that a loader's workers hold: files without a name that only /proc still shows."""
    files: dict[int, int] = {}
    for worker in loader.iterator._workers:
        for entry in Path(f"/proc/{worker.pid}/fd").iterdir():
            # A worker may close a file between the listing and the look at it.
            with suppress(FileNotFoundError):
                if entry.readlink().name.startswith("torch_"):
                    state = entry.stat()
                    files[state.st_ino] = state.st_size
    return sum(-(-size // 4096) * 4096 for size in files.values())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux' /proc")
# Python 3.12 warns where a process with threads forks, as PyTorch does.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("mode", ["train", "val"])
def test_real_loaders_take_what_is_computed(spots: Dataset, mode: str) -> None:
    with _loader(spots, mode, batch=4, workers=2) as loader:
        (found,) = built_loaders(loader)
        side, prefetch = (96, 4) if mode == "train" else (128, 2)
        assert found == Loader(workers=2, prefetch=prefetch, batch=4, height=side, width=side)
        # The workers prefetch, and no batch is consumed.
        loader.iterator = loader._get_iterator()
        until = time.monotonic() + 60
        while _taken(loader) < found.max_bytes and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.3)
        assert _taken(loader) == found.max_bytes


def test_the_trainer_looks_before_it_starts(
    spots: Dataset, room: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built: list[Loader] = []

    def with_workers(*loaders: Any) -> tuple[Loader, ...]:
        # On a CPU there are none.
        built.extend(built_loaders(*loaders))
        return tuple(Loader(2, 4, loader.batch, loader.height, loader.width) for loader in built)

    monkeypatch.setattr("transect.training.trainer.trainer.built_loaders", with_workers)
    room(4096)
    silent = TrainingCallbacks(
        started=lambda _: pytest.fail("it started"), epoch=lambda *_: None, reduced=lambda *_: None
    )
    arguments = {
        "model": "yolo11n.yaml", "pretrained": False, "epochs": 1, "imgsz": 96, "batch": 4, "device": "cpu",
        "plots": False,
    }  # fmt: skip
    with pytest.raises(InputError, match="shared memory"):
        run_training(spots, arguments, tmp_path / "run", silent)
    assert [(loader.batch, loader.height, loader.width, loader.workers) for loader in built] == [
        (4, 96, 96, 0),
        (8, 128, 128, 0),
    ]
