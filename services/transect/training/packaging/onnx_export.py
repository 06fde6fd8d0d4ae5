"""Export of trained weights to the ONNX model that the engine loads."""

import shutil
import tempfile
import warnings
from pathlib import Path

import onnx
import onnxslim

from transect.engine import HeadKind
from transect.files import atomic_path

# Read by OpenVINO and ONNX Runtime alike, and not so new that an older runtime refuses it.
OPSET = 17


def export_onnx(weights: Path, target: Path, image_size: int, head: HeadKind) -> None:
    """Write `weights` as fp32 ONNX without NMS: input `images` (batch, 3, image_size, image_size).

    RGB in 0..1. The output `output0` is (batch, 4 + classes, anchors) for an anchor-free head and
    (batch, 300, 6) for an end-to-end one, which caps the detections at 300; our own NMS after the
    anchor-free one has no cap. The architecture must have `head`.
    """
    from ultralytics.models.yolo import YOLO

    with tempfile.TemporaryDirectory(prefix="transect-export-") as folder:
        copy = Path(folder) / "model.pt"
        shutil.copyfile(weights, copy)
        with warnings.catch_warnings():
            # torch deprecates this exporter; OpenVINO runs the new one's graphs slower.
            warnings.simplefilter("ignore")
            exported = YOLO(copy).export(
                format="onnx",
                imgsz=image_size,
                dynamic=True,
                simplify=True,
                opset=OPSET,
                nms=False if head == "end-to-end" else None,
                device="cpu",
            )
        model = _fix_image_size(onnx.load(exported), image_size)
        with atomic_path(target) as temporary:
            onnx.save(model, temporary)


def _fix_image_size(model: onnx.ModelProto, image_size: int) -> onnx.ModelProto:
    """Keep the batch dynamic and fix the image size, so that the anchors become constants (a quarter fewer nodes)."""
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    for dimension in dimensions[2:4]:
        dimension.ClearField("dim_param")
        dimension.dim_value = image_size
    del model.graph.value_info[:]
    slim: onnx.ModelProto = onnxslim.slim(model)
    onnx.checker.check_model(slim)
    return slim
