import base64
import json
from typing import Any

import numpy as np
import pytest

from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import ImageInput, RequestLimits, Upload
from transect.serving.protocols.mlflow_messages import parse_scoring

LIMITS = RequestLimits(body_bytes=1 << 20, images=4)
ONE, TWO = b"the first image", b"the second"
A, B = base64.b64encode(ONE).decode(), base64.b64encode(TWO).decode()
RGB = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)


def parse(body: Any, content_type: str = "application/json") -> list[ImageInput]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_scoring(data, content_type, LIMITS).images


def found(body: Any, content_type: str = "application/json") -> list[Any]:
    return [image.data if isinstance(image, Upload) else str(image) for image in parse(body, content_type)]


def refused(body: Any, content_type: str = "application/json") -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        parse(body, content_type)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["image"], "data": [[A], [B]]}},
        {"dataframe_split": {"index": [0, 1], "columns": ["id", "image"], "data": [[7, A], [8, B]]}},
        {"dataframe_split": {"data": [[A], [B]]}},
        {"dataframe_split": {"columns": ["picture", "note"], "data": [[A, "x"], [B, "y"]]}},
        {"dataframe_records": [{"image": A}, {"image": B}]},
        {"dataframe_records": [{"id": 1, "image": A}, {"id": 2, "image": B}]},
        {"dataframe_records": [{"picture": A}, {"picture": B}]},
        {"instances": [A, B]},
        {"instances": [{"b64": A}, {"b64": B}]},
        {"instances": [{"image": {"b64": A}}, {"image": {"b64": B}}]},
        {"inputs": [A, B]},
        {"inputs": {"image": [A, B]}},
        {"inputs": [f"data:image/png;base64,{A}", B]},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_every_format_of_the_table_has_the_same_images(body: Any) -> None:
    assert found(body) == [ONE, TWO]


@pytest.mark.parametrize(
    "text", [f"image\n{A}\n{B}\n", f",image\r\n0,{A}\r\n1,{B}\r\n", f"picture\n{A}\n\n{B}", f"\ufeffimage\n{A}\n{B}\n"]
)
def test_so_does_csv(text: str) -> None:
    assert found(text.encode(), "text/csv; charset=UTF-8") == [ONE, TWO]


def test_a_photo_is_longer_than_a_field_of_csv_may_be_by_default() -> None:
    photo = bytes(300_000)
    assert found(b"image\n" + base64.b64encode(photo), "text/csv") == [photo]


@pytest.mark.parametrize("body", [{"inputs": A}, {"inputs": {"image": A}}, {"inputs": {"b64": A}}])
def test_one_image_needs_no_list(body: Any) -> None:
    assert found(body) == [ONE]


@pytest.mark.parametrize("body", [{"inputs": RGB.tolist()}, {"inputs": [RGB.tolist()]}, {"instances": [RGB.tolist()]}])
def test_arrays_are_images_too(body: Any) -> None:
    (image,) = found(body)
    assert np.array_equal(image, RGB)


def test_no_rows_are_no_images() -> None:
    assert parse({"instances": []}) == parse({"dataframe_records": []}) == parse(b"image\n", "text/csv") == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../../secret.png", "file:///etc/passwd", "C:\\image.png"])
def test_a_path_is_never_read(path: str) -> None:
    (failure,) = found({"instances": [path]})
    assert "this service reads no files" in failure


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "missing"),
        (7, "is a int"),
        ([[1, 2], [3]], "different lengths"),
        ([[1, 2], [3, 4]], "shape (2, 2)"),
        ([[[0, 0, 256]]], "0 to 255"),
        ([[[0, 0, "a"]]], "0 to 255"),
        ([RGB.tolist(), RGB.tolist()], "several images"),
    ],
)
def test_a_bad_image_is_its_own_failure(value: Any, words: str) -> None:
    first, second = found({"dataframe_split": {"columns": ["image"], "data": [[value], [A]]}})
    assert words in first
    assert second == ONE


def test_a_missing_cell_is_its_own_failure() -> None:
    assert "missing" in found({"dataframe_records": [{"image": A}, {"other": B}]})[1]
    assert "missing" in found({"dataframe_split": {"columns": ["id", "image"], "data": [[1, A], [2]]}})[1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON"),
        (b"\xff", "JSON"),
        (b"[" * 100_000, "JSON"),
        ([A], "object"),
        ({}, "no input; give exactly one"),
        ({"params": {}}, "no input; give exactly one"),
        ({"instances": [A], "inputs": [A]}, "inputs and instances"),
        ({"instances": A}, "instances"),
        ({"images": [A]}, "images"),
        ({"dataframe_split": {"columns": ["image"]}}, "dataframe_split.data"),
        ({"dataframe_split": [A]}, "dataframe_split"),
        ({"dataframe_records": {"image": A}}, "dataframe_records"),
        ({"inputs": {}}, "no column"),
        ({"instances": [A], "params": {"confidence": 1}}, "params.confidence"),
        ({"instances": [A], "params": {"conf": 2}}, "params.conf"),
    ],
)
def test_an_invalid_table_is_refused_with_the_reason(body: Any, words: str) -> None:
    problem = refused(body)
    assert problem.status == 400
    assert words in problem.detail, problem.detail


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b'image\n"unfinished'])
def test_invalid_csv_is_refused_with_the_reason(body: bytes) -> None:
    assert "CSV" in refused(body, "text/csv").detail


@pytest.mark.parametrize(
    "content_type", ["", "image/png", "application/vnd.apache.parquet", "text/csv; charset=latin-1"]
)
def test_other_content_types_are_refused(content_type: str) -> None:
    assert refused({"instances": [A]}, content_type).status == 415


def test_too_many_images_are_refused() -> None:
    assert refused({"instances": [A] * 5}).status == 413


def test_options_are_taken_from_params() -> None:
    body = {"instances": [A], "params": {"conf": 0.4, "tile": "off", "classes": ["cow"], "timeout": 2}}
    query = parse_scoring(json.dumps(body).encode(), "application/json", LIMITS).query
    assert (query.conf, query.tile, query.classes, query.timeout) == (0.4, "off", ("cow",), 2)


@pytest.mark.parametrize("wrong", ['"conf": false', '"conf": "0.5"', '"tile": true', '"timeout": true'])
def test_an_option_of_another_type_is_refused(wrong: str) -> None:
    body = f'{{"dataframe_records": [], "params": {{{wrong}}}}}'.encode()
    with pytest.raises(ProblemError) as caught:
        parse_scoring(body, "application/json", LIMITS)
    assert caught.value.status == 400
