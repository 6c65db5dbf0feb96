"""A connection to the broker on which no answer can fill the memory.

The values in a broker may have any size: a message of 300 MB, a hash of ten million fields. Redis
sends the length of an answer first, so an answer that is too long is refused before it is read,
and the connection is closed.
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
"""The longest answer to one command, or to one transaction."""
# The memory that one entry of an answer takes, however short it is.
_ENTRY_BYTES = 64


class ReplyTooLargeError(redis.RedisError):
    """The broker's answer has more than ``REPLY_LIMIT_BYTES``."""


class _BoundedBuffer(SocketBuffer):
    """The parser asks for the position at the start of each answer, which resets the limit."""

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
"""Options that bound the answers of a client of redis-py, in both protocols."""
