"""Conversion of pixels to a network's input as an ONNX model, so that it runs on the GPU."""

from transect.engine.backends.onnx_bytes import FLOAT, UINT8, floats, model, node, value


def prelude_model() -> bytes:
    """An ONNX model from `pixels`, uint8 (n, S, S, 3), to `images`, float32 (n, 3, S, S) in 0..1."""
    return model(
        nodes=[
            node("Cast", ["pixels"], ["floats"], to=FLOAT),
            node("Div", ["floats", "white"], ["scaled"]),
            node("Transpose", ["scaled"], ["images"], perm=[0, 3, 1, 2]),
        ],
        constants=[floats("white", 255.0)],
        inputs=[value("pixels", UINT8, ["batch", "height", "width", 3])],
        outputs=[value("images", FLOAT, ["batch", 3, "height", "width"])],
    )
