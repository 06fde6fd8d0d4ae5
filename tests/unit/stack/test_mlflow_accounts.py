"""The rules before the stack's MLflow, without a server; test_registry_accounts asks the real one."""

import asyncio
import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from accounts import (
    CENSUS,
    EXPERIMENT,
    FAILURES_WITHIN_S,
    MODEL,
    MOST_FAILURES,
    PROMOTION,
    READERS,
    STACK_ACCOUNTS,
    AccountRules,
    Guesses,
    Message,
    Receive,
    Scope,
    Send,
    exact_grants,
    refused,
    route_of,
)

from transect.registry.client.names import CENSUS_EXPERIMENT
from transect.registry.promotion.record import EXPERIMENT as EXPERIMENT_OF_PROMOTIONS

API = "/api/2.0/mlflow"
# Read and not imported: it imports MLflow's server, which warns.
_INITIALISER = (Path(__file__).parents[3] / "docker" / "mlflow" / "initialise.py").read_text(encoding="utf-8")


class Inner:
    """An application behind the rules: what it was asked, and what it answers."""

    def __init__(self, status: int = 200, body: bytes = b"{}") -> None:
        self.status, self.body = status, body
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        # In two parts, as a server may.
        await send({"type": "http.response.body", "body": self.body[:3], "more_body": True})
        await send({"type": "http.response.body", "body": self.body[3:]})


class Grants:
    def __init__(self) -> None:
        self.given: list[tuple[str, str, str, str]] = []

    def grant_user_permission(self, username: str, kind: str, which: str, permission: str) -> None:
        self.given.append((username, kind, which, permission))


def is_admin(name: str, password: str) -> bool | None:
    return name == "admin" if password == "right" else None


def basic(name: str, password: str = "right") -> bytes:
    return b"Basic " + base64.b64encode(f"{name}:{password}".encode())


def ask(
    rules: AccountRules,
    headers: Sequence[bytes],
    path: str = f"{API}/experiments/search",
    method: str = "POST",
    body: Sequence[bytes] = (b"",),
    address: str = "192.0.2.1",
) -> tuple[int, dict[str, str], bytes]:
    """One request: status, headers and body of the answer."""
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"authorization", value) for value in headers],
        "client": (address, 1),
    }
    parts = [
        {"type": "http.request", "body": part, "more_body": number < len(body) - 1} for number, part in enumerate(body)
    ]
    waiting, sent = iter(parts), list[Message]()

    async def receive() -> Message:
        return next(waiting)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(rules(scope, receive, send))
    told = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return sent[0]["status"], told, b"".join(message.get("body", b"") for message in sent)


def rules_for(inner: Inner) -> tuple[AccountRules, Grants]:
    grants = Grants()
    return AccountRules(inner, grants, is_admin), grants


@pytest.mark.parametrize(
    ("path", "route"),
    [
        (f"{API}/runs/create", "runs/create"),
        ("/ajax-api/3.0/mlflow/traces", "traces"),
        ("/api/2.0/mlflow-artifacts/artifacts/1/a", "artifacts:artifacts/1/a"),
        ("/graphql", None),
        (f"/x{API}/runs/search", None),
        (f"/{API}/runs/search", None),
        ("/api/2.0/mlflow", None),
    ],
)
def test_a_path_is_a_route_of_the_interface_or_nothing(path: str, route: str | None) -> None:
    assert route_of(path) == route


