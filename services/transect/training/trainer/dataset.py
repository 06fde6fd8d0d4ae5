"""Ultralytics' trainer on a validated data set."""

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

# Ultralytics' check_amp writes into the working directory and needs the network.
vars(ultralytics_trainer)["check_amp"] = check_amp

# The minimum score of a detection that Ultralytics draws into a plot.
DRAWN_CONF = 0.25


def stride_of(model: Any) -> int:
    """The side to which images are padded: 32 at least, which finer heads (stride 16) divide."""
    plain: Any = unwrap_model(model)
    return max(int(plain.stride.max()), 32)


class ValidatedDataset(YOLODataset):
    """A split as `load_dataset` read it."""

    def __init__(self, split: Split, **options: Any) -> None:
        self.split = split
        super().__init__(img_path=str(split.images[0].parent), task="detect", **options)

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """The images of the split, or the first `fraction` of them."""
        files = [str(path) for path in self.split.images]
        count = self.fraction if isinstance(self.fraction, int) else max(1, round(len(files) * self.fraction))
        return files[:count]

    def load_image(
        self, i: int, rect_mode: bool = True, resize_short: bool = False
    ) -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
        """Image `i` as BGR with its longer side resized to imgsz, its (height, width) before, and that after.

        It is decoded as in evaluation and serving: OpenCV, Ultralytics' decoder, reads planar and 16-bit TIFFs, CMYK
        and some rotated images differently. A .npy beside an image, which Ultralytics would load instead, is ignored.
        `rect_mode` and `resize_short` are of other tasks.
        """
        kept: Any = self.ims[i]
        if kept is not None:
            # Ultralytics types their initial value None.
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
            self._buffer_image(i, loaded)
        return loaded

    def _buffer_image(self, i: int, loaded: tuple[Any, ...]) -> None:
        """Buffer an image for the mosaics of later ones, and evict the oldest."""
        self.ims[i], self.im_hw0[i], self.im_hw[i] = loaded
        self.buffer.append(i)
        if 1 < len(self.buffer) >= self.max_buffer_length:
            oldest = self.buffer.pop(0)
            self.ims[oldest] = self.im_hw0[oldest] = self.im_hw[oldest] = None

    def get_labels(self) -> list[dict[str, Any]]:
        """The boxes of each image, in Ultralytics' format."""
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


class ThresholdedConfusionMatrix(ConfusionMatrix):
    """A confusion matrix of the detections above DRAWN_CONF, as in the plots of predictions.

    Validation keeps scores down to 0.001, for the precision-recall curve; counting them all would give a thousand
    sheep where a hundred stand.
    """

    def process_batch(self, detections: Any, batch: Any, conf: float = DRAWN_CONF, iou_thres: float = 0.45) -> None:
        """Count one image; `conf`, the curve's threshold, is ignored."""
        base: Any = super()
        base.process_batch(detections, batch, DRAWN_CONF, iou_thres)


class _DatasetValidator(DetectionValidator):
    # Ultralytics types their initial value None.
    confusion_matrix: Any
    data: Any

    def init_metrics(self, model: Any) -> None:
        """Begin a validation."""
        # Ultralytics takes a path that contains "lvis" (a user named Elvis) for that benchmark.
        self.data = {**self.data, self.args.split: ""}
        base: Any = super()
        base.init_metrics(model)
        self.confusion_matrix = ThresholdedConfusionMatrix(names=self.names)


class ValidatedDatasetTrainer(DetectionTrainer):
    """Ultralytics' trainer, fed by a validated data set."""

    # Ultralytics types their initial value None.
    model: Any
    ema: Any
    optimizer: Any

    def __init__(self, dataset: Dataset, overrides: dict[str, Any]) -> None:
        self.dataset = dataset
        super().__init__(overrides=overrides)

    def get_dataset(self) -> dict[str, Any]:
        """The data set, in Ultralytics' format."""
        return {
            # None of these paths is opened: the loaders get the data sets of `build_dataset`.
            "path": "",
            "train": "train",
            "val": "val",
            "names": dict(enumerate(self.dataset.names)),
            "nc": len(self.dataset.names),
            "channels": 3,
        }

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> ValidatedDataset:
        """The split of a loader."""
        training = mode == "train"
        return ValidatedDataset(
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

    def get_validator(self) -> _DatasetValidator:
        """The validator of each epoch, and of the best weights at the end."""
        return _DatasetValidator(
            self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks
        )
