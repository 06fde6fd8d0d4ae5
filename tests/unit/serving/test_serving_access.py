"""Cross-site requests and tokens, tested with the running service."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving_app import BOTH, OneModel, assert_problem, dots, found, png, raw, running, settings_of
from transect.errors import InputError
from transect.serving import create_app
from transect.serving.http.access import host_name, is_loopback
from transect.serving.server import serve

TOKENS = ("one-token-of-16-characters", "another-token-of-enough")


@pytest.fixture(scope="module")
def client(dot_package: Path) -> Iterator[httpx.Client]:
    settings = settings_of(TRANSECT_TOKENS=", ".join(TOKENS), TRANSECT_ALLOWED_HOSTS="detector, Census.Example")
    with running(create_app(settings, OneModel(dot_package))) as client:
        yield client


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", ""]
)
def test_a_foreign_name_is_refused(client: httpx.Client, host: str) -> None:
    for path in ("/", "/readyz", "/v1/model", "/docs", "/nowhere"):
        assert_problem(client.get(path, headers={"Host": host}), 403, "host")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "127.0.0.1", "10.1.2.3:8000", "[::1]:8000", "detector:8000", "census.example"],
)
def test_addresses_and_allowed_names_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/readyz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "https://127.0.0.1.evil.example"]
)
def test_a_foreign_page_is_refused(client: httpx.Client, origin: str) -> None:
    assert_problem(client.post("/v1/model/refresh", headers={"Origin": origin}), 403, "origin")
    assert_problem(raw(client, png(dots()), headers={"Origin": origin}), 403, "origin")


def test_a_page_of_the_service_is_allowed(client: httpx.Client) -> None:
    origin = str(client.base_url).rstrip("/")
    assert found(raw(client, png(dots()), headers={"Origin": origin}).json()) == BOTH


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong", f"Basic {TOKENS[0]}", TOKENS[0], f"Bearer {TOKENS[0]}x"]
)
def test_protected_paths_require_a_valid_token(client: httpx.Client, authorization: str) -> None:
    headers = {"Authorization": authorization}
    for answer in (client.get("/metrics", headers=headers), client.post("/v1/model/refresh", headers=headers)):
        assert_problem(answer, 401, "token")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert not any(token in answer.text for token in TOKENS)


@pytest.mark.parametrize("token", TOKENS)
def test_each_token_is_accepted(client: httpx.Client, token: str) -> None:
    headers = {"Authorization": f"bearer {token}"}
    assert "transect_requests_total" in client.get("/metrics", headers=headers).text
    assert client.post("/v1/model/refresh", headers=headers).status_code == 200


def test_without_tokens_nothing_is_protected_on_this_machine(dot_package: Path) -> None:
    with running(create_app(settings_of(), OneModel(dot_package))) as client:
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "station.example"])
def test_it_listens_to_other_machines_only_with_tokens(host: str) -> None:
    with pytest.raises(InputError, match="TRANSECT_TOKENS"):
        serve(settings_of(TRANSECT_HOST=host))


def test_what_is_loopback_and_what_a_host_names() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")] == [True] * 4
    hosts = {"[::1]:8000": "::1", "::1": "::1", "a.b:80": "a.b", "A": "a", "[fe80::1%eth0]": "fe80::1%eth0"}
    assert {host: host_name(host) for host in hosts} == hosts