@pytest.mark.parametrize(
    ("name", "method", "path", "allowed"),
    [
        ("detector", "GET", f"{API}/registered-models/get", True),
        ("detector", "POST", f"{API}/runs/search", True),
        ("detector", "PUT", f"{API}/runs/search", False),
        ("detector", "POST", "/anything/search", False),
        ("detector", "POST", f"{API}/runs/create", False),
        ("detector", "POST", "/graphql", False),
        ("census", "POST", "/graphql", True),
        ("census", "POST", f"{API}/runs/log-batch", True),
        ("census", "PUT", "/api/2.0/mlflow-artifacts/artifacts/1/a/artifacts/counts.csv", True),
        ("census", "POST", f"{API}/experiments/create", False),
        ("trainer", "POST", f"{API}/experiments/create", True),
        ("trainer", "POST", f"{API}/registered-models/create", True),
        ("trainer", "POST", f"{API}/registered-models/alias", True),
        ("trainer", "PATCH", f"{API}/users/update-password", False),
        ("ada", "PATCH", f"{API}/users/update-password", True),
        ("ada", "POST", f"{API}/registered-models/create", False),
        ("ada", "POST", "/api/3.0/mlflow/traces", False),
        ("ada", "POST", "/gateway/chat", False),
        ("ada", "DELETE", "/api/2.0/mlflow/users/delete", False),
    ],
)
def test_what_an_account_may_ask(name: str, method: str, path: str, allowed: bool) -> None:
    assert (refused(name, method, path) is None) == allowed


def test_a_rule_is_told_to_who_has_a_password_and_is_none_for_administrators() -> None:
    rules, _ = rules_for(inner := Inner())
    create = f"{API}/experiments/create"
    status, _, body = ask(rules, [basic("census")], create, body=[b'{"name": "a"}'])
    assert (status, "only the account trainer" in json.loads(body)["message"]) == (403, True)
    status, headers, body = ask(rules, [basic("census", "wrong")], create, body=[b'{"name": "a"}'])
    assert (status, headers["www-authenticate"]) == (401, 'Basic realm="mlflow"')
    assert b"trainer" not in body
    assert inner.bodies == []
    place = b'{"name": "a", "artifact_location": "s3://bucket"}'
    assert ask(rules, [basic("admin")], create, body=[place])[0] == 200
    assert inner.bodies == [place]


def test_what_the_trainer_makes_may_be_read_by_the_readers_when_it_answers() -> None:
    rules, grants = rules_for(inner := Inner(body=b'{"experiment_id": "7"}'))
    parts = [b'{"name": ', b'"wildlife"}']
    assert ask(rules, [basic("trainer")], f"{API}/experiments/create", body=parts)[::2] == (200, inner.body)
    assert inner.bodies == [b'{"name": "wildlife"}']
    inner.body = b'{"registered_model": {"name": "detector"}}'
    ask(rules, [basic("trainer")], f"{API}/registered-models/create", body=[b'{"name": "detector"}'])
    assert grants.given == [
        (reader, kind, which, "READ") for kind, which in ((EXPERIMENT, "7"), (MODEL, "detector")) for reader in READERS
    ]
    inner.status = 400
    ask(rules, [basic("trainer")], f"{API}/experiments/create", body=[b'{"name": "wildlife"}'])
    assert len(grants.given) == 4


@pytest.mark.parametrize(
    "body",
    [
        b'{"artifact_location": "s3://bucket"}',
        b'{"artifactLocation": "s3://bucket"}',
        b'{"artifact_location": "", "artifact_location": "s3://bucket"}',
        '{"artifact_location": "s3://bucket"}'.encode("utf-16"),
        b'"{}"',
        b"[]",
        b"no JSON",
        b'{"name": "' + b"a" * 2_000_000 + b'"}',
    ],
)
def test_an_experiment_lies_where_the_server_says(body: bytes) -> None:
    rules, _ = rules_for(inner := Inner())
    half = len(body) // 2
    assert ask(rules, [basic("trainer")], f"{API}/experiments/create", body=[body[:half], body[half:]])[0] == 403
    assert inner.bodies == []


@pytest.mark.parametrize(
    "headers", [[basic("a"), basic("b")], [b"Bearer x"], [b"Basic"], [b"Basic !"], [b""], [b"Basic \xff"]]
)
def test_a_header_that_names_not_exactly_one_account_is_refused(headers: list[bytes]) -> None:
    rules, _ = rules_for(inner := Inner())
    assert ask(rules, headers)[0] == 401
    assert inner.bodies == []


