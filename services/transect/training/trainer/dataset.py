"""Ultralytics' trainer on a data set that is checked already."""

import math
from copy import copy
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import get_split_fraction
from ultralytics.engine import trainer as ultralytics_trainer
from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator
from ultralytics.utils.metrics import ConfusionMatrix
from ultralytics.utils.torch_utils import unwrap_model

from transect.datasets import Dataset, Split
from transect.imagery import decode_image
from transect.training.trainer.amp import check_amp

# Its own writes into the working directory and asks the network.
vars(ultralytics_trainer)["check_amp"] = check_amp

# The least score of a detection that Ultralytics draws into a picture.
DRAWN_CONF = 0.25


def stride_of(model: Any) -> int:
    """The side to which images are padded: 32 at least, which finer heads (stride 16) divide."""
    plain: Any = unwrap_model(model)
    return max(int(plain.stride.max()), 32)


class CheckedDataset(YOLODataset):
    """A split as `load_dataset` read it."""

    def __init__(self, split: Split, **options: Any) -> None:
        self.split = split
        super().__init__(img_path=str(split.images[0].parent), task="detect", **options)

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """The pictures of the split, or the part of them that `fraction` says."""
        files = [str(path) for path in self.split.images]
        count = self.fraction if isinstance(self.fraction, int) else max(1, round(len(files) * self.fraction))
        return files[:count]

    def load_image(
        self, i: int, rect_mode: bool = True, resize_short: bool = False
    ) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        """Picture `i` as BGR with its longer side resized to imgsz, its height and width before, and those after.

        The pixels are those that evaluation and serving see: OpenCV, which Ultralytics decodes with, reads planar and
        16-bit TIFFs, CMYK and some turned pictures otherwise. A .npy beside a picture, which Ultralytics would take
        for it, is not opened. `rect_mode` and `resize_short` are of other tasks.
        """
        kept: Any = self.ims[i]
        if kept is not None:
            # Ultralytics says None where these start.
            before, after = (cast("tuple[int, int]", sides[i]) for sides in (self.im_hw0, self.im_hw))
            return kept, before, after
        pixels: Any = decode_image(Path(self.im_files[i]), max_pixels=None)
        before = pixels.shape[:2]
        ratio = self.imgsz / max(before)
        if ratio != 1:
            height, width = (min(math.ceil(side * ratio), self.imgsz) for side in before)
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        loaded = np.ascontiguousarray(pixels[..., ::-1]), before, pixels.shape[:2]
        if self.augment and self.cache != "ram":
            self._remember(i, loaded)
        return loaded

    def _remember(self, i: int, loaded: tuple[Any, ...]) -> None:
        """Keep a picture for the mosaics of the next ones, and let go of the oldest."""
        self.ims[i], self.im_hw0[i], self.im_hw[i] = loaded
        self.buffer.append(i)
        if 1 < len(self.buffer) >= self.max_buffer_length:
            oldest = self.buffer.pop(0)
            self.ims[oldest] = self.im_hw0[oldest] = self.im_hw[oldest] = None

    def get_labels(self) -> list[dict[str, Any]]:
        """The boxes of each picture, in Ultralytics' words."""
        kept = zip(self.im_files, self.split.rows, self.split.sizes, strict=False)
        return [self._label(image, rows, size) for image, rows, size in kept]

    @staticmethod
    def _label(image: str, rows: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
        return {
            "im_file": image,
            "shape": (size[1], size[0]),
            "cls": rows[:, :1].astype(np.float32),
            "bboxes": rows[:, 1:].astype(np.float32),
            "segments": [],
            "keypoints": None,
            "normalized": True,
            "bbox_format": "xywh",
        }


class _UsableConfusion(ConfusionMatrix):
    """A confusion matrix of the detections that are drawn in the pictures of predictions beside it.

    Validation keeps everything down to a score of 0.001, for the precision-recall curve; counted all together that is
    a thousand sheep where a hundred stand.
    """

    def process_batch(self, detections: Any, batch: Any, conf: float = DRAWN_CONF, iou_thres: float = 0.45) -> None:
        """Count one image; `conf`, which is that of the curve, is not used."""
        base: Any = super()
        base.process_batch(detections, batch, DRAWN_CONF, iou_thres)


class _CheckedValidator(DetectionValidator):
    # Ultralytics says None where it starts.
    confusion_matrix: Any
    data: Any

    def init_metrics(self, model: Any) -> None:
        """Begin a validation."""
        # Ultralytics takes a place with "lvis" in its path (a home of Elvis) for that benchmark.
        self.data = {**self.data, self.args.split: ""}
        base: Any = super()
        base.init_metrics(model)
        self.confusion_matrix = _UsableConfusion(names=self.names)


class CheckedTrainer(DetectionTrainer):
    """Ultralytics' trainer, fed by a checked data set."""

    # Ultralytics says None where these start.
    model: Any
    ema: Any
    optimizer: Any

    def __init__(self, dataset: Dataset, overrides: dict[str, Any]) -> None:
        self.dataset = dataset
        super().__init__(overrides=overrides)

    def get_dataset(self) -> dict[str, Any]:
        """The data set, in Ultralytics' words."""
        return {
            # None of these is opened: the loaders get what `build_dataset` makes.
            "path": "",
            "train": "train",
            "val": "val",
            "names": dict(enumerate(self.dataset.names)),
            "nc": len(self.dataset.names),
            "channels": 3,
        }

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> CheckedDataset:
        """The split behind a loader."""
        training = mode == "train"
        return CheckedDataset(
            self.dataset.splits["train" if training else "val"],
            data=self.data,
            imgsz=self.args.imgsz,
            batch_size=batch,
            augment=training,
            hyp=self.args,
            rect=self.args.rect or not training,
            cache=self.args.cache or None,
            stride=stride_of(self.model),
            pad=0.0 if training else 0.5,
            prefix=f"{mode}: ",
            fraction=get_split_fraction(self.args.fraction, mode),
        )

    def get_validator(self) -> _CheckedValidator:
        """Who validates each epoch, and the best weights at the end."""
        return _CheckedValidator(
            self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks
        )
