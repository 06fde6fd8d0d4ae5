"""Content digest of a training set, independent of file names and location."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transect.datasets.dataset import Dataset, Split, SplitName
from transect.datasets.images import check_whole, first_few
from transect.errors import DatasetError

_READERS = 4


def dataset_digest(dataset: Dataset) -> str:
    """Digest of class names, pictures and labels of all splits: 32 hexadecimal digits.

    File names and locations are not included, so a copied or moved set keeps its digest. MLflow accepts
    at most 36 characters. Raises DatasetError if a picture is truncated.
    """
    return combine_digests(dataset, {name: split_digest(dataset, name) for name in dataset.splits})


def split_digest(dataset: Dataset, name: SplitName) -> str:
    """Digest of one split: 32 hexadecimal digits. Raises DatasetError if a picture is truncated."""
    digest = hashlib.sha256(_names(dataset))
    for line in sorted(_fingerprints(dataset.splits[name])):
        digest.update(line.encode())
    return digest.hexdigest()[:32]


def combine_digests(dataset: Dataset, splits: dict[SplitName, str]) -> str:
    """The digest of the whole set, from those of its splits: 32 hexadecimal digits."""
    digest = hashlib.sha256(_names(dataset))
    for name in ("train", "val", "test"):
        digest.update(f"{name} {splits[name]}\n".encode())
    return digest.hexdigest()[:32]


def _names(dataset: Dataset) -> bytes:
    return "\n".join(dataset.names).encode() + b"\0"


def _fingerprints(split: Split) -> Iterator[str]:
    """One line per image. Raises DatasetError with the number of unusable images and the first few."""
    broken: list[str] = []
    # Reading and hashing release the GIL, so threads keep the disk busy.
    with ThreadPoolExecutor(_READERS) as pool:
        for line in pool.map(_fingerprint, split.images, split.rows):
            if isinstance(line, DatasetError):
                broken.append(str(line))
            else:
                yield line
    if broken:
        raise DatasetError(first_few(broken))


def _fingerprint(image: Path, rows: NDArray[np.float64]) -> str | DatasetError:
    try:
        content = image.read_bytes()
        check_whole(image, content)
    except OSError as error:
        return DatasetError(f"{image} cannot be read: {error.strerror}.")
    except DatasetError as error:
        return error
    text = ";".join(sorted(" ".join(f"{value:.6f}" for value in row) for row in rows))
    return f"{hashlib.sha256(content).hexdigest()} {text}\n"
