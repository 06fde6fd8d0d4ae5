"""YOLO training sets: read, checked, summarised, digested."""

from transect.datasets.dataset import Dataset, Split, SplitName, load_dataset
from transect.datasets.digest import combine_digests, dataset_digest, split_digest
from transect.datasets.labels import label_path, read_labels, read_rows
from transect.datasets.summary import dataset_summary

__all__ = [
    "Dataset",
    "Split",
    "SplitName",
    "combine_digests",
    "dataset_digest",
    "dataset_summary",
    "label_path",
    "load_dataset",
    "read_labels",
    "read_rows",
    "split_digest",
]
