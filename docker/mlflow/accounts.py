"""Who may do what in MLflow: the stack's accounts, their grants, and the rules that no grant can express.

MLflow decides by its grants who reads and changes what there is; by default nobody does (auth.ini). They have no word
for three things, which `AccountRules` decides before MLflow is asked:

- who may make an experiment or a model: the account that trains, and administrators, so that nobody takes a name that
  another account needs;
- where an experiment's artifacts lie: MLflow reads them there with its own key, whoever named the place;
- how often a password may be guessed.

`create_app` is the server's application (`mlflow server --app-name transect`); `initialise.py` makes accounts and
grants.
"""

import json
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from werkzeug.datastructures import Authorization

OWNER = "trainer"
"""The account that makes experiments and models."""
READERS = ("detector", "census")
"""They read what OWNER makes: the files of a model version lie in the experiment that it was trained in."""
READ_ONLY = frozenset({"detector"})
"""They change nothing, not even a password."""
STACK_ACCOUNTS = (OWNER, *READERS)
CENSUS, PROMOTION = "census", "promotion"
SHARED_EXPERIMENTS: Mapping[str, Mapping[str, str]] = {CENSUS: {"census": "EDIT"}, PROMOTION: {OWNER: "EDIT"}}
"""The experiments that the initialiser makes, and the permission of each account that writes there."""
EXPERIMENT, MODEL = "experiment", "registered_model"

MOST_FAILURES, FAILURES_WITHIN_S = 10, 60.0
_MOST_GUESSERS = 4096
_MOST_BYTES = 1 << 20

_API = re.compile(r"/(?:ajax-)?api/[23]\.0/mlflow(?P<artifacts>-artifacts)?/(?P<route>.+)")
_MAKES = frozenset({"experiments/create", "registered-models/create"})
# All that the stack writes; traces, gateways, prompts and jobs are used by nobody here.
_WRITTEN = ("runs/", "experiments/", "registered-models/", "model-versions/", "users/update-password", "artifacts:")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class GrantStore(Protocol):
    """The part of MLflow's user store that grants."""

    def grant_user_permission(self, username: str, kind: str, which: str, permission: str) -> None:
        """Grant a permission on one experiment (by id) or registered_model (by name)."""


def create_app() -> App:
    """MLflow's application with accounts, behind the rules of this module."""
    from mlflow.server import auth

    def is_admin(name: str, password: str) -> bool | None:
        user = auth._authenticate_cached(name, password)
        return None if user is None else bool(user.is_admin)

    return AccountRules(auth.create_app(), auth.store, is_admin)


