import base64
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transect.engine import Detection, ImageResult, ModelRef
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import ImageInput, RequestLimits, Upload
from transect.serving.protocols.open_inference_messages import (
    OUTPUTS,
    InferMessage,
    InferRequest,
    parse_message,
    write_response,
)

LIMITS = RequestLimits(body_bytes=1 << 20, images=4)


def parse(message: Any, rest: bytes = b"", header: str | None = None) -> InferRequest:
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    return parse_message(text + rest, str(len(text)) if rest and header is None else header, LIMITS)


def refused(message: Any, rest: bytes = b"", header: str | None = None) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        parse(message, rest, header)
    return caught.value


def tensor(name: str = "image", shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    datatype = more.pop("datatype", "BYTES" if name == "image" else "UINT8")
    return {"inputs": [{"name": name, "shape": shape or [1], "datatype": datatype, **more}]}


def with_lengths(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def data(images: list[ImageInput]) -> list[Any]:
    return [
        image.data.tolist() if isinstance(image.data, np.ndarray) else image.data
        for image in images
        if isinstance(image, Upload)
    ]


@given(st.lists(st.binary(), min_size=1, max_size=4))
def test_encoded_images_arrive_whole_in_both_forms(files: list[bytes]) -> None:
    texts = [base64.b64encode(file).decode() for file in files]
    images = parse(tensor(shape=[len(files)], data=texts)).images
    assert data(images) == files
    binary = with_lengths(*files)
    images = parse(tensor(shape=[len(files), 1], parameters={"binary_data_size": len(binary)}), binary).images
    assert data(images) == files


@pytest.mark.parametrize("shape", [[2, 3, 3], [1, 2, 3, 3], [2, 3, 1, 3]])
def test_arrays_arrive_whole_in_three_forms(shape: list[int]) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    expected = (pixels if pixels.ndim == 4 else pixels[None]).tolist()
    for values in (pixels.tolist(), pixels.ravel().tolist()):
        assert data(parse(tensor("pixels", shape, data=values)).images) == expected
    binary = pixels.tobytes()
    assert data(parse(tensor("pixels", shape, parameters={"binary_data_size": len(binary)}), binary).images) == expected


def test_what_is_no_base64_is_that_images_failure() -> None:
    images = parse(tensor(shape=[2], data=["aGk=", "/etc/passwd"])).images
    assert isinstance(images[0], Upload)
    assert "reads no files" in str(images[1])


def test_options_are_those_of_a_detection() -> None:
    parameters = {"conf": 0.4, "tile": 128, "classes": "sheep,cow", "timeout": 2_500_000}
    query = parse({**tensor(data=["aGk="]), "parameters": parameters}).query
    assert (query.conf, query.tile, query.classes, query.timeout) == (0.4, "128", ("sheep,cow",), 2.5)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 100_000, "JSON"),
        ([], "object"),
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [1]}, "inputs.0"),
        (tensor("video"), "inputs.0.name"),
        (tensor(datatype="FP32", data=["aGk="]), "inputs.0.datatype"),
        (tensor("pixels", [1, 1, 3], datatype="BYTES", data=[1, 2, 3]), "pixels is UINT8, not BYTES"),
        (tensor(shape=[-1], data=["aGk="]), "inputs.0.shape.0"),
        (tensor(shape=[10**30], data=["aGk="]), "inputs.0.shape.0"),
        (tensor(), "either data or parameters.binary_data_size"),
        (tensor(data=["aGk="], parameters={"binary_data_size": 3}), "either data or"),
        (tensor(parameters={"shared_memory_region": "a"}), "shared_memory_region"),
        (tensor(shape=[2], data=["aGk="]), "means 2 images, but the data have 1"),
        (tensor(data=[1]), "give each image as base64"),
        (tensor(shape=[2], data=[["aGk="], "aGk="]), "nested unevenly"),
        (tensor(parameters={"binary_data_size": 7}), "0 bytes follow the JSON"),
        (tensor("pixels", [2, 3], data=[0] * 6), "give [H, W, 3]"),
        (tensor("pixels", [1, 1, 4], data=[0] * 4), "give [H, W, 3]"),
        (tensor("pixels", [0, 1, 3], data=[]), "give [H, W, 3]"),
        (tensor("pixels", [1, 1, 3], data=[0] * 4), "means 3 values, but the data have 4"),
        (tensor("pixels", [1, 1, 3], data=[0, 0, 256]), "0 to 255"),
        (tensor("pixels", [1, 1, 3], data=[0, 0, -1]), "0 to 255"),
        (tensor("pixels", [1, 1, 3], data=[0, 0, 0.5]), "0 to 255"),
        (tensor("pixels", [1, 1, 3], data=[True, True, True]), "0 to 255"),
        (tensor("pixels", [1, 1, 3], data=["a", "b", "c"]), "0 to 255"),
        (tensor("pixels", [1, 1, 3], data=[10**400, 0, 0]), "inputs.0.data"),
        ({**tensor(data=["aGk="]), "outputs": [{"name": "masks"}]}, "outputs.0.name"),
        ({**tensor(data=["aGk="]), "outputs": [{"name": "boxes", "parameters": {"classes": 3}}]}, "parameters.classes"),
        ({**tensor(data=["aGk="]), "parameters": {"confidence": 0.3}}, "parameters.confidence"),
        ({**tensor(data=["aGk="]), "parameters": {"conf": 3}}, "parameters.conf"),
        ({**tensor(data=["aGk="]), "parameters": {"timeout": 0}}, "parameters.timeout"),
        ({**tensor(data=["aGk="]), "parameters": {"tile": "big"}}, "tile: must be auto, off"),
    ],
)  # fmt: skip
def test_a_request_that_breaks_the_protocol_is_named(message: Any, words: str) -> None:
    problem = refused(message)
    assert problem.status == 400
    assert words in problem.detail, problem.detail


