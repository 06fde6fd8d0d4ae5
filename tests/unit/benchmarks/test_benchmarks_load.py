"""The load generator, as the process that it is, against a small server whose answers are known."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from benchmarks.load import Job, Load, run_load, upload


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bodies: list[bytes]
    count = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).bodies.append(body)
        type(self).count += 1
        if self.path == "/silent":
            self.close_connection = True
            return
        if self.path == "/slow":
            time.sleep(0.2)
        busy = self.path == "/busy" and type(self).count % 2 == 0
        self.send_response(503 if busy else 200)
        self.send_header("Content-Length", "2")
        self.send_header("X-Transect-Model", "detector/7")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def port() -> Iterator[int]:
    Handler.bodies, Handler.count = [], 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def test_an_open_loop_asks_at_its_times_and_counts_from_them(port: int) -> None:
    arrivals = tuple(number * 0.02 for number in range(20))
    outcome = run_load(Job(port, upload(port, "/busy", b"pixels"), 1.0, arrivals=arrivals))
    answers = sorted(outcome.answers, key=lambda answer: answer.due)
    assert [round(answer.due - answers[0].due, 6) for answer in answers] == [round(time, 6) for time in arrivals]
    assert sorted(answer.status for answer in answers) == [200] * 10 + [503] * 10
    assert {answer.version for answer in answers} == {"7"}
    assert all(answer.due <= answer.sent <= answer.done for answer in answers)
    assert b"pixels" in Handler.bodies[0]
    assert b'name="image"' in Handler.bodies[0]


def test_a_closed_loop_never_has_more_under_way_than_it_has_clients_and_stops_when_told(port: int) -> None:
    load = Load(Job(port, upload(port, "/slow", b""), 3600.0, clients=3))
    deadline = time.monotonic() + 60
    while Handler.count < 9 and time.monotonic() < deadline:
        time.sleep(0.01)
    answers = load.stop().answers
    assert len(answers) >= 9
    assert {answer.status for answer in answers} == {200}
    for one in answers:
        assert sum(other.sent <= one.sent < other.done for other in answers) <= 3


def test_a_connection_that_ends_without_an_answer_is_a_missing_answer(port: int) -> None:
    outcome = run_load(Job(port, upload(port, "/silent", b""), 1.0, arrivals=(0.0, 0.01, 0.02)))
    assert [answer.status for answer in outcome.answers] == [0, 0, 0]


def test_a_service_that_is_not_there_gives_missing_answers() -> None:
    outcome = run_load(Job(1, upload(1, "/", b""), 1.0, arrivals=(0.0, 0.01)))
    assert [answer.status for answer in outcome.answers] == [0, 0]
