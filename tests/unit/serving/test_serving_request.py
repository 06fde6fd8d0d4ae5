"""The life of a request: deadlines, disconnects, limits, streamed responses."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from serving_app import (
    BOTH,
    OneModel,
    WatchedDetection,
    assert_problem,
    dots,
    found,
    png,
    raw,
    running,
    settings_of,
    wait_for,
)
from transect.errors import StoppedError
from transect.serving import create_app
from transect.serving.detection import request as detection_request
from transect.serving.detection.decode_budget import DecodeBudget
from transect.serving.http.request_body import Upload

# Thousands of tiles, which take seconds.
MANY_TILES = "?tile=64"


@pytest.fixture(scope="module")
def large() -> bytes:
    return png(np.zeros((3000, 3000, 3), np.uint8))


@pytest.fixture(scope="module")
def detection() -> WatchedDetection:
    return WatchedDetection()


@pytest.fixture(scope="module")
def client(dot_package: Path, detection: WatchedDetection) -> Iterator[httpx.Client]:
    settings = settings_of(TRANSECT_MAX_IMAGES="4", TRANSECT_MAX_UPLOAD_MB="1")
    with running(create_app(settings, OneModel(dot_package), detect_image=detection)) as client:
        yield client


@pytest.fixture(autouse=True)
def ended(detection: WatchedDetection) -> list[type[BaseException] | None]:
    """How each image's work ended: None for a result."""
    detection.outcomes = []
    detection.before = lambda _: None
    return detection.outcomes


def metric(client: httpx.Client, name: str) -> float:
    [line] = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[-1])


def connect(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=60)


def post(body: bytes, query: str = "", headers: str = "") -> bytes:
    head = f"POST /v1/detect{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def scoring(image: bytes, tile: str = "off") -> bytes:
    """Return a request of MLflow's scoring protocol."""
    body = json.dumps({"instances": [base64.b64encode(image).decode()], "params": {"tile": tile}}).encode()
    head = "POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def lines_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize(("query", "headers"), [("&timeout=0.2", {}), ("", {"X-Request-Timeout": "0.2"})])
def test_after_its_deadline_a_request_is_answered_and_its_work_stops(
    client: httpx.Client, ended: list[object], large: bytes, query: str, headers: dict[str, str]
) -> None:
    before = metric(client, 'transect_requests_unserved_total{reason="expired"}')
    answer = client.post(
        f"/v1/detect{MANY_TILES}{query}", content=large, headers={"Content-Type": "image/png", **headers}
    )
    assert "0.2 s" in assert_problem(answer, 504, "deadline")["detail"]
    wait_for(lambda: ended == [StoppedError])
    wait_for(lambda: metric(client, "transect_decode_bytes") == 0)
    assert metric(client, "transect_requests_admitted") == 0
    assert metric(client, 'transect_requests_unserved_total{reason="expired"}') == before + 1
    assert found(raw(client, png(dots())).json()) == BOTH


def test_an_invalid_timeout_is_refused_by_name(client: httpx.Client) -> None:
    for query in ("?timeout=0", "?timeout=-1", "?timeout=nan", "?timeout=soon"):
        assert_problem(raw(client, png(dots()), query), 422, "validation")
    for value in ("0", "soon", "inf"):
        headers = {"Content-Type": "image/png", "X-Request-Timeout": value}
        answer = client.post("/v1/detect", content=png(dots()), headers=headers)
        assert value in assert_problem(answer, 422, "timeout")["detail"]


def test_a_client_may_shorten_the_deadline_but_not_extend_it(dot_package: Path, large: bytes) -> None:
    with running(create_app(settings_of(TRANSECT_DEADLINE_SECONDS="0.2"), OneModel(dot_package))) as client:
        answer = raw(client, large, f"{MANY_TILES}&timeout=600")
    assert "0.2 s" in assert_problem(answer, 504, "deadline")["detail"]


