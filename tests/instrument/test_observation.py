"""Observations reach the main process in order, and never make a job wait."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuescope.heartbeats import label
from queuescope.instrument.observation import Event, Observation, Sender, decode


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "s"))
        made.settimeout(5)
        yield made


def seen(number: int) -> Observation:
    return Observation(event=Event.STARTED, id=str(number), at=float(number))


def test_a_full_socket_delays_observations_and_keeps_their_order(
    listener: socket.socket, tmp_path: Path
) -> None:
    """The sender returns at once; what waited goes out with the next one."""
    sender = Sender(tmp_path / "s")
    for number in range(600):
        sender.send(seen(number))
    received: list[str] = []
    while len(received) < 601:
        sender.send(seen(600)) if len(received) == 0 else sender.send(seen(-1))
        received.append(decode(listener.recv(65_536)).id)
    sender.close()
    assert received[:601] == [str(number) for number in range(601)]


def test_an_error_that_quotes_bytes_which_are_no_text_holds_nothing_up(
    listener: socket.socket, tmp_path: Path
) -> None:
    sender = Sender(tmp_path / "s")
    sender.send(
        Observation(event=Event.FAILED, id="1", at=1.0, error_message="no file 'caf\udce9'")
    )
    sender.send(seen(2))
    received = [decode(listener.recv(65_536)) for _ in range(2)]
    sender.close()
    assert received[0].error_message == "no file 'caf\\udce9'"
    assert received[1].id == "2"


def test_what_cannot_be_delivered_is_counted_in_the_next_observation(tmp_path: Path) -> None:
    sender = Sender(tmp_path / "s")
    for number in range(3):
        sender.send(seen(number))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "s"))
        sender.send(seen(3))
        arrived = decode(listener.recv(65_536))
    sender.close()
    assert (arrived.id, arrived.lost) == ("3", 3)


@pytest.mark.parametrize("datagram", [b"", b"{}", b"[1]", b'{"event":"eaten","id":"1","at":0}'])
def test_a_datagram_that_is_no_observation_is_refused(datagram: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decode(datagram)


def test_label_values_are_short_and_printable() -> None:
    assert label("a\nb\u202ec") == "a\ufffdb\ufffdc"
    assert len(label("x" * 10_000)) == 200
