from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from queuescope.errors import ConfigurationError
from queuescope.ports import free_port, listen, port_of, reachable_host


@pytest.fixture
def busy() -> socket.socket:
    return listen("127.0.0.1", 0, may_move=False)


def test_a_free_port_is_taken_as_asked() -> None:
    with listen("127.0.0.1", 0, may_move=False) as found:
        port = port_of(found)
    with listen("127.0.0.1", port, may_move=False) as found:
        assert port_of(found) == port


def test_a_busy_port_moves_when_it_may(busy: socket.socket) -> None:
    with busy, listen("127.0.0.1", port_of(busy), may_move=True) as found:
        assert port_of(found) != port_of(busy)


def test_a_busy_port_that_may_not_move_is_named(busy: socket.socket) -> None:
    with busy, pytest.raises(ConfigurationError, match=rf"port {port_of(busy)} .* is busy.*--port"):
        listen("127.0.0.1", port_of(busy), may_move=False)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1"):
        listen("192.0.2.1", 0, may_move=True)


def test_an_internal_port_avoids_what_is_busy_or_promised(busy: socket.socket) -> None:
    with busy:
        other = free_port(port_of(busy))
        assert other != port_of(busy)
        assert free_port(other) == other
        assert free_port(other, taken=frozenset({other})) != other


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "[::1]")],
)
def test_a_browser_is_given_an_address_that_it_can_reach(host: str, expected: str) -> None:
    assert reachable_host(host) == expected


@pytest.mark.parametrize(("soft", "hard", "raised"), [(256, 4096, 4096), (256, 90_000, 65_536)])
def test_as_many_descriptors_as_are_allowed_are_taken(soft: int, hard: int, raised: int) -> None:
    program = (
        "import resource\n"
        "from queuescope.ports import raise_descriptor_limit\n"
        f"hard = min({hard}, resource.getrlimit(resource.RLIMIT_NOFILE)[1])\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, hard))\n"
        "print(raise_descriptor_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0], hard)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    most = min(raised, int(said[2]))
    assert [int(word) for word in said[:2]] == [most, most]