@pytest.mark.parametrize("route", ["/v1/detect", "/invocations"])
def test_the_work_for_a_client_that_leaves_stops(
    client: httpx.Client, ended: list[object], large: bytes, route: str
) -> None:
    request = post(large, MANY_TILES) if route == "/v1/detect" else scoring(large, "64")
    before = metric(client, 'transect_requests_unserved_total{reason="cancelled"}')
    with connect(client) as connection:
        connection.sendall(request)
        wait_for(lambda: metric(client, "transect_decode_bytes") > 0)
    wait_for(lambda: ended == [StoppedError])
    wait_for(lambda: metric(client, "transect_requests_admitted") == 0)
    assert metric(client, 'transect_requests_unserved_total{reason="cancelled"}') == before + 1
    assert f'route="{route}",status="499"' in client.get("/metrics").text


def test_a_waiting_client_that_disconnects_frees_its_slot(client: httpx.Client, detection: WatchedDetection) -> None:
    gate, started = threading.Event(), []

    def wait_first(upload: Upload) -> None:
        assert gate.wait(60)
        started.append(upload.name)

    detection.before = wait_first
    connections = [connect(client) for _ in range(3)]
    for connection in connections:
        connection.sendall(post(png(dots())))
    wait_for(lambda: metric(client, "transect_requests_admitted") == 3)
    # Two are with the workers; the third waits.
    connections[2].close()
    wait_for(lambda: metric(client, "transect_requests_admitted") == 2)
    gate.set()
    for connection in connections[:2]:
        assert connection.recv(20).startswith(b"HTTP/1.1 200")
        connection.close()
    wait_for(lambda: metric(client, "transect_requests_admitted") == 0)
    assert len(started) == 2


def test_a_slow_upload_releases_its_slot_until_its_image_has_arrived(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection_request, "_SLOW_S", 0.05)
    body = post(png(dots()))
    with connect(client) as connection:
        connection.sendall(body[:-10])
        wait_for(lambda: metric(client, "transect_body_bytes") > 0)
        wait_for(lambda: metric(client, "transect_requests_admitted") == 0)
        connection.sendall(body[-10:])
        assert connection.recv(20).startswith(b"HTTP/1.1 200")
    wait_for(lambda: metric(client, "transect_body_bytes") == 0)
    assert metric(client, "transect_requests_admitted") == 0


def test_a_message_takes_its_slot_once_its_body_has_arrived(client: httpx.Client) -> None:
    body = scoring(png(dots()))
    with connect(client) as connection:
        connection.sendall(body[:-10])
        wait_for(lambda: metric(client, "transect_body_bytes") > 0)
        assert metric(client, "transect_requests_admitted") == 0
        connection.sendall(body[-10:])
        assert connection.recv(20).startswith(b"HTTP/1.1 200")
    wait_for(lambda: metric(client, "transect_body_bytes") == 0)
    assert metric(client, "transect_requests_admitted") == 0


@pytest.mark.parametrize(("query", "accept"), [("?format=ndjson", "*/*"), ("", "application/x-ndjson")])
def test_an_answer_can_be_streamed(client: httpx.Client, query: str, accept: str) -> None:
    good = png(dots())
    files = [("images", ("a.png", good)), ("images", ("b.jpg", b"this is text")), ("images", ("c.png", good))]
    lines = lines_of(client.post(f"/v1/detect{query}", files=files, headers={"Accept": accept}))
    assert [line.get("index") for line in lines] == [0, 1, 2, None]
    assert found(lines[0]) == found(lines[2]) == BOTH
    assert "b.jpg" in lines[1]["failure"]
    assert {line["model"]["version"] for line in lines[:-1]} == {"7"}
    assert lines[-1] == {
        "summary": {"complete": True, "images": 3, "failed": 1, "tiles": 2, "detections": 4, "problem": None}
    }