def test_without_a_header_and_for_other_protocols_mlflow_answers_itself() -> None:
    rules, _ = rules_for(inner := Inner())
    assert ask(rules, [])[0] == 200
    assert len(inner.bodies) == 1


def test_wrong_passwords_are_counted_by_address_and_account() -> None:
    rules, _ = rules_for(inner := Inner(status=401))
    for _ in range(MOST_FAILURES):
        assert ask(rules, [basic("trainer", "wrong")])[0] == 401
    status, headers, body = ask(rules, [basic("trainer", "wrong")])
    assert status == 429
    assert 0 < int(headers["retry-after"]) <= FAILURES_WITHIN_S + 1
    assert "too many wrong passwords" in json.loads(body)["message"]
    assert len(inner.bodies) == MOST_FAILURES
    inner.status = 200
    # Even the right one waits, at this address; nobody else does.
    assert ask(rules, [basic("trainer")])[0] == 429
    assert ask(rules, [basic("trainer")], address="192.0.2.2")[0] == 200
    assert ask(rules, [basic("census")])[0] == 200


def test_failures_are_forgotten_after_a_while() -> None:
    guesses = Guesses(most=2, within_s=10)
    for now in (0.0, 4.0):
        assert guesses.wait_s(("here", "a"), now) == 0
        guesses.failed(("here", "a"), now)
    assert guesses.wait_s(("here", "a"), 5.0) == 5.0
    assert guesses.wait_s(("there", "a"), 5.0) == 0
    assert guesses.wait_s(("here", "a"), 10.0) == 0
    guesses.failed(("here", "a"), 10.0)
    assert guesses.wait_s(("here", "a"), 11.0) == 3.0


def test_very_many_guessers_take_no_memory() -> None:
    guesses = Guesses(most=1)
    for number in range(5000):
        guesses.failed((str(number), "a"), 0.0)
    assert guesses.wait_s(("0", "a"), 0.0) == 0
    assert guesses.wait_s(("4999", "a"), 0.0) > 0
    assert len(guesses._failures) == 4096


def test_grants_are_what_each_account_needs() -> None:
    grants = exact_grants({"census": "3", "promotion": "4"}, "detector", [(EXPERIMENT, "5"), (EXPERIMENT, "3")])
    assert set(grants) == set(STACK_ACCOUNTS)
    reads = {(MODEL, "detector"): "READ", (EXPERIMENT, "5"): "READ"}
    assert grants["detector"] == reads
    assert grants["census"] == {**reads, (EXPERIMENT, "3"): "EDIT"}
    # Not the censuses, though it may have made their experiment once.
    assert grants["trainer"] == {**dict.fromkeys(reads, "MANAGE"), (EXPERIMENT, "4"): "EDIT"}


def test_a_request_may_say_anything() -> None:
    """Whatever is asked, the answer is one of the rules' or MLflow's own, and never an exception."""
    rules, _ = rules_for(Inner())
    paths: list[Any] = [
        "",
        "/",
        "//",
        f"{API}/",
        f"{API}/../{API}/runs/create",
        "/\udcff",
        f"{API}/experiments/create/",
    ]
    for path in paths:
        for method in ("GET", "POST", "PUT", "BREW"):
            assert ask(rules, [basic("detector")], path, method)[0] in {200, 403}


def test_the_server_and_the_program_mean_the_same_names() -> None:
    """MLflow's image has no Transect in it, so that a name of both stands in both."""
    compose = yaml.safe_load((Path(__file__).parents[3] / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert (CENSUS, PROMOTION) == (CENSUS_EXPERIMENT, EXPERIMENT_OF_PROMOTIONS)
    role = compose["mlflow"]["environment"]["PGUSER"]
    assert f'\nROLE = "{role}"\n' in _INITIALISER
    for account in STACK_ACCOUNTS:
        assert compose[account]["environment"]["MLFLOW_TRACKING_USERNAME"] == account
