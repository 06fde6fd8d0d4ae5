"""The server process: one listening socket, one event loop, graceful shutdown."""

import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn

from transect.errors import DeviceLostError, InputError
from transect.serving.app import create_app
from transect.serving.http.access import is_loopback
from transect.serving.http.connections import ConnectionLimits, bounded_protocol
from transect.serving.logging_config import configure_logging
from transect.settings import Settings

_log = logging.getLogger(__name__)
_DRAIN_S = 30
_BACKLOG = 2048
# How long a worker thread may keep the interpreter while the event loop waits for it; Python's default is 5 ms.
_SWITCH_S = 0.001


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; admitted requests are answered before the process exits.

    Port 0 selects a free port; the first log line reports it. Raises InputError when the address cannot be listened
    on, or is reachable from other machines while no tokens are set; DeviceLostError when an explicitly chosen GPU is
    lost, so that the supervisor restarts the process.
    """
    if not is_loopback(settings.host) and not settings.token_list:
        raise InputError(
            f"TRANSECT_HOST={settings.host} is reachable from other machines, but TRANSECT_TOKENS has no token to "
            "protect /metrics and /v1/model/refresh; set TRANSECT_TOKENS, or TRANSECT_HOST=127.0.0.1."
        )
    configure_logging(settings.log_level)
    sys.setswitchinterval(_SWITCH_S)
    with _listen(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        _log.info("Listening", extra={"url": f"http://{f'[{host}]' if ':' in host else host}:{port}", "port": port})
        app = create_app(settings)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # the middleware writes one line per request
            server_header=False,
            timeout_graceful_shutdown=_DRAIN_S,
            http=bounded_protocol(ConnectionLimits(settings.max_connections, settings.max_client_connections)),
            lifespan="on",
        )
        # uvicorn drains, then raises the signal again: a requested stop exits with 0.
        signal.signal(signal.SIGTERM, _exit_cleanly)
        signal.signal(signal.SIGINT, _exit_cleanly)
        server = uvicorn.Server(config)
        lost: list[DeviceLostError] = []

        def shut_down(error: DeviceLostError) -> None:
            lost.append(error)
            server.should_exit = True

        app.state.service.on_device_lost = shut_down
        server.run(sockets=[listener])
        if lost:
            raise lost[0]


def _exit_cleanly(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(_cannot_listen(host, port, error)) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(_cannot_listen(host, port, error)) from error
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    return f"Cannot listen on {host}:{port}: {error.strerror}. Set TRANSECT_HOST and TRANSECT_PORT to a free address."
