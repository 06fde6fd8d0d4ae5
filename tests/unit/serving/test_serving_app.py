import io
import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

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
from transect.serving import create_app
from transect.serving.http.request_body import Upload


@pytest.fixture(scope="module")
def detection() -> WatchedDetection:
    return WatchedDetection()


@pytest.fixture(scope="module")
def client(dot_package: Path, detection: WatchedDetection) -> Iterator[httpx.Client]:
    settings = settings_of(TRANSECT_MAX_PIXELS="20000", TRANSECT_MAX_IMAGES="3")
    with running(create_app(settings, OneModel(dot_package), detect_image=detection)) as client:
        yield client


@pytest.fixture(scope="module")
def empty_client() -> Iterator[httpx.Client]:
    with running(create_app(settings_of(), OneModel(None))) as client:
        yield client


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/v1/model", "/v2/health/live"])
def test_head_returns_the_headers_of_get(client: httpx.Client, path: str) -> None:
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]


def test_a_raw_image_is_answered_with_one_object(client: httpx.Client) -> None:
    answer = raw(client, png(dots()))
    body = answer.json()
    assert answer.status_code == 200, body
    assert found(body) == BOTH
    assert body["model"] == {"name": "detector", "version": "7", "run_id": "run-7", "precision": "fp32"}
    assert (body["width"], body["height"], body["tiles"], body["truncated"]) == (64, 64, 1, False)
    assert body["failure"] is None
    assert answer.headers["x-transect-model"] == "detector/7"


def test_many_images_are_answered_in_order_and_a_bad_one_is_listed(client: httpx.Client) -> None:
    good = png(dots())
    files = [("images", ("a.png", good)), ("images", ("b.jpg", b"this is text")), ("images", ("c.png", good))]
    answer = client.post("/v1/detect", files=files)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["image"] for result in results] == ["a.png", "b.jpg", "c.png"]
    assert found(results[0]) == found(results[2]) == BOTH
    assert "b.jpg" in results[1]["failure"]
    assert results[1]["detections"] == []
    assert results[1]["model"]["version"] == "7"


def test_a_form_with_one_image_is_answered_with_one_object(client: httpx.Client) -> None:
    answer = client.post("/v1/detect", files={"image": ("../../a.png", png(dots()))})
    assert answer.json()["image"] == "../../a.png"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?classes=sheep", [BOTH[1]]),
        ("?classes=sheep&classes=cow", BOTH),
        ("?classes=goat,cow", [BOTH[0]]),
        ("?conf=0.99", BOTH),
        ("?conf=1", []),
    ],
)
def test_options_reach_the_engine(client: httpx.Client, query: str, expected: Any) -> None:
    assert found(raw(client, png(dots()), query).json()) == expected


def test_large_images_are_tiled_by_default(client: httpx.Client) -> None:
    image = png(dots(128, 128))
    assert raw(client, image).json()["tiles"] > 1
    assert found(raw(client, image, "?tile=64").json()) == BOTH
    assert raw(client, image, "?tile=off").json()["tiles"] == 1


def test_an_image_can_be_returned_with_its_boxes(client: httpx.Client) -> None:
    answer = raw(client, png(dots(100, 80)), "?format=image")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-transect-model"] == "detector/7"
    drawn = Image.open(io.BytesIO(answer.content))
    assert drawn.size == (100, 80)
    assert np.asarray(drawn).mean() > dots(100, 80).mean() + 1
    files = [("images", ("a.png", png(dots())))] * 2
    assert_problem(client.post("/v1/detect?format=image", files=files), 422, "one-image")


@pytest.mark.parametrize("query", ["?confidence=0.5", "?conf=2", "?conf=nan", "?tile=huge", "?format=xml"])
def test_an_invalid_option_is_refused_by_name(client: httpx.Client, query: str) -> None:
    problem = assert_problem(raw(client, png(dots()), query), 422, "validation")
    assert query[1:].split("=", maxsplit=1)[0] in problem["detail"]


def test_options_that_the_engine_rejects_are_named(client: httpx.Client) -> None:
    assert "gnu" in assert_problem(raw(client, png(dots()), "?classes=gnu"), 422, "class")["detail"]
    assert "tile=10" in assert_problem(raw(client, png(dots()), "?tile=10"), 422, "input")["detail"]


def test_one_bad_image_is_a_problem(client: httpx.Client) -> None:
    assert_problem(raw(client, b"this is text"), 422, "image")
    assert_problem(raw(client, png(dots())[:-30]), 422, "image")
    assert_problem(raw(client, b""), 422, "no-image")
    assert "TRANSECT_MAX_PIXELS" in assert_problem(raw(client, png(dots(200, 200))), 413, "image-too-large")["detail"]
    answer = client.post("/v1/detect", content=b"{}", headers={"Content-Type": "application/json"})
    assert_problem(answer, 415, "media-type")
    assert_problem(client.post("/v1/detect", files=[("images", ("a.png", b"x"))] * 4), 413, "too-many-images")


def test_unknown_paths_and_methods_are_problems(client: httpx.Client) -> None:
    assert_problem(client.get("/nowhere"), 404, "not-found")
    answer = client.get("/v1/detect")
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"