class AccountRules:
    """The ASGI application `app` for requests that the rules allow."""

    def __init__(self, app: App, store: GrantStore, is_admin: Callable[[str, str], bool | None]) -> None:
        """`is_admin` takes an account and its password, and answers None where the password is wrong."""
        self._app, self._store, self._is_admin = app, store, is_admin
        self._guesses = Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = [value for key, value in scope.get("headers", ()) if key.lower() == b"authorization"]
        if scope["type"] != "http" or not headers:
            await self._app(scope, receive, send)
            return
        # MLflow has two readers of this header. Where they could differ about the name, nobody is let in.
        given = _credentials(headers[0]) if len(headers) == 1 else None
        if given is None:
            await _answer(send, HTTPStatus.UNAUTHORIZED, "name one account with its password")
            return
        await self._as_account(*given, scope, receive, send)

    async def _as_account(self, name: str, password: str, scope: Scope, receive: Receive, send: Send) -> None:
        guesser = ((scope.get("client") or ("",))[0], name)
        if (wait := self._guesses.wait_s(guesser, time.monotonic())) > 0:
            await _answer(send, HTTPStatus.TOO_MANY_REQUESTS, f"too many wrong passwords for the account {name}", wait)
            return
        method, path = scope["method"], scope["path"]
        makes = method == "POST" and route_of(path) in _MAKES
        rule = refused(name, method, path)
        if makes and rule is None:
            body = await _body(receive)
            rule, receive = _refused_location(body), _again(body)
        if rule is not None:
            # A rule is told to those alone who have a password; it is none for administrators.
            admin = await run_in_threadpool(self._is_admin, name, password)
            if admin is None:
                self._guesses.failed(guesser, time.monotonic())
                await _answer(send, HTTPStatus.UNAUTHORIZED, "the account or its password is wrong")
                return
            if not admin:
                await _answer(send, HTTPStatus.FORBIDDEN, rule)
                return

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.UNAUTHORIZED:
                self._guesses.failed(guesser, time.monotonic())
            await send(message)

        if makes and name == OWNER:
            await self._share(scope, receive, counting)
        else:
            await self._app(scope, receive, counting)

    async def _share(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of OWNER that makes something; READERS may read it before OWNER knows that it is there."""
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, keep)
        body = b"".join(message.get("body", b"") for message in messages)
        for kind, which in _made(body) if messages and messages[0]["status"] == HTTPStatus.OK else ():
            for reader in READERS:
                await run_in_threadpool(self._store.grant_user_permission, reader, kind, which, "READ")
        for message in messages:
            await send(message)


class Guesses:
    """Wrong passwords of late, by guesser (address and account), in this process. Times are in seconds."""

    def __init__(self, most: int = MOST_FAILURES, within_s: float = FAILURES_WITHIN_S) -> None:
        self._most, self._within_s = most, within_s
        self._failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, guesser: tuple[str, str], now: float) -> float:
        """How long the guesser must wait for the next try; 0 after few failures."""
        with self._lock:
            failures = self._failures.get(guesser, deque())
            while failures and failures[0] <= now - self._within_s:
                failures.popleft()
            return failures[0] + self._within_s - now if len(failures) >= self._most else 0.0

    def failed(self, guesser: tuple[str, str], now: float) -> None:
        """Remember a failure; where there are very many guessers, the one who failed longest ago is forgotten."""
        with self._lock:
            self._failures.setdefault(guesser, deque(maxlen=self._most)).append(now)
            self._failures.move_to_end(guesser)
            if len(self._failures) > _MOST_GUESSERS:
                self._failures.popitem(last=False)


def refused(name: str, method: str, path: str) -> str | None:
    """Why an account that is no administrator may not do this, whatever it is granted; None where grants decide."""
    route = route_of(path) or ""
    if method in {"GET", "HEAD", "OPTIONS"} or (method == "POST" and route.endswith("/search")):
        return None
    reason = None
    if name in READ_ONLY:
        reason = f"the account {name} only reads"
    elif path != "/graphql" and not route.startswith(_WRITTEN):
        reason = "Transect does not use this, so only an administrator may"
    elif route in _MAKES and name != OWNER:
        reason = f"only the account {OWNER} and administrators make experiments and models"
    elif route == "users/update-password" and name in STACK_ACCOUNTS:
        reason = f"the password of the account {name} stands in .env; change it there and run make up"
    return reason


def route_of(path: str) -> str | None:
    """`experiments/create` of /api/2.0/mlflow/experiments/create, `artifacts:...` of an artifact; None elsewhere."""
    if (found := _API.fullmatch(path)) is None:
        return None
    return f"artifacts:{found['route']}" if found["artifacts"] else found["route"]


def exact_grants(
    experiments: Mapping[str, str], model: str, owned: Iterable[tuple[str, str]]
) -> dict[str, dict[tuple[str, str], str]]:
    """All that each of STACK_ACCOUNTS is granted: {account: {(kind, id or name): permission}}.

    `experiments` has the ids of SHARED_EXPERIMENTS by name, `model` is the name of the model that the stack serves,
    `owned` are the experiments and models that OWNER has made.
    """
    grants: dict[str, dict[tuple[str, str], str]] = {name: {} for name in STACK_ACCOUNTS}
    shared = {(EXPERIMENT, which) for which in experiments.values()}
    for what in {(MODEL, model), *owned} - shared:
        grants[OWNER][what] = "MANAGE"
        for reader in READERS:
            grants[reader][what] = "READ"
    for name, permissions in SHARED_EXPERIMENTS.items():
        for account, permission in permissions.items():
            grants[account][EXPERIMENT, experiments[name]] = permission
    return grants


def _credentials(header: bytes) -> tuple[str, str] | None:
    """Account and password of a header, as MLflow's server reads it; None where there is no account in it."""
    try:
        given = Authorization.from_header(header.decode("ascii"))
    except ValueError:
        return None
    if given is None or given.type != "basic" or not given.username:
        return None
    return given.username, given.password or ""


def _refused_location(body: bytes) -> str | None:
    """Why the experiment of this request may not be made; MLflow says itself what else is wrong with it."""
    try:
        fields = json.loads(body)
    except ValueError:
        return "the request is no JSON"
    if not isinstance(fields, dict):
        return "the request is no JSON object"
    # Both spellings of protobuf's JSON.
    if fields.get("artifact_location") or fields.get("artifactLocation"):
        return "only an administrator says where the artifacts of an experiment lie"
    return None


def _made(body: bytes) -> list[tuple[str, str]]:
    """What a response says was made: (kind, id or name)."""
    answer = json.loads(body)
    found = [(EXPERIMENT, answer.get("experiment_id")), (MODEL, answer.get("registered_model", {}).get("name"))]
    return [(kind, which) for kind, which in found if which]


async def _body(receive: Receive) -> bytes:
    """The body of a request, up to what the making of an experiment or model can need; a longer one is no JSON."""
    body = b""
    while len(body) <= _MOST_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body[:_MOST_BYTES]


def _again(body: bytes) -> Receive:
    """A receiver that has this body once more."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        return next(messages, {"type": "http.disconnect"})

    return receive


async def _answer(send: Send, status: HTTPStatus, reason: str, wait_s: float | None = None) -> None:
    """End a request; MLflow's client prints the message."""
    code = {
        HTTPStatus.UNAUTHORIZED: "UNAUTHENTICATED",
        HTTPStatus.FORBIDDEN: "PERMISSION_DENIED",
        HTTPStatus.TOO_MANY_REQUESTS: "REQUEST_LIMIT_EXCEEDED",
    }[status]
    wait = f"; try again in {wait_s:.0f} s" if wait_s is not None else ""
    body = json.dumps({"error_code": code, "message": f"Refused: {reason}{wait}."}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Basic realm="mlflow"'))
    if wait_s is not None:
        headers.append((b"retry-after", str(int(wait_s) + 1).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
