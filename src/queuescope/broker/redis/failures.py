"""Translates errors of redis-py into a ``BrokerError`` whose message may be shown to anyone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import redis
from redis import exceptions

from queuescope.errors import BrokerError, BrokerErrorKind

_SENTENCES = {
    BrokerErrorKind.DOWN: "the broker did not answer: no connection could be made or kept",
    BrokerErrorKind.SLOW: "the broker did not answer in time",
    BrokerErrorKind.LOADING: "the broker is still loading its data from disk",
    BrokerErrorKind.READ_ONLY: "the broker refuses to write: it is a replica, lacks replicas, or "
    "cannot save to its disk",
    BrokerErrorKind.FULL: "the broker refuses to write: its memory is full",
    BrokerErrorKind.NO_PERMISSION: "the broker forbids this to the user of broker_url; "
    "docs/operations.md lists the rights that it needs",
    BrokerErrorKind.AUTHENTICATION: "the broker does not accept the user or password of broker_url",
    BrokerErrorKind.UNUSABLE: "the broker gave an answer that cannot be used",
}
# The first word of the server's answer, where redis-py has no class for it.
_WORDS = {
    "NOREPLICAS": BrokerErrorKind.READ_ONLY,
    "MISCONF": BrokerErrorKind.READ_ONLY,
    "MASTERDOWN": BrokerErrorKind.READ_ONLY,
    "READONLY": BrokerErrorKind.READ_ONLY,
    "OOM": BrokerErrorKind.FULL,
    "NOPERM": BrokerErrorKind.NO_PERMISSION,
    "NOAUTH": BrokerErrorKind.AUTHENTICATION,
    "WRONGPASS": BrokerErrorKind.AUTHENTICATION,
    "LOADING": BrokerErrorKind.LOADING,
}
# The most specific first: redis-py derives the first three from its ConnectionError.
_CLASSES: tuple[tuple[type[Exception], BrokerErrorKind], ...] = (
    (exceptions.BusyLoadingError, BrokerErrorKind.LOADING),
    (exceptions.AuthenticationError, BrokerErrorKind.AUTHENTICATION),
    (exceptions.AuthenticationWrongNumberOfArgsError, BrokerErrorKind.AUTHENTICATION),
    (exceptions.NoPermissionError, BrokerErrorKind.NO_PERMISSION),
    (exceptions.ReadOnlyError, BrokerErrorKind.READ_ONLY),
    (exceptions.MasterDownError, BrokerErrorKind.READ_ONLY),
    # redis-py has this class since version 5; before, the word identifies the error.
    *(
        (known, BrokerErrorKind.FULL)
        for known in (getattr(exceptions, "OutOfMemoryError", None),)
        if known is not None
    ),
    (exceptions.TimeoutError, BrokerErrorKind.SLOW),
    (TimeoutError, BrokerErrorKind.SLOW),
    (exceptions.ConnectionError, BrokerErrorKind.DOWN),
    (OSError, BrokerErrorKind.DOWN),
)
_BREAKS = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
# The request may have reached the server although its answer did not arrive.
_UNANSWERED = frozenset({BrokerErrorKind.SLOW, BrokerErrorKind.DOWN})


@contextmanager
def translated(*, writes: bool = False) -> Iterator[None]:
    """Turn errors of redis-py and the socket into ``BrokerError``.

    ``writes`` marks a block in which a missing answer leaves open whether something was written.
    """
    try:
        yield
    except (redis.RedisError, OSError) as exc:
        kind = kind_of(exc)
        raise BrokerError(
            kind, _SENTENCES[kind], may_have_acted=writes and kind in _UNANSWERED
        ) from exc


def raise_cause(error: Exception) -> NoReturn:
    """Raise redis-py's error, which kombu wraps."""
    cause = error.__cause__
    if isinstance(cause, redis.RedisError | OSError):
        raise cause from error
    raise redis.ConnectionError("no connection") from error


def is_write_conflict(error: redis.WatchError) -> bool:
    """Whether another client wrote the watched key. Redis-py raises the same error if the
    connection breaks, and then it is unknown whether the transaction took effect.
    """
    return not isinstance(error.__context__, _BREAKS)


def is_wrong_type(error: Exception) -> bool:
    """Whether the key holds a value of another type than the command needs."""
    return "WRONGTYPE" in str(error)


def kind_of(error: BaseException) -> BrokerErrorKind:
    if isinstance(error, redis.WatchError) and isinstance(error.__context__, _BREAKS):
        return kind_of(error.__context__)
    for known, kind in _CLASSES:
        if isinstance(error, known):
            return kind
    # In a pipeline, redis-py puts the command before the server's answer.
    answer = str(error).rpartition("caused error: ")[2].replace(":", " ").split()
    # A refused transaction names its cause later in the text: “… because of: NOPERM …”.
    for word in answer if isinstance(error, exceptions.ExecAbortError) else answer[:1]:
        if word in _WORDS:
            return _WORDS[word]
    return BrokerErrorKind.UNUSABLE
