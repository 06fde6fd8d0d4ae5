import asyncio
from collections.abc import Sequence

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from transect.serving.http import request_body
from transect.serving.http.admission import Admission
from transect.serving.http.deadline import Deadline
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import RequestLimits, read_body, read_images

ROOMY = RequestLimits(body_bytes=1 << 20, images=4)
File = tuple[str, tuple[str, bytes]]
Taken = tuple[list[tuple[str, bytes]], bool]


async def read(
    request: Request, limits: RequestLimits = ROOMY, seconds: float = 60, max_bytes: int = 64 << 20
) -> Taken:
    """Return names with contents, and whether the response is a list."""
    admission = Admission(1, 1, max_bytes)
    with admission.body() as body:
        uploads = [upload async for upload in read_images(request, limits, Deadline.after(seconds), body)]
    assert admission.body_bytes == 0
    named = [(upload.name, upload.data) for upload in uploads if isinstance(upload.data, bytes)]
    return named, len(uploads) > 1 or uploads[0].listed


def take(headers: dict[str, str], chunks: Sequence[bytes], limits: RequestLimits = ROOMY) -> Taken:
    """Read the body with the service's reader."""
    left = list(chunks)

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(0) if left else b"", "more_body": bool(left)}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }

    return asyncio.run(read(Request(scope, receive), limits))


def form(files: Sequence[File], data: dict[str, str] | None = None) -> tuple[dict[str, str], bytes]:
    request = httpx.Request("POST", "http://service/", files=list(files), data=data)
    return {"Content-Type": request.headers["Content-Type"]}, request.read()


def refusal(headers: dict[str, str], chunks: Sequence[bytes], limits: RequestLimits = ROOMY) -> ProblemError:
    with pytest.raises(ProblemError) as refused:
        take(headers, chunks, limits)
    return refused.value


def test_a_raw_body_is_one_image() -> None:
    assert take({"Content-Type": "image/jpeg"}, [b"ab", b"c"]) == ([("image", b"abc")], False)
    assert take({"Content-Type": "Application/Octet-Stream; x=y"}, [b"abc"]) == ([("image", b"abc")], False)


@pytest.mark.parametrize(
    ("fields", "as_list"),
    [(["image"], False), (["images"], True), (["image", "image"], True), (["images", "image"], True)],
)
def test_the_field_and_the_number_of_files_decide_the_shape_of_the_answer(fields: list[str], as_list: bool) -> None:
    files = [(field, (f"{index}.jpg", b"x" * index)) for index, field in enumerate(fields)]
    headers, body = form(files)
    assert take(headers, [body]) == ([(f"{index}.jpg", b"x" * index) for index in range(len(fields))], as_list)


@settings(max_examples=30, deadline=None)
@given(contents=st.lists(st.binary(max_size=300), min_size=1, max_size=4), size=st.integers(1, 400))
def test_files_are_complete_however_the_body_is_split(contents: list[bytes], size: int) -> None:
    headers, body = form([("images", (f"{index}.jpg", content)) for index, content in enumerate(contents)])
    uploads, _ = take(headers, [body[start : start + size] for start in range(0, len(body), size)])
    assert uploads == [(f"{index}.jpg", content) for index, content in enumerate(contents)]


def test_a_file_of_many_chunks_is_complete() -> None:
    content = bytes(range(256)) * 4096 * 3 + b"end"
    roomy = RequestLimits(body_bytes=8 << 20, images=1)
    headers, body = form([("image", ("big.jpg", content))])
    assert take(headers, [body], roomy)[0] == [("big.jpg", content)]
    assert take({"Content-Type": "image/png"}, [content[:99], content[99:]], roomy)[0] == [("image", content)]


def test_a_file_is_yielded_before_the_next_one_arrives() -> None:
    headers, body = form([("images", ("a.jpg", b"a" * 50)), ("images", ("b.jpg", b"b" * 50))])
    middle = body.index(b"b.jpg")
    seen: list[str] = []
    seen_at_receive: list[list[str]] = []

    async def receive() -> Message:
        seen_at_receive.append(list(seen))
        is_first = len(seen_at_receive) == 1
        return {"type": "http.request", "body": body[:middle] if is_first else body[middle:], "more_body": is_first}

    async def run() -> None:
        request = request_of(headers, receive)
        with Admission(1, 1, 1 << 20).body() as reservation:
            async for upload in read_images(request, ROOMY, Deadline.after(60), reservation):
                seen.append(upload.name)  # noqa: PERF401 - `receive` reads it meanwhile

    asyncio.run(run())
    assert seen_at_receive == [[], ["a.jpg"]]
    assert seen == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\tb.jpg", "<b>.jpg", "ж.jpg", "x" * 300])
