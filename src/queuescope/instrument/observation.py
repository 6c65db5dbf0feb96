"""What a process that runs jobs tells the worker's main process, one datagram per event.

Pool children are forked, so they share no memory with the process that serves ``/metrics``. A
Unix datagram socket keeps the order, needs no files that outlive a crash, and works the same for
prefork, thread and solo pools. Every datagram stands for itself: losing one never spoils another.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from enum import StrEnum
from pathlib import Path

import msgspec

ERROR_MESSAGE_LIMIT = 1000
_BACKLOG_LIMIT = 1000


class Event(StrEnum):
    """What happened to an attempt; all but ``started`` end it."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    REVOKED = "revoked"


class Observation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event; times are UTC epoch seconds, ``None`` is unknown.

    ``due_at`` is when this attempt could have begun, ``first_due_at`` when the job's first one
    could have. ``arguments`` is a ``KeptJob`` as JSON, or nothing. ``lost`` counts observations
    that this sender could not deliver before.
    """

    event: Event
    id: str
    at: float
    name: str = ""
    tenant: str = ""
    queue: str = ""
    due_at: float | None = None
    first_due_at: float | None = None
    started_at: float | None = None
    runtime_seconds: float | None = None
    attempt: int = 0
    pid: int = 0
    error_class: str = ""
    error_message: str = ""
    arguments: str = ""
    lost: int = 0


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Observation)


def decode(datagram: bytes) -> Observation:
    """Raises ``ValueError`` when the datagram is not an observation."""
    return _decoder.decode(datagram)


def _encode(observation: Observation) -> bytes:
    try:
        return _encoder.encode(observation)
    except UnicodeEncodeError:
        # A file name that is no text, quoted in an error message, comes as lone surrogates.
        texts = {
            field: value.encode("utf-8", "backslashreplace").decode("utf-8")
            for field in observation.__struct_fields__
            if isinstance(value := getattr(observation, field), str) and field != "event"
        }
        return _encoder.encode(msgspec.structs.replace(observation, **texts))


class Sender:
    """Delivers observations without ever making a job wait.

    When the socket is full, observations wait here, in order, for the next send; beyond
    ``_BACKLOG_LIMIT`` they are lost and counted.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._pid = 0
        self._reset()

    def send(self, observation: Observation) -> None:
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            if len(self._backlog) >= _BACKLOG_LIMIT:
                self._lost += 1
            else:
                self._backlog.append(observation)
            self._deliver()

    def close(self) -> None:
        with self._lock:
            self._socket.close()

    def _reset(self) -> None:
        """A forked child starts afresh: the parent's backlog is the parent's to deliver."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._backlog: deque[Observation] = deque()
        self._lost = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def _deliver(self) -> None:
        while self._backlog:
            oldest = self._backlog[0]
            if self._lost:
                oldest = msgspec.structs.replace(oldest, lost=self._lost)
            try:
                self._socket.sendto(_encode(oldest), self._path)
            except BlockingIOError:
                return
            except OSError:
                # Nobody listens any more: the worker is going down.
                self._lost += len(self._backlog)
                self._backlog.clear()
                return
            self._lost = 0
            self._backlog.popleft()
