"""How much a connection may send, and how long it may take, before it is identified."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from tests.dashboard.conftest import RunningDashboard
from tests.jobs.conftest import FAILED, T0
from websockets.sync.client import connect

from queuescope.dashboard.bounded_http import LONGEST_HEAD, BoundedHttp
from queuescope.dashboard.jobs.export import JOBS_CSV
from queuescope.jobs.store import JobStore
from queuescope.ports import listen, port_of

GENEROUS_SECONDS = 60.0
# More than the buffers of both ends take.
MUCH = 24 * 1024 * 1024
GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: 127.0.0.1\r\n"


class Quick(BoundedHttp):
    head_seconds = 1.0
    body_seconds = 1.0
    stalled_seconds = 2.0
    linger_seconds = 0.5


class Patient(BoundedHttp):
    """For what a busy machine may take seconds to read."""

    head_seconds = 60.0
    body_seconds = 60.0
    linger_seconds = 0.5


async def short(_request: Request) -> Response:
    return PlainTextResponse("short")


async def whole(_request: Request) -> Response:
    return Response(bytes(MUCH))


async def pieces(_request: Request) -> Response:
    async def made() -> AsyncIterator[bytes]:
        for _ in range(MUCH // 65_536):
            yield bytes(65_536)

    return StreamingResponse(made())


async def body(request: Request) -> Response:
    return PlainTextResponse(f"read {len(await request.body())}")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


class Served:
    """A server of these routes on a port of its own."""

    def __init__(self, http: type[BoundedHttp]) -> None:
        routes = [
            Route("/", short),
            Route("/whole", whole),
            Route("/pieces", pieces),
            Route("/body", body, methods=["POST"]),
            Route("/unread", short, methods=["POST"]),
            WebSocketRoute("/echo", echo),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            http=http,
            log_level="critical",
            # No deadline but those that are tested closes anything.
            timeout_keep_alive=600,
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self._listener = listen("127.0.0.1", 0, may_move=False)
        self.port = port_of(self._listener)
        self._thread = threading.Thread(target=self.server.run, args=([self._listener],))
        self._thread.start()
        wait_until(lambda: self.server.started)

    def connections(self) -> int:
        return len(self.server.server_state.connections)

    def close(self) -> None:
        self.server.should_exit = True
        self._thread.join()
        self._listener.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    made = Served(Quick)
    yield made
    made.close()


@pytest.fixture(scope="module")
def patient() -> Iterator[Served]:
    made = Served(Patient)
    yield made
    made.close()


def wait_until(condition: Callable[[], bool], *, pause_seconds: float = 0.02) -> None:
    until = time.monotonic() + GENEROUS_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(pause_seconds)


def open_socket(port: int, *, receives: int = 0) -> socket.socket:
    made = socket.socket()
    if receives:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    made.settimeout(GENEROUS_SECONDS)
    made.connect(("127.0.0.1", port))
    return made


def until_closed(connection: socket.socket) -> bytes:
    """All bytes until the other end closes, orderly or not."""
    found = bytearray()
    while True:
        try:
            piece = connection.recv(65_536)
        except ConnectionError:
            return bytes(found)
        if not piece:
            return bytes(found)
        found += piece


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


def dribbled(port: int, begin: bytes, drop: bytes) -> bytes:
    """What is answered to ``begin`` and then a little every moment, for as long as it is taken."""
    with open_socket(port) as connection:
        connection.sendall(begin)
        connection.settimeout(0.05)
        found = bytearray()
        until = time.monotonic() + GENEROUS_SECONDS
        while time.monotonic() < until:
            try:
                piece = connection.recv(65_536)
                if not piece:
                    return bytes(found)
                found += piece
            except TimeoutError:
                pass
            except ConnectionError:
                return bytes(found)
            try:
                connection.sendall(drop)
            except ConnectionError:
                connection.settimeout(GENEROUS_SECONDS)
                return bytes(found) + until_closed(connection)
    raise AssertionError("the connection stays")


def sent(port: int, *parts: bytes) -> bytes:
    """What is answered to ``parts`` by a server that closes the connection."""
    with open_socket(port) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except ConnectionError:
            pass
        return until_closed(connection)


def test_a_connection_that_says_nothing_is_closed(served: Served) -> None:
    assert sent(served.port) == b""


@pytest.mark.parametrize(
    ("begin", "drop", "expected"),
    [
        (b"GET /", b"x", [408]),
        (GET + b"X-Slow: ", b"x", [408]),
        (GET, b"X: y\r\n", [408]),
        (b"", b"\r\n", []),
        (GET + b"\r\n", b"\r\n", [200]),
        (GET + b"\r\n" + GET, b"X: y\r\n", [200, 408]),
        (POST + b"Content-Length: 5000\r\n\r\n", b"x", [408]),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", [408]),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n", [408]),
        # It was answered already: nothing follows that could pass for another response.
        (POST.replace(b"/body", b"/unread") + b"Content-Length: 5000\r\n\r\n", b"x", [200]),
    ],
)
def test_a_request_that_trickles_in_is_given_up(
    served: Served, begin: bytes, drop: bytes, expected: list[int]
) -> None:
    answered = dribbled(served.port, begin, drop)
    assert statuses(answered) == expected
    wait_until(lambda: served.connections() == 0)


LONG = b"x" * (LONGEST_HEAD + 10_000)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (GET + b"Cookie: " + LONG + b"\r\n\r\n", 431),
        (GET + b"Cookie: " + LONG, 431),
        (GET + LONG, 431),
        (GET + b"X: y\r\n" * 15_000 + b"\r\n", 431),
        (GET.replace(b" / ", b" /?" + LONG + b" ") + b"\r\n", 431),
        (b"GET /" + LONG, 431),
        (b"\r\n" * 50_000, 431),
        (POST + b"Content-Length: 100000000\r\n\r\n" + b"x" * 3_000_000, 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"e" * 3_000_000, 413),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 500_000 + b"\r\n",
            413,
        ),
    ],
)
def test_a_request_that_is_too_long_is_refused(
    patient: Served, request_bytes: bytes, status: int
) -> None:
    answered = sent(patient.port, request_bytes)
    assert statuses(answered) == [status]
    head = answered.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    assert b"connection: close" in head
    assert b"x-content-type-options: nosniff" in head
    assert b"content-security-policy: frame-ancestors 'none'" in head
    wait_until(lambda: patient.connections() == 0)


def test_usual_requests_are_answered(patient: Served) -> None:
    cookie = "c" * (LONGEST_HEAD - 1000)
    # One after the other, or all before the first answer: each is counted by itself.
    connection = http.client.HTTPConnection("127.0.0.1", patient.port, timeout=GENEROUS_SECONDS)
    connection.connect()
    kept = connection.sock
    for _ in range(3):
        connection.request("GET", "/", headers={"Cookie": cookie})
        assert connection.getresponse().read() == b"short"
        connection.request("POST", "/body", body=b"x" * 1_000_000)
        assert connection.getresponse().read() == b"read 1000000"
    assert connection.sock is kept
    connection.close()
    long = GET + f"Cookie: {cookie}\r\n\r\n".encode()
    last = GET + b"Connection: close\r\n\r\n"
    assert statuses(sent(patient.port, long + long + last)) == [200] * 3


def test_a_head_that_is_late_breaks_off_the_answer_before_it(served: Served) -> None:
    """Nothing is written into a response that is on its way."""
    with open_socket(served.port, receives=4096) as connection:
        connection.sendall(GET.replace(b" / ", b" /pieces ") + b"\r\n" + GET)
        answered = connection.recv(1)
        wait_until(lambda: served.connections() == 0)
        answered += until_closed(connection)
    assert statuses(answered) == [200]
    assert not answered.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("path", [b"/pieces", b"/whole"])
def test_a_response_that_is_not_read_is_given_up(served: Served, path: bytes) -> None:
    """Also one that the application has long ended, and that waits in the buffer alone."""
    with open_socket(served.port, receives=4096) as connection:
        connection.sendall(GET.replace(b" / ", b" " + path + b" ") + b"\r\n")
        assert connection.recv(1)
        wait_until(lambda: served.connections() == 0)
        assert len(until_closed(connection)) < MUCH


def test_a_slow_reader_gets_the_whole(served: Served) -> None:
    """It takes several times as long as one that takes nothing would be waited for."""
    with open_socket(served.port) as connection:
        connection.sendall(GET.replace(b" / ", b" /whole ") + b"Connection: close\r\n\r\n")
        found = 0
        while piece := connection.recv(262_144):
            found += len(piece)
            time.sleep(0.25 * len(piece) / 1_048_576)
    assert found > MUCH


def test_a_websocket_is_left_in_peace(served: Served) -> None:
    with connect(f"ws://127.0.0.1:{served.port}/echo") as websocket:
        # One that came later has seen its deadline.
        assert sent(served.port) == b""
        websocket.send("still there")
        assert websocket.recv(GENEROUS_SECONDS) == "still there"


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDashboard]:
    """``queuescope serve``, with a history whose file is longer than the buffers of a socket."""
    directory = tmp_path_factory.mktemp("serve")
    store = JobStore(f"sqlite:///{directory / 'jobs.db'}")
    message = "it failed " * 390
    store.record(
        [
            replace(FAILED, id=f"j{n:05}", finished_at=T0 + n, error_message=message)
            for n in range(2500)
        ]
    )
    store.close()
    running = RunningDashboard(
        directory,
        "http://127.0.0.1:9",
        server="queuescope",
        job_store_url=f"sqlite:///{directory / 'jobs.db'}",
    )
    yield running
    running.close()
    assert "Traceback" not in running.log, running.log


def most_memory(pid: int) -> int:
    """The most that the process has held so far, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
    assert found
    return int(found[1]) * 1024


