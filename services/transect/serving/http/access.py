"""Who may ask: requests that a foreign web page makes a browser send are refused, and some answers need a token.

A page of another site can make a browser send requests to this machine, and with a name of its own that leads here
(DNS rebinding) read the answers. Browsers then name that site in Host or Origin.
"""

import hmac
import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from transect.serving.http.problems import ProblemError, problem_response

# What tells how the service is used, and what makes it work for nobody's image.
GUARDED = frozenset({"/metrics", "/v1/model/refresh"})
_SCHEME = "bearer "


class Access:
    """ASGI middleware.

    Host must be an address, localhost or one of `hosts`; Origin, where a browser sends it, the same as Host. With
    `tokens`, the paths of GUARDED need `Authorization: Bearer TOKEN` with one of them. Stands inside RequestContext.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], tokens: Iterable[str]) -> None:
        self.app = app
        self.hosts = {host.lower() for host in hosts}
        self.tokens = tuple(token.encode() for token in tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and (problem := self._problem(scope["path"], Headers(scope=scope))) is not None:
            answer = problem_response(scope["path"], scope["state"]["request_id"], problem)
            await answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _problem(self, path: str, headers: Headers) -> ProblemError | None:
        host = headers.get("host")
        if host is not None and not self._is_ours(host):
            detail = f"This service is not {_shown(host)}; name it in TRANSECT_ALLOWED_HOSTS if it is reached so."
            return ProblemError(403, "host", detail)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != (host or "").lower():
            detail = f"A page of {_shown(origin)} may not ask this service; ask from a page of its own, or no browser."
            return ProblemError(403, "origin", detail)
        if path in GUARDED and self.tokens and not self._is_known(headers.get("authorization", "")):
            detail = f"{path} needs Authorization: Bearer TOKEN, with a token of TRANSECT_TOKENS."
            return ProblemError(401, "token", detail, {"WWW-Authenticate": "Bearer"})
        return None

    def _is_ours(self, host: str) -> bool:
        name = host_name(host)
        return name == "localhost" or name in self.hosts or is_address(name)

    def _is_known(self, authorization: str) -> bool:
        given = authorization[len(_SCHEME) :].strip().encode()
        # All are compared, so that the time says nothing of which one is near.
        known = [hmac.compare_digest(given, token) for token in self.tokens]
        return authorization[: len(_SCHEME)].lower() == _SCHEME and any(known)


def host_name(host: str) -> str:
    """The name of a Host header in lower case, without its port and the brackets of an IPv6 address."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def is_address(name: str) -> bool:
    """Whether a name is an IP address: such a Host is no site's name."""
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether what listens on `host` is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