def test_a_name_is_echoed_and_nothing_else(name: str) -> None:
    headers, body = form([("images", (name, b"x"))])
    [(echoed, content)], _ = take(headers, [body])
    assert content == b"x"
    assert echoed.replace("%09", "\t") == name


def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_read() -> None:
    refused = refusal({"Content-Type": "image/jpeg", "Content-Length": "11"}, [], RequestLimits(10, 1))
    assert (refused.status, refused.kind) == (413, "body-too-large")
    assert "TRANSECT_MAX_UPLOAD_MB" in refused.detail


@pytest.mark.parametrize("declared", [{}, {"Content-Length": "5"}, {"Content-Length": "many"}])
def test_an_undeclared_or_lying_length_is_stopped_while_it_streams(declared: dict[str, str]) -> None:
    refused = refusal({"Content-Type": "image/jpeg", **declared}, [b"x" * 6] * 3, RequestLimits(10, 1))
    assert (refused.status, refused.kind) == (413, "body-too-large")
    headers, body = form([("image", ("a.jpg", b"x" * 100))])
    assert refusal(headers, [body[:50], body[50:]], RequestLimits(100, 1)).status == 413


def test_more_images_than_the_limit_are_refused() -> None:
    headers, body = form([("images", ("a.jpg", b"x"))] * 5)
    refused = refusal(headers, [body])
    assert (refused.status, refused.kind) == (413, "too-many-images")
    assert "TRANSECT_MAX_IMAGES" in refused.detail


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/json", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_images_is_named(media_type: str) -> None:
    refused = refusal({"Content-Type": media_type}, [b"x"])
    assert (refused.status, refused.kind) == (415, "media-type")


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_form_without_its_closing_boundary_is_refused_not_shortened(cut: int) -> None:
    headers, body = form([("images", ("a.jpg", b"x" * 40)), ("images", ("b.jpg", b"y" * 40))])
    refused = refusal(headers, [body[: -(cut + 4)]])
    assert (refused.status, refused.kind) == (400, "multipart")


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "multipart/form-data"}, {"Content-Type": "multipart/form-data; boundary=no"}]
)
def test_a_broken_form_is_refused(headers: dict[str, str]) -> None:
    assert refusal(headers, [b"nonsense"]).status == 400


def test_a_wrong_field_is_named() -> None:
    headers, body = form([("file", ("a.jpg", b"x"))])
    assert "'file'" in refusal(headers, [body]).detail
    headers, body = form([("image", ("a.jpg", b"x"))], {"conf": "0.5"})
    refused = refusal(headers, [body])
    assert refused.status == 422
    assert "text in the field 'conf'" in refused.detail


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "image/jpeg"}, {"Content-Type": "image/jpeg", "Content-Length": "0"}]
)
def test_an_empty_raw_body_is_refused(headers: dict[str, str]) -> None:
    assert (refusal(headers, []).status, refusal(headers, [b""]).kind) == (422, "no-image")


async def silence() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def request_of(headers: dict[str, str], receive: Receive) -> Request:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


def test_a_client_that_stops_sending_gets_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "_STALL_S", 0.01)
    with pytest.raises(ProblemError) as refused:
        asyncio.run(read(request_of({"Content-Type": "image/png"}, silence)))
    assert (refused.value.status, refused.value.headers) == (408, {"Connection": "close"})


def test_the_deadline_ends_the_reading_too() -> None:
    with pytest.raises(ProblemError, match=r"longer than 0\.01 s") as refused:
        asyncio.run(read(request_of({"Content-Type": "image/png"}, silence), seconds=0.01))
    assert (refused.value.status, refused.value.kind) == (504, "deadline")


def test_a_client_that_leaves_while_it_sends_is_no_short_image() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    with pytest.raises(ClientDisconnect):
        asyncio.run(read(request_of({"Content-Type": "image/png"}, receive)))


def test_a_body_over_the_byte_budget_of_all_bodies_is_refused() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * (60 << 10), "more_body": True}

    with pytest.raises(ProblemError, match="bodies in memory already take") as refused:
        asyncio.run(read(request_of({"Content-Type": "image/png"}, receive), max_bytes=200 << 10))
    assert (refused.value.status, refused.value.kind) == (503, "busy")


def test_a_small_body_is_read_whole() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"c"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    assert asyncio.run(read_body(request_of({}, receive), 3)) == b"abc"
