"""YOLO training sets: read, validate, summarise, and compute digests."""

from transect.datasets.dataset import Dataset, Split, SplitName, load_dataset
from transect.datasets.digest import combine_digests, dataset_digest, split_digest
from transect.datasets.labels import boxes_in_pixels, label_path, read_rows
from transect.datasets.pixels import check_pixels
from transect.datasets.summary import dataset_summary

__all__ = [
    "Dataset",
    "Split",
    "SplitName",
    "boxes_in_pixels",
    "check_pixels",
    "combine_digests",
    "dataset_digest",
    "dataset_summary",
    "label_path",
    "load_dataset",
    "read_rows",
    "split_digest",
]