@pytest.mark.parametrize("header", ["-1", "1e3", "", "99999", "0" * 5000 + "1", "١"])
def test_the_header_length_must_be_one(header: str) -> None:
    assert "Inference-Header-Content-Length" in refused(tensor(data=["aGk="]), header=header).detail


@pytest.mark.parametrize("rest", [b"\1", b"\5\0\0\0abc", b"\xff\xff\xff\xffabc", with_lengths(b"a") + b"\0\0\0"])
def test_a_binary_tensor_that_ends_too_early_is_refused(rest: bytes) -> None:
    assert "ends" in refused(tensor(parameters={"binary_data_size": len(rest)}), rest).detail


def test_too_many_images_are_refused() -> None:
    assert refused(tensor(shape=[5], data=["aGk="] * 5)).status == 413
    assert refused(tensor("pixels", [5, 1, 1, 3], data=[0] * 15)).status == 413


MODEL = ModelRef("detector", "7", "run-7", "fp32")
SHEEP, GOAT = Detection((0, 0, 1, 1), 0.25, 0, "schäfchen"), Detection((1, 1, 2, 2), 1.0, 1, "goat")
RESULTS = (
    ImageResult(
        image="image 0",
        width=60,
        height=40,
        detections=(Detection((1.5, 2.25, 3.0, 4.0), 0.5, 2, "cow"),),
        model=MODEL,
        tiles=3,
        truncated=True,
    ),
    ImageResult(image="image 1", width=10, height=20, detections=(), model=MODEL, tiles=1),
    ImageResult(image="image 2", width=9, height=9, detections=(SHEEP, GOAT), model=MODEL, tiles=1),
)


def message(outputs: Any = None, **parameters: Any) -> InferMessage:
    return InferMessage.model_validate(
        {**tensor(data=["aGk="]), "id": "a-1", "outputs": outputs, "parameters": parameters}
    )


def test_ragged_results_are_flat_with_the_index_of_their_image() -> None:
    body, header = write_response(message(), RESULTS)
    assert header is None
    answer = json.loads(body)
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("detector", "7", "a-1")
    assert answer["parameters"] == {"precision": "fp32", "run_id": "run-7"}
    outputs = {item["name"]: item for item in answer["outputs"]}
    assert list(outputs) == list(OUTPUTS)
    assert outputs["boxes"]["shape"] == [3, 4]
    assert outputs["boxes"]["data"] == [1.5, 2.25, 3, 4, 0, 0, 1, 1, 1, 1, 2, 2]
    assert outputs["image_index"] == {"name": "image_index", "datatype": "INT64", "shape": [3], "data": [0, 2, 2]}
    assert outputs["class_names"]["data"] == ["cow", "schäfchen", "goat"]
    assert outputs["width"]["data"] == [60, 10, 9]
    assert outputs["truncated"]["data"] == [True, False, False]
    assert outputs["failure"]["data"] == outputs["remarks"]["data"] == ["", "", ""]


def test_binary_outputs_follow_the_json_in_their_order() -> None:
    wanted = [{"name": "class_names", "parameters": {"binary_data": True}}, {"name": "width"}, {"name": "scores"}]
    body, header = write_response(message(wanted, binary_data_output=True), RESULTS)
    assert header is not None
    outputs = json.loads(body[:header])["outputs"]
    assert [item["name"] for item in outputs] == ["class_names", "width", "scores"]
    names = with_lengths(b"cow", "schäfchen".encode(), b"goat")
    widths, scores = np.array([60, 10, 9], "<i8").tobytes(), np.array([0.5, 0.25, 1], "<f4").tobytes()
    assert body[header:] == names + widths + scores
    assert [item["parameters"]["binary_data_size"] for item in outputs] == [len(names), len(widths), len(scores)]


def test_an_output_may_stay_in_the_json() -> None:
    wanted = [{"name": "boxes", "parameters": {"binary_data": False}}]
    body, header = write_response(message(wanted, binary_data_output=True), RESULTS)
    assert header is None
    assert json.loads(body)["outputs"][0]["shape"] == [3, 4]


def test_nothing_found_is_an_empty_tensor() -> None:
    body, header = write_response(message(binary_data_output=True), RESULTS[1:2])
    assert header is not None
    shapes = {item["name"]: item["shape"] for item in json.loads(body[:header])["outputs"]}
    assert shapes["boxes"] == [0, 4]
    assert shapes["class_names"] == [0]
    assert shapes["width"] == [1]


def test_a_failure_is_never_taken_for_an_empty_image() -> None:
    results = [RESULTS[0], ImageResult.failed("image 1", MODEL, "image 1 is empty (0 bytes).")]
    with pytest.raises(ProblemError, match=r"image 1 is empty \(0 bytes\)\. Request the output failure"):
        write_response(message([{"name": "boxes"}]), results)
    answer = json.loads(write_response(message([{"name": "boxes"}, {"name": "failure"}]), results)[0])
    assert answer["outputs"][1]["data"] == ["", "image 1 is empty (0 bytes)."]
