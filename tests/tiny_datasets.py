"""Generate training sets of a few pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

MakeDataset = Callable[..., Path]


def write_image(path: Path, width: int = 40, height: int = 20, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_spots_dataset(root: Path, *, images: int = 6, size: int = 96, seed: int = 0) -> Path:
    """A set with a pale and a dark species, as rectangles on noise; returns its data.yaml."""
    random = np.random.default_rng(seed)
    for split, count in (("train", 2 * images), ("val", images), ("test", images)):
        for number in range(count):
            pixels = random.integers(90, 130, (size, size, 3), dtype=np.uint8)
            rows = []
            for species, shade in enumerate((240, 10)):
                width, height = random.integers(size // 6, size // 3, 2)
                x, y = random.integers(0, size - width), random.integers(0, size - height)
                pixels[y : y + height, x : x + width] = shade
                box = (x + width / 2, y + height / 2, width, height)
                rows.append(f"{species} " + " ".join(f"{value / size:.6f}" for value in box))
            image = root / "images" / split / f"{number}.png"
            label = root / "labels" / split / f"{number}.txt"
            for path in (image, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(image)
            label.write_text("\n".join(rows))
    data = root / "data.yaml"
    data.write_text("train: images/train\nval: images/val\ntest: images/test\nnames: [pale, dark]\n")
    return data
