"""The whole exception tree.

    QueuescopeError
    ├── ConfigurationError      a setting, panel file or argument is wrong
    │   └── UnsupportedBrokerError  the broker is of a kind that is not supported yet
    ├── SourceError             Prometheus did not give a usable answer (see SourceErrorKind)
    ├── BrokerError             the broker did not give a usable answer (see BrokerErrorKind)
    │   └── DamagedError        one of its values is damaged; the rest of the broker is usable
    ├── JobStoreError           the job history could not be read or written (see StoreErrorKind)
    ├── OperationError          an operation was not, or perhaps not, carried out
    │   ├── RefusedError        it was not allowed, and nothing was done (see RefusalReason)
    │   ├── AuditError          the audit cannot be read or written; without it nothing is done
    │   ├── PurgeError          the file of a purge cannot be written or read; nothing is lost
    │   └── OutcomeUnknownError it was requested, and its outcome is unknown
    ├── InternalError           a part of Queuescope had an internal error
    └── DemoError               the local stack could not be set up or kept running

Exceptions of libraries are translated once, where the library is called, with
``raise … from exc``. Only the dashboard and the command line show these to people.
"""

from __future__ import annotations

from enum import StrEnum


class QueuescopeError(Exception):
    """The root: everything that Queuescope raises deliberately.

    ``str(error)`` is a sentence that may be shown, ``kind`` the stable name of the failure, if it
    has one, and ``detail`` is for the log.
    """

    kind: str = ""
    detail: str = ""


class ConfigurationError(QueuescopeError):
    """The configuration is wrong; the message names the thing, the place and the remedy."""

    kind = "configuration"


class UnsupportedBrokerError(ConfigurationError):
    """The broker is of a kind that Celery supports and Queuescope does not."""


class SourceErrorKind(StrEnum):
    """Why Prometheus gave no usable answer; the strings appear on screen, in logs and metrics."""

    CANNOT_CONNECT = "cannot_connect"
    TIMEOUT = "timeout"
    DECODE = "decode"
    TOO_LARGE = "too_large"
    NOT_PROMETHEUS = "not_prometheus"
    AUTHENTICATION = "authentication"
    BUSY = "busy"
    BAD_DATA = "bad_data"
    EXECUTION = "execution"
    SERVER_ERROR = "server_error"


class SourceError(QueuescopeError):
    """Prometheus did not give a usable answer.

    ``str(error)`` is one plain sentence that may be shown to anyone: it never holds the URL, a
    credential or raw upstream text. ``detail`` is for the log.
    """

    def __init__(
        self,
        kind: SourceErrorKind,
        message: str,
        *,
        detail: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: SourceErrorKind = kind
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


class BrokerErrorKind(StrEnum):
    """Why the broker gave no usable answer; the strings appear on screen, in logs and metrics."""

    DOWN = "down"
    SLOW = "slow"
    LOADING = "loading"
    READ_ONLY = "read_only"
    FULL = "full"
    NO_PERMISSION = "no_permission"
    AUTHENTICATION = "authentication"
    UNUSABLE = "unusable"


class BrokerError(QueuescopeError):
    """The broker did not give a usable answer.

    ``str(error)`` is one plain sentence that may be shown to anyone: it never holds the address, a
    credential or raw upstream text. With ``may_have_acted`` it is unknown whether a write took
    effect; otherwise it had none.
    """

    def __init__(
        self, kind: BrokerErrorKind, message: str, *, may_have_acted: bool = False
    ) -> None:
        super().__init__(message)
        self.kind: BrokerErrorKind = kind
        self.may_have_acted = may_have_acted


class DamagedError(BrokerError):
    """The value of one key in the broker is damaged; the rest of the broker is usable."""

    def __init__(self, message: str) -> None:
        super().__init__(BrokerErrorKind.UNUSABLE, message)


class StoreErrorKind(StrEnum):
    """Why a database gave no usable answer; the strings may appear on screen and in logs."""

    DOWN = "down"
    SLOW = "slow"
    LOCKED = "locked"
    READ_ONLY = "read_only"
    NO_PERMISSION = "no_permission"
    NOT_OURS = "not_ours"
    UNUSABLE = "unusable"


class JobStoreError(QueuescopeError):
    """The job history could not be read or written.

    ``str(error)`` names the database and its host or file; it never contains a user, a password or
    raw upstream text.
    """

    def __init__(self, message: str, kind: StoreErrorKind = StoreErrorKind.UNUSABLE) -> None:
        super().__init__(message)
        self.kind: StoreErrorKind = kind


class OperationError(QueuescopeError):
    """An operation was not, or perhaps not, carried out; the message may be shown to anyone."""


class RefusalReason(StrEnum):
    """Why an operation was refused; the strings appear in the audit and in logs."""

    NO_RIGHT = "no_right"
    IDENTITY_EXPIRED = "identity_expired"
    CHALLENGE_UNKNOWN = "challenge_unknown"
    CHALLENGE_USED = "challenge_used"
    CHALLENGE_EXPIRED = "challenge_expired"
    CHALLENGE_FOREIGN = "challenge_foreign"
    WRONG_TARGET = "wrong_target"
    WRONG_PHRASE = "wrong_phrase"
    GROWN = "grown"
    OVERTAKEN = "overtaken"
    UNDERWAY = "underway"
    NOTHING_TO_DO = "nothing_to_do"
    NOT_POSSIBLE = "not_possible"


class RefusedError(OperationError):
    """An operation was not allowed, and nothing was done."""

    def __init__(self, reason: RefusalReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class AuditError(OperationError):
    """The audit cannot be read or written; without it nothing is done."""


class PurgeError(OperationError):
    """The file of a purge cannot be written or read; nothing is lost."""


class OutcomeUnknownError(OperationError):
    """An operation was requested, and its outcome is unknown."""


class InternalError(QueuescopeError):
    """A part of Queuescope had an internal error; the log has its details."""


class DemoError(QueuescopeError):
    """The local stack could not be set up or kept running."""