def test_a_request_id_is_kept_when_plain_and_replaced_when_not(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    for bad in ("a b", "x" * 65, 'q"'):
        assert re.fullmatch(
            "[0-9a-f]{32}", client.get("/healthz", headers={"X-Request-ID": bad}).headers["x-request-id"]
        )


def test_the_model_route_has_the_model_and_the_followers_state(client: httpx.Client) -> None:
    body = client.get("/v1/model").json()
    assert (body["ready"], body["name"], body["alias"], body["version"]) == (True, "detector", "production", "7")
    assert body["class_names"] == ["sheep", "goat", "cow"]
    assert (body["backend"], body["conf"], body["image_size"]) == ("onnxruntime", 0.25, 64)
    assert body["following"]["last_error"] is None
    assert body["following"]["refused"] == []
    assert client.get("/readyz").json() == {"status": "ok"}


def test_without_an_alias_it_is_alive_and_names_the_remedy(empty_client: httpx.Client) -> None:
    assert empty_client.get("/healthz").status_code == 200
    problem = assert_problem(empty_client.get("/readyz"), 503, "no-model")
    assert "promote one" in problem["detail"]
    assert assert_problem(raw(empty_client, png(dots())), 503, "no-model")["detail"] == problem["detail"]
    body = empty_client.get("/v1/model").json()
    assert (body["ready"], body["version"]) == (False, None)
    assert "promote one" in body["following"]["last_error"]


def test_metrics_have_requests_stages_and_model(client: httpx.Client) -> None:
    raw(client, png(dots()), "?format=image")
    client.get("/some/path/of/a/scanner")
    text = client.get("/metrics").text
    assert 'transect_requests_total{method="POST",route="/v1/detect",status="200"}' in text
    assert "scanner" not in text
    for stage in ("queue", "decode", "infer", "post", "encode"):
        assert f'transect_stage_seconds_count{{stage="{stage}"}}' in text
    assert (
        'transect_model_info{backend="onnxruntime",name="detector",precision="fp32",run_id="run-7",version="7"}' in text
    )
    assert 'transect_model_swaps_total{outcome="swapped"} 1.0' in text
    assert "transect_queue_depth 0.0" in text


def test_each_request_is_one_log_line(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "transect.serving.access"):
        raw(client, png(dots()), "?conf=0.5")
        # The server's thread writes the line after it has sent the response.
        wait_for(lambda: any(item.name == "transect.serving.access" for item in caplog.records))
    [record] = [item for item in caplog.records if item.name == "transect.serving.access"]
    fields = vars(record)
    assert (fields["status"], fields["images"], fields["detections"], fields["version"]) == (200, 1, 2, "7")
    assert fields["infer_ms"] >= 0


def test_an_unexpected_error_is_a_problem_and_the_service_continues(
    client: httpx.Client, detection: WatchedDetection
) -> None:
    def fail_on_b(upload: Upload) -> None:
        if upload.name in ("b.png", "image"):
            raise RuntimeError("secret insides")

    detection.before = fail_on_b
    problem = assert_problem(raw(client, png(dots())), 500, "internal")
    files = [("images", (name, png(dots()))) for name in ("a.png", "b.png")]
    good, bad = client.post("/v1/detect", files=files).json()["results"]
    detection.before = lambda _: None
    assert "secret" not in json.dumps([problem, bad])
    assert problem["request_id"] in problem["detail"]
    assert found(good) == BOTH
    assert "RuntimeError" in bad["failure"]
    assert found(raw(client, png(dots())).json()) == BOTH


def test_a_full_queue_refuses_at_once_and_the_admitted_are_answered(dot_package: Path) -> None:
    gate, detection = threading.Event(), WatchedDetection()

    def wait_first(_: Upload) -> None:
        assert gate.wait(60)

    detection.before = wait_first
    answers: list[httpx.Response] = []
    app = create_app(settings_of(TRANSECT_MAX_QUEUE="1"), OneModel(dot_package), detect_image=detection)
    with running(app) as client:
        threads = [threading.Thread(target=lambda: answers.append(raw(client, png(dots())))) for _ in range(3)]
        for thread in threads:
            thread.start()
        while "transect_requests_admitted 3.0" not in (metrics := client.get("/metrics").text):
            time.sleep(0.01)
        assert "transect_queue_depth 1.0" in metrics
        refused = raw(client, png(dots()))
        gate.set()
        for thread in threads:
            thread.join()
    assert_problem(refused, 503, "busy")
    assert int(refused.headers["retry-after"]) >= 1
    assert [answer.status_code for answer in answers] == [200, 200, 200]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_load_nothing_from_elsewhere(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//""", answer.text)


def test_every_schema_that_the_description_refers_to_is_in_it(client: httpx.Client) -> None:
    api = client.get("/openapi.json").json()
    refs = set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(api)))
    assert {"Problem", "InferMessage", "ScoringMessage", "AliasEvent", "NdjsonLineResponse"} <= refs
    assert refs <= set(api["components"]["schemas"])


def test_the_description_names_every_route_and_problem(client: httpx.Client) -> None:
    api = client.get("/openapi.json").json()
    ours = {"/v1/detect", "/v1/model", "/v1/model/refresh", "/v1/hooks/mlflow", "/healthz", "/readyz", "/metrics"}
    assert ours <= set(api["paths"])
    detect = api["paths"]["/v1/detect"]["post"]
    assert set(detect["requestBody"]["content"]) == {"multipart/form-data", "image/*", "application/octet-stream"}
    options = {"tile", "conf", "classes", "format", "timeout"}
    assert {item["name"] for item in detect["parameters"]} == {*options, "X-Request-Timeout", "X-Model-Version"}
    assert set(detect["responses"]["200"]["content"]) == {"application/json", "image/jpeg", "application/x-ndjson"}
    assert {"400", "408", "413", "415", "422", "503", "504"} <= set(detect["responses"])
    assert list(detect["responses"]["503"]["content"]) == ["application/problem+json"]
