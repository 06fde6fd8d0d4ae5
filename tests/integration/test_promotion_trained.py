"""The gate with models that were really trained: what one of them learned, its training labels decided."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transect.errors import PromotionRefusedError
from transect.registry import GateConfig, LossLimits, Registry, connect, promote, rollback
from transect.settings import Settings, load_settings
from transect.training import TrainRequest, train

_SPECIES = {"pale": (240, 240, 240), "dark": (10, 10, 10), "red": (220, 30, 30)}
_SIDE = 96
_RECIPE = (
    "train: {epochs: 6, imgsz: 96, batch: 8, optimizer: AdamW, lr0: 0.002, mosaic: 0.0, workers: 0, plots: false}\n"
    "precision: {int8: false, bf16: false}\n"
)
# Trainings of some seconds on 48 pictures differ by much; what a species loses that was never labelled is far more.
_GATE = GateConfig(
    max_latency_ratio=None, max_class_loss=LossLimits(map50_95=0.25, recall=0.4, count_error=None), min_gain=0.02
)


def _dataset(root: Path, hidden: Collection[str] = ()) -> Path:
    """Rectangles of three species, the same for every `root`; those that are `hidden` have no label in training."""
    random = np.random.default_rng(0)
    for split, count in (("train", 48), ("val", 12), ("test", 16)):
        for number in range(count):
            pixels = random.integers(90, 130, (_SIDE, _SIDE, 3), dtype=np.uint8)
            rows = []
            for species, (name, colour) in enumerate(_SPECIES.items()):
                width, height = random.integers(_SIDE // 6, _SIDE // 3, 2)
                x, y = random.integers(0, _SIDE - width), random.integers(0, _SIDE - height)
                pixels[y : y + height, x : x + width] = colour
                box = (x + width / 2, y + height / 2, width, height)
                if split != "train" or name not in hidden:
                    rows.append(f"{species} " + " ".join(f"{value / _SIDE:.6f}" for value in box))
            image, label = root / "images" / split / f"{number}.png", root / "labels" / split / f"{number}.txt"
            for path in (image, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(image)
            label.write_text("\n".join(rows))
    data = root / "data.yaml"
    data.write_text(f"train: images/train\nval: images/val\ntest: images/test\nnames: [{', '.join(_SPECIES)}]\n")
    return data


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    environment = {
        "TRANSECT_HOME": str(tmp_path / "home"),
        "TRANSECT_PRETRAINED": "starter",
        "TRANSECT_THREADS": "1",
    }
    return load_settings(environment, env_file=None)


def _train(settings: Settings, folder: Path, *overrides: str, hidden: Collection[str] = ()) -> str:
    """Train on labels without those of the `hidden` species; the new version."""
    recipe = folder / "tiny.yaml"
    data = _dataset(folder, hidden)
    recipe.write_text(_RECIPE)
    return train(TrainRequest("yolo11n", recipe, data, overrides), settings).version


def _register_again(registry: Registry, version: str) -> str:
    """Another version with the very same files."""
    resolved = registry.resolve(version)
    run = registry.client.create_run(registry.experiment("again"))
    return registry.register(registry.fetch(resolved), run.info.run_id, tags=resolved.tags).version


def _refusal(registry: Registry) -> str:
    with pytest.raises(PromotionRefusedError) as caught:
        promote(registry, gate=_GATE, actor="ada")
    return str(caught.value)


@pytest.mark.rotating
def test_only_what_is_better_and_costs_no_species_is_served(settings: Settings, tmp_path: Path) -> None:
    one_species = _train(settings, tmp_path / "one", hidden=("pale", "dark"))
    registry = connect(settings)
    assert promote(registry, gate=_GATE, actor="ada").promoted

    _train(settings, tmp_path / "two", hidden=("red",))
    said = _refusal(registry)
    assert "red loses" in said
    # It is better overall, and in each of the others.
    for other in ("gain", "pale", "dark"):
        assert other not in said

    whole = _train(settings, tmp_path / "three", "epochs=12")
    verdict = promote(registry, gate=_GATE, actor="ada")
    assert (verdict.version, verdict.was) == (whole, one_species)

    _register_again(registry, one_species)
    said = _refusal(registry)
    assert "its mAP50-95 is" in said
    assert "pale loses" in said
    assert "dark loses" in said

    _register_again(registry, whole)
    assert "a gain of 0.000, and at least 0.02 is needed" in _refusal(registry)

    assert registry.resolve("production").version == whole
    assert rollback(registry, actor="ada").version == one_species
