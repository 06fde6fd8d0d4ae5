"""X-Model-Version: one version answers, or none, in every protocol; and each response names the one that made it."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from serving_app import OneModel, WatchedDetection, assert_problem, dots, png, raw, running, settings_of
from transect.registry import ResolvedVersion
from transect.serving import create_app

PIN = "X-Model-Version"
Ask = Callable[[httpx.Client, Mapping[str, str]], httpx.Response]


class MovingModel(OneModel):
    """The same package under whatever version the alias is at."""

    version = "7"

    def resolve(self) -> ResolvedVersion:
        return replace(super().resolve(), version=self.version, run_id=f"run-{self.version}")


def _text() -> str:
    return base64.b64encode(png(dots())).decode()


def _infer(client: httpx.Client, headers: Mapping[str, str], path: str = "detector") -> httpx.Response:
    message = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [_text()]}]}
    return client.post(f"/v2/models/{path}/infer", json=message, headers=headers)


def _invoke(client: httpx.Client, headers: Mapping[str, str]) -> httpx.Response:
    return client.post("/invocations", json={"instances": [_text()]}, headers=headers)


ASKED: dict[str, Ask] = {
    "detect": lambda client, headers: raw(client, png(dots()), headers=headers),
    "detect as ndjson": lambda client, headers: raw(client, png(dots()), "?format=ndjson", headers),
    "detect as image": lambda client, headers: raw(client, png(dots()), "?format=image", headers),
    "infer": _infer,
    "infer with the version": lambda client, headers: _infer(client, headers, "detector/versions/7"),
    "invocations": _invoke,
    "model": lambda client, headers: client.get("/v1/model", headers=headers),
    "metadata": lambda client, headers: client.get("/v2/models/detector", headers=headers),
    "model ready": lambda client, headers: client.get("/v2/models/detector/ready", headers=headers),
}


@pytest.fixture(scope="module")
def client(dot_package: Path) -> Iterator[httpx.Client]:
    with running(create_app(settings_of(), OneModel(dot_package))) as client:
        yield client


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("headers", [{}, {PIN: "7"}], ids=["any version", "this version"])
def test_the_version_that_answers_is_named(client: httpx.Client, ask: Ask, headers: dict[str, str]) -> None:
    answer = ask(client, headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers[PIN] == "7"


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_no_other_version_answers(client: httpx.Client, ask: Ask) -> None:
    answer = ask(client, {PIN: "8"})
    assert answer.status_code == 421, answer.text
    assert answer.headers[PIN] == "7"
    if "error" in answer.json():
        assert "Version 8 of detector is not served here, but version 7;" in answer.json()["error"]
    else:
        detail = assert_problem(answer, 421, "model-version")["detail"]
        assert "Version 8 of detector is not served here, but version 7;" in detail


@pytest.mark.parametrize("version", ["", "0", "-1", "7.0", "07", "seven", "production", "7, 7", "٧", "7" * 40])
def test_what_is_no_version_is_refused_with_a_sentence(client: httpx.Client, version: str) -> None:
    answer = raw(client, png(dots()), headers={PIN: version.encode()})  # type: ignore[dict-item]  # as on the wire
    detail = assert_problem(answer, 422, "model-version")["detail"]
    assert detail.endswith("is no version of a model, which is a number from 1.")
    assert len(detail) < 160


def test_a_version_that_is_there_twice_is_refused_with_a_sentence(client: httpx.Client) -> None:
    twice = [(PIN, "7"), (PIN, "7"), ("Content-Type", "image/png")]
    answer = client.post("/v1/detect", content=png(dots()), headers=twice)
    detail = assert_problem(answer, 422, "model-version")["detail"]
    assert detail == "X-Model-Version is there 2 times; name one version, once."


def test_a_request_in_progress_when_the_alias_moves_gets_its_version_or_none(dot_package: Path) -> None:
    """The body of a pinned request ends after the swap: 421, although its version was served when it began."""
    source = MovingModel(dot_package)
    detection = WatchedDetection()
    with running(create_app(settings_of(), source, detect_image=detection)) as client:

        def body() -> Iterator[bytes]:
            image = png(dots())
            yield image[:100]
            source.version = "8"
            assert client.post("/v1/model/refresh").json()["version"] == "8"
            yield image[100:]

        answer = client.post("/v1/detect", content=body(), headers={"Content-Type": "image/png", PIN: "7"})
        assert_problem(answer, 421, "model-version")
        assert answer.headers[PIN] == "8"
        assert detection.outcomes == []
        assert raw(client, png(dots()), headers={PIN: "8"}).json()["model"]["version"] == "8"


def test_without_a_model_there_is_no_version() -> None:
    with running(create_app(settings_of(), OneModel(None))) as client:
        assert PIN not in client.get("/v1/model").headers
        problem = assert_problem(client.get("/v1/model", headers={PIN: "7"}), 421, "model-version")
        assert "make promote" in problem["detail"]
        assert_problem(raw(client, b"", headers={PIN: "7"}), 503, "no-model")


def test_the_schema_has_the_header(client: httpx.Client) -> None:
    schema = json.loads(client.get("/openapi.json").text)
    with_it = {
        (path, method)
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
        if any(parameter["name"] == PIN for parameter in operation.get("parameters", ()))
    }
    assert {("/v1/detect", "post"), ("/invocations", "post"), ("/v2/models/{name}/infer", "post")} <= with_it
    for path, method in with_it:
        assert "421" in schema["paths"][path][method]["responses"], path
