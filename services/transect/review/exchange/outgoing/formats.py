"""The formats of an export."""

from typing import Literal, get_args

ExportFormat = Literal["files", "coco", "label-studio", "cvat", "csv"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
