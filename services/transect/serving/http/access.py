"""Access control: cross-site browser requests are rejected, and protected paths require a token.

A page of another site can make a browser send requests to this machine. Through a host name of its own that resolves
to this machine (DNS rebinding) it can also read the responses. Browsers then send that site in Host or Origin.
"""

import hmac
import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from transect.serving.http.problems import ProblemError, problem_response

# Usage data, and work that no image causes.
PROTECTED_PATHS = frozenset({"/metrics", "/v1/model/refresh"})
_SCHEME = "bearer "


class AccessMiddleware:
    """ASGI middleware that checks Host, Origin and tokens.

    Host must be an IP address, localhost or one of `hosts`; Origin, if sent, must equal Host. If there are `tokens`,
    PROTECTED_PATHS require `Authorization: Bearer TOKEN` with one of them. RequestContextMiddleware must wrap it.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], tokens: Iterable[str]) -> None:
        self.app = app
        self.hosts = {host.lower() for host in hosts}
        self.tokens = tuple(token.encode() for token in tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and (problem := self._problem(scope["path"], Headers(scope=scope))) is not None:
            response = problem_response(scope["path"], scope["state"]["request_id"], problem)
            await response(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _problem(self, path: str, headers: Headers) -> ProblemError | None:
        host = headers.get("host")
        if host is not None and not self._is_allowed_host(host):
            detail = f"The host name {_quote(host)} is not allowed; add it to TRANSECT_ALLOWED_HOSTS if it is correct."
            return ProblemError(403, "host", detail)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != (host or "").lower():
            detail = (
                f"A page of {_quote(origin)} may not use this service; send the request from a page of the service, "
                "or without a browser."
            )
            return ProblemError(403, "origin", detail)
        if path in PROTECTED_PATHS and self.tokens and not self._has_valid_token(headers.get("authorization", "")):
            detail = f"{path} requires Authorization: Bearer TOKEN, with a token of TRANSECT_TOKENS."
            return ProblemError(401, "token", detail, {"WWW-Authenticate": "Bearer"})
        return None

    def _is_allowed_host(self, host: str) -> bool:
        name = host_name(host)
        return name == "localhost" or name in self.hosts or is_address(name)

    def _has_valid_token(self, authorization: str) -> bool:
        presented = authorization[len(_SCHEME) :].strip().encode()
        # Compare all tokens, so that the response time does not reveal which one matched.
        matches = [hmac.compare_digest(presented, token) for token in self.tokens]
        return authorization[: len(_SCHEME)].lower() == _SCHEME and any(matches)


def host_name(host: str) -> str:
    """Return the host of a Host header in lower case, without port and IPv6 brackets."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def is_address(name: str) -> bool:
    """Return whether `name` is an IP address, which no site can use for DNS rebinding."""
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a server listening on `host` is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _quote(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
