"""SAHI, the usual library for large photos, used as in its documentation: sliced prediction with Ultralytics models."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def sahi_search(
    weights: Path, frames: Sequence[Path], side: int, overlap: float, conf: float, *, threads: int = 0
) -> Callable[[], tuple[int, int]]:
    """A function that searches every photo in slices of `side` pixels and returns the numbers of slices and objects.

    `overlap` is a share of the side. `weights` is a .pt (torch) or an .onnx (ONNX Runtime) of Ultralytics, `conf` the
    minimum score. SAHI's defaults: one slice after the other and GREEDYNMM; but without the extra pass over the whole
    photo, which we do not make either. `threads` are torch's; 0 keeps Ultralytics' number, one less than the cores.
    """
    import torch
    from sahi import AutoDetectionModel  # type: ignore[import-not-found]  # is in .venv-bench alone
    from sahi.predict import get_sliced_prediction  # type: ignore[import-not-found]
    from ultralytics.utils import NUM_THREADS

    model = AutoDetectionModel.from_pretrained(
        model_type="ultralytics", model_path=str(weights), confidence_threshold=conf, device="cpu", image_size=side
    )

    def search() -> tuple[int, int]:
        # The setting is global to the process: every contender of the benchmark sets its own.
        torch.set_num_threads(threads or NUM_THREADS)
        slices = objects = 0
        for frame in frames:
            totals: list[int] = []
            found: Any = get_sliced_prediction(
                str(frame),
                model,
                slice_height=side,
                slice_width=side,
                overlap_height_ratio=overlap,
                overlap_width_ratio=overlap,
                perform_standard_pred=False,
                verbose=0,
                progress_callback=lambda _done, total, totals=totals: totals.append(total),
            )
            slices += totals[-1]
            objects += len(found.object_prediction_list)
        return slices, objects

    return search


def ultralytics_onnx(weights: Path, folder: Path, side: int) -> Path:
    """`weights` exported to ONNX with Ultralytics' defaults."""
    from ultralytics.models import YOLO

    copy = folder / weights.name
    copy.write_bytes(weights.read_bytes())
    return Path(YOLO(copy).export(format="onnx", imgsz=side))