def test_one_image_is_streamed_as_one_line(client: httpx.Client) -> None:
    lines = lines_of(raw(client, png(dots()), "?format=ndjson"))
    assert found(lines[0]) == BOTH
    assert lines[1]["summary"]["images"] == 1
    assert lines_of(raw(client, b"this is text", "?format=ndjson"))[0]["failure"]


def test_an_error_before_the_first_line_has_its_own_status(client: httpx.Client) -> None:
    assert_problem(raw(client, b"", "?format=ndjson"), 422, "no-image")
    assert_problem(raw(client, png(dots()), "?format=ndjson&classes=gnu"), 422, "class")


def test_an_aborted_stream_has_the_problem_in_its_last_line(client: httpx.Client) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + png(dots())
    head = (
        "POST /v1/detect?format=ndjson HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    with connect(client) as connection, connection.makefile("rb") as answer:
        connection.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(part) + 2, part + b"\r\n"))
        connection.sendall(b"5\r\n--x\r\n\r\n")
        # The first image is answered while the body is still open.
        assert answer.readline().startswith(b"HTTP/1.1 200")
        line = next(line for line in answer if line.startswith(b"{"))
        assert found(json.loads(line)) == BOTH
        connection.sendall(b"7\r\nnoise\r\n\r\n0\r\n\r\n")
        summary = json.loads(next(line for line in answer if line.startswith(b"{")))["summary"]
    assert (summary["complete"], summary["images"]) == (False, 1)
    assert summary["problem"]["type"] == "urn:transect:problem:multipart"


def test_more_tiles_than_the_limit_are_refused_before_any_work(dot_package: Path) -> None:
    with running(create_app(settings_of(TRANSECT_MAX_TILES="4"), OneModel(dot_package))) as client:
        image = png(dots(200, 200))
        detail = assert_problem(raw(client, image), 422, "too-many-tiles")["detail"]
        assert "TRANSECT_MAX_TILES" in detail
        assert "tile=off" in detail
        assert raw(client, image, "?tile=off").json()["tiles"] == 1
        files = [("images", ("big.png", image)), ("images", ("small.png", png(dots())))]
        big, small = client.post("/v1/detect", files=files).json()["results"]
    assert "too" not in (small["failure"] or "")
    assert found(small) == BOTH
    assert "TRANSECT_MAX_TILES" in big["failure"]


def test_an_image_over_the_decode_budget_is_refused(dot_package: Path) -> None:
    with running(create_app(settings_of(TRANSECT_DECODE_MB="1"), OneModel(dot_package))) as client:
        refused = raw(client, png(np.zeros((300, 300, 3), np.uint8)))
        assert "TRANSECT_DECODE_MB" in assert_problem(refused, 413, "image-too-large")["detail"]
        assert found(raw(client, png(dots())).json()) == BOTH


def test_images_wait_for_decode_memory_and_all_are_answered(dot_package: Path) -> None:
    app = create_app(settings_of(), OneModel(dot_package))
    limits = app.state.service._image_limits
    app.state.service._image_limits = replace(limits, budget=DecodeBudget(60_000))
    with running(app) as client:
        files = [("images", (f"{number}.png", png(dots()))) for number in range(12)]
        results = client.post("/v1/detect", files=files).json()["results"]
    assert [found(result) for result in results] == [BOTH] * 12


def test_an_early_refusal_reaches_a_client_that_still_sends(client: httpx.Client) -> None:
    head = (
        b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 500000000\r\n\r\n"
    )
    with connect(client) as connection:
        connection.sendall(head + b"x" * (1 << 20))
        answer = connection.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer.lower()
        # The service does not read 500 MB only to discard them.
        with pytest.raises(ConnectionError):
            connection.sendall(b"x" * 499_000_000)


def test_a_small_refused_body_keeps_its_connection(client: httpx.Client) -> None:
    with connect(client) as connection:
        connection.sendall(post(b"x" * 100_000).replace(b"image/png", b"text/html"))
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 415")
        connection.sendall(post(png(dots())))
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