def test_headers_without_end_take_no_memory(dashboard: RunningDashboard) -> None:
    """Whatever host they name: they are refused before that is checked."""
    before = most_memory(dashboard.pid)
    piece = b"x" * 1_000_000
    begin = b"GET / HTTP/1.1\r\nHost: elsewhere.example\r\nX-Long: "
    answered = sent(dashboard.port, begin, *[piece] * 300)
    assert statuses(answered) in ([431], [])  # what is reset may lose its answer
    assert most_memory(dashboard.pid) - before < 100_000_000
    assert statuses(sent(dashboard.port, begin + LONG)) == [431]
    assert dashboard.ask("/healthz", {"Cookie": "c" * 60_000}).status == 200


def begin_to_read_jobs(dashboard: RunningDashboard) -> socket.socket:
    reader = open_socket(dashboard.port, receives=4096)
    reader.sendall(f"GET {JOBS_CSV} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert statuses(reader.recv(1000)) == [200]
    return reader


def test_readers_of_files_who_leave_free_their_places(dashboard: RunningDashboard) -> None:
    # Opened one after the other: one that says nothing for as long as the others' answers take is
    # closed.
    readers = [begin_to_read_jobs(dashboard) for _ in range(4)]
    assert dashboard.ask(JOBS_CSV).status == 503
    for reader in readers:
        reader.close()
    short = f"{JOBS_CSV}?tenant=nowhere"
    wait_until(lambda: dashboard.ask(short).status == 200, pause_seconds=0.2)


def test_a_server_that_stops_cuts_off_its_readers_and_logs_no_error(
    dashboard: RunningDashboard,
) -> None:
    with begin_to_read_jobs(dashboard) as reader:
        dashboard.close()
        assert not until_closed(reader).endswith(b"0\r\n\r\n")
    assert "Traceback" not in dashboard.log, dashboard.log
