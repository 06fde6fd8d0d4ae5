"""Select the best anchors of a network's output on the GPU, to copy kilobytes instead of megabytes.

No anchor is lost: if the best `keep` of an image may not include all above the threshold, its whole output is copied.
"""

import numpy as np
from numpy.typing import NDArray

from transect.engine.backends.onnx_bytes import FLOAT, INT64, integers, model, node, value

OUTPUTS = ("kept", "anchors", "best", "total")


def best_anchors_model(keep: int) -> bytes:
    """An ONNX model that reads `output`, float32 (n, 4 + classes, anchors) with more than `keep` anchors.

    Its outputs are `kept`, (n, keep, 4 + classes): the anchors of the best scores; `anchors`, int64 (n, keep): their
    positions; `best`, (n, keep): the best score of each, descending; `total`, (n): the sum of the whole output, which
    is not finite if any value is not.
    """
    return model(
        nodes=[
            node("Slice", ["output", "four", "end", "one"], ["scores"]),
            node("ReduceMax", ["scores"], ["highest"], axes=[1], keepdims=0),
            node("TopK", ["highest", "keep"], ["best", "anchors"], axis=1, largest=1, sorted=1),
            node("Transpose", ["output"], ["rows"], perm=[0, 2, 1]),
            node("Unsqueeze", ["anchors", "two"], ["places"]),
            node("GatherND", ["rows", "places"], ["kept"], batch_dims=1),
            node("ReduceSum", ["output", "all"], ["total"], keepdims=0),
        ],
        constants=[
            integers("four", [4]),
            integers("end", [np.iinfo(np.int64).max]),
            integers("one", [1]),
            integers("two", [2]),
            integers("all", [1, 2]),
            integers("keep", [keep]),
        ],
        inputs=[value("output", FLOAT, ["batch", "channels", "anchors_in"])],
        outputs=[
            value("kept", FLOAT, ["batch", keep, "channels"]),
            value("anchors", INT64, ["batch", keep]),
            value("best", FLOAT, ["batch", keep]),
            value("total", FLOAT, ["batch"]),
        ],
    )


def has_all_above(best: NDArray[np.float32], total: np.float32, least: float) -> bool:
    """Whether an image's kept anchors include all with a score above `least`, and the whole output is finite."""
    return bool(best[-1] <= least and np.isfinite(total))


def as_output(kept: NDArray[np.float32], anchors: NDArray[np.int64]) -> NDArray[np.float32]:
    """An image's `kept` and `anchors` as an output (1, 4 + classes, keep), in the order of the whole one.

    Later steps break ties of scores by that order.
    """
    output: NDArray[np.float32] = np.ascontiguousarray(kept[np.argsort(anchors)].T)[None]
    return output
