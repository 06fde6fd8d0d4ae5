import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from benchmarks.interleaved import Span
from benchmarks.latency_proxy import LatencyProxy
from benchmarks.tracking import AGAIN, AWAY, EMBEDDED, LATE, SERVER, WITHOUT, orders, overheads, report
from benchmarks.training_process import Noted, Spent, read_noted, write_noted

_LATE_S = 0.2


def spent(training: float, whole: float | None = None, map50: float = 0.5) -> Spent:
    threads = {"run-log": 0.1, "system-metrics": 0.02}
    return Spent(training, training, whole, 12, 0.05, 0.02, threads, {"mAP50": map50})


def test_the_first_turn_changes_from_pair_to_pair() -> None:
    found = orders(12)
    alone = [(WITHOUT, EMBEDDED), (AWAY, WITHOUT), (WITHOUT, AGAIN)]
    assert found[0] == [(WITHOUT, SERVER), (LATE, WITHOUT), *alone]
    assert found[1] == [(SERVER, WITHOUT), (WITHOUT, LATE)]
    for way, pairs in ((SERVER, 12), (LATE, 12)):
        firsts = [pair[0] for pairs in found for pair in pairs if way in pair]
        assert (len(firsts), firsts.count(way)) == (pairs, pairs // 2)


def test_each_training_is_compared_with_the_one_without_tracking_of_its_pair() -> None:
    pairs = [
        {WITHOUT: spent(20.0, 30.0), SERVER: spent(20.1, 33.0)},
        {LATE: spent(20.6, 40.5), WITHOUT: spent(20.0, 30.0)},
        {AWAY: spent(20.0, 30.0), WITHOUT: spent(20.0, 30.0)},
        {WITHOUT: spent(20.0), AGAIN: spent(20.2)},
        {SERVER: spent(40.4), WITHOUT: spent(40.0)},
        {WITHOUT: spent(40.0), LATE: spent(40.4)},
        {WITHOUT: spent(20.0), SERVER: spent(19.9)},
        {LATE: spent(20.2), WITHOUT: spent(20.0)},
    ]
    assert overheads(pairs, SERVER, lambda one: one.training) == pytest.approx([0.005, 0.01, -0.005])
    assert overheads(pairs, AWAY, lambda one: one.training) == [0.0]
    found = report(pairs, epochs=10)
    at_hand, late, same = found.bars
    assert [at_hand.value, late.value] == pytest.approx([0.5, 1.0])
    assert (at_hand.met, late.met, same.met) == (True, True, True)
    assert "+0.50%" in found.show(markdown=True)
    # The same against itself says what the machine alone makes of it, and tells nothing.
    assert [row[0] for row in found.tables[0].rows] == [SERVER, LATE, AWAY, AGAIN]
    assert [row[0] for row in found.tables[3].rows] == [SERVER, LATE, AWAY]
    # Only the first round was a whole one.
    assert [(row[0], row[1], row[4]) for row in found.tables[2].rows] == [
        (SERVER, "1", "+10.00%"),
        (LATE, "1", "+35.00%"),
        (AWAY, "1", "+0.00%"),
    ]
    assert EMBEDDED not in found.show(markdown=False)


def test_a_training_that_tracking_changes_is_counted() -> None:
    pairs = [{WITHOUT: spent(20.0), SERVER: spent(20.5, map50=0.6)}, {LATE: spent(20.0), WITHOUT: spent(20.0)}]
    at_hand, late, same = report(pairs, epochs=10).bars
    assert (at_hand.met, late.met) == (False, True)
    assert (same.value, same.met) == (1, False)


def test_what_a_training_noted_comes_back_from_its_file(tmp_path: Path) -> None:
    noted = Noted(Span(1.5, 2.5), 0.9, Span(1.25, 3), 7, [Span(1.75, 1.8)], 0.01, {"run-log": 0.1}, {"mAP50": 1 / 3})
    write_noted(tmp_path / "noted.json", noted)
    assert read_noted(tmp_path / "noted.json") == noted


def test_an_answer_comes_as_it_is_and_late() -> None:
    with _serving(HTTPServer(("127.0.0.1", 0), _Echo)) as echo, _serving(LatencyProxy(0, *echo, _LATE_S)) as proxy:
        connection = HTTPConnection(*proxy)
        start = time.monotonic()
        for body in (b"known length", iter([b"in ", b"", b"chunks"]), b""):
            connection.request("POST", "/path?query=1", body, {"X-Own": "kept"}, encode_chunked=True)
            answer = connection.getresponse()
            expected = body if isinstance(body, bytes) else b"in chunks"
            assert (answer.status, answer.headers["X-Own"]) == (418, "kept")
            assert answer.read() == b"POST /path?query=1 " + expected
        assert time.monotonic() - start >= 3 * _LATE_S
        connection.close()


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        said = f"{self.command} {self.path} ".encode() + self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response_only(418)
        self.send_header("X-Own", self.headers["X-Own"])
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


@contextmanager
def _serving(server: HTTPServer) -> Iterator[tuple[str, int]]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield "127.0.0.1", server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
