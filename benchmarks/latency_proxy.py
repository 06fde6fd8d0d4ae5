"""An HTTP proxy that adds latency: a server that is far away, or busy.

    python -m benchmarks.latency_proxy --port PORT --to HOST:PORT --seconds 0.5

Each request is forwarded at once; its response is delayed.
"""

import argparse
import time
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_TIMEOUT_S = 120.0
# Headers of one connection, which are not forwarded (RFC 9110, 7.6.1).
_OF_THE_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


class LatencyProxy(ThreadingHTTPServer):
    """Forwards requests to `host`:`port`, and responses to the client, `seconds` late; a thread a connection."""

    daemon_threads = True

    def __init__(self, own_port: int, host: str, port: int, seconds: float) -> None:
        super().__init__(("127.0.0.1", own_port), _Handler)
        self.host = host
        self.port = port
        self.seconds = seconds


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Or the end of a response would wait for the client's acknowledgement of its beginning.
    disable_nagle_algorithm = True
    server: LatencyProxy

    def _pass_on(self) -> None:
        body = self._body()
        headers = {name: text for name, text in self.headers.items() if name.lower() not in _OF_THE_CONNECTION}
        # A new connection each time: a server closes idle ones after some seconds.
        with closing(HTTPConnection(self.server.host, self.server.port, timeout=_TIMEOUT_S)) as connection:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        time.sleep(self.server.seconds)
        self.send_response_only(answer.status, answer.reason)
        for name, text in answer.getheaders():
            if name.lower() not in _OF_THE_CONNECTION:
                self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _pass_on  # noqa: N815 - the names that the base calls

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(iter(self._chunk, b""))
        length = int(self.headers.get("Content-Length", 0))
        return self.rfile.read(length) if length else None

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().partition(b";")[0], 16)
        content = self.rfile.read(size)
        self.rfile.readline()
        return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", required=True, help="HOST:PORT")
    parser.add_argument("--seconds", type=float, default=0.5)
    arguments = parser.parse_args()
    host, _, port = arguments.to.partition(":")
    with LatencyProxy(arguments.port, host, int(port), arguments.seconds) as proxy:
        proxy.serve_forever()


if __name__ == "__main__":
    main()
