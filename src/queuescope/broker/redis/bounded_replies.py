"""A connection to the broker on which no answer fills the memory.

What lies in a broker may be of any size: a message of 300 MB, a hash of ten million fields. Redis
tells the length of an answer before the answer, so one that is too long is refused there, and the
connection is given up instead of being read on.
"""

from __future__ import annotations

from typing import Any

import redis

try:
    from redis._parsers.resp2 import _RESP2Parser
    from redis._parsers.socket import SocketBuffer
except ModuleNotFoundError:  # before redis-py 5
    from redis.connection import (  # type: ignore[attr-defined,no-redef]
        PythonParser as _RESP2Parser,
    )
    from redis.connection import SocketBuffer  # type: ignore[attr-defined,no-redef]

REPLY_LIMIT_BYTES = 16 * 2**20
"""An answer to one command, or to one transaction, is not longer."""
# What one entry of an answer costs in our memory, however short it is.
_ENTRY_BYTES = 64


class ReplyTooLargeError(redis.RedisError):
    """The broker began an answer of more than ``REPLY_LIMIT_BYTES``."""


class _BoundedBuffer(SocketBuffer):
    """Each answer begins by asking for the position, which sets what may be read of it."""

    _left = REPLY_LIMIT_BYTES

    def get_pos(self) -> int:
        self._left = REPLY_LIMIT_BYTES
        return super().get_pos()

    def read(self, length: int, *arguments: Any, **options: Any) -> bytes:
        self._spend(length)
        return super().read(length, *arguments, **options)

    def readline(self, *arguments: Any, **options: Any) -> bytes:
        self._spend(_ENTRY_BYTES)
        return super().readline(*arguments, **options)

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ReplyTooLargeError("the broker's answer is too large to be read")


def _on_connect(connection: Any) -> None:
    connection.on_connect()
    parser = connection._parser  # noqa: SLF001 - redis-py has no bound of its own
    parser._buffer = _BoundedBuffer(  # noqa: SLF001
        connection._sock,  # noqa: SLF001
        connection._socket_read_size,  # noqa: SLF001
        connection.socket_timeout,
    )


OPTIONS: dict[str, Any] = {"parser_class": _RESP2Parser, "redis_connect_func": _on_connect}
"""What makes of a client of redis-py one whose answers are bounded, in both protocols."""
