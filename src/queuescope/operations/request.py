"""A request for an operation, and its plan."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import msgspec

from queuescope.errors import RefusalReason, RefusedError
from queuescope.shown_text import is_fully_visible

ALL_QUEUES = "*"
_TEXT_LIMIT = 200
_JOBS_LIMIT = 10_000
_POOL_LIMIT = 1000
_GROWTH_JOBS = 10
_GROWTH_RATIO = 0.1


class Operation(StrEnum):
    """The kinds of operations; the strings appear in the audit, on screen and in addresses."""

    PAUSE = "pause"
    RESUME = "resume"
    PURGE = "purge"
    RESTORE = "restore"
    RETRY = "retry"
    REVOKE = "revoke"
    SCALE = "scale"


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One operation on one thing. ``subject`` is a queue (``*`` is all of them), the id of a purge
    or of a job, or a worker; a retry has its jobs in ``jobs``. Make one with the functions below,
    which raise ``RefusedError`` for invalid values.
    """

    operation: Operation
    subject: str
    jobs: tuple[str, ...] = ()
    size: int | None = None
    terminate: bool = False

    @classmethod
    def pause(cls, queue: str) -> Self:
        """Keep the jobs of ``queue`` from starting until it is resumed."""
        return cls(Operation.PAUSE, _text(queue, "queue"))

    @classmethod
    def resume(cls, queue: str) -> Self:
        return cls(Operation.RESUME, _text(queue, "queue"))

    @classmethod
    def purge(cls, queue: str) -> Self:
        """Move the waiting jobs of one queue into a file."""
        if queue == ALL_QUEUES:
            raise RefusedError(RefusalReason.NOT_POSSIBLE, "Queues are purged one at a time.")
        return cls(Operation.PURGE, _text(queue, "queue"))

    @classmethod
    def restore(cls, purge_id: str) -> Self:
        """Put back the jobs that a purge removed."""
        return cls(Operation.RESTORE, _text(purge_id, "purge"))

    @classmethod
    def retry(cls, jobs: Sequence[str], *, group: str = "") -> Self:
        """Send failed jobs again; ``group`` names their failure group."""
        unique = tuple(sorted({_text(job, "job") for job in jobs}))
        if not unique:
            raise RefusedError(RefusalReason.NOTHING_TO_DO, "No job is selected.")
        if len(unique) > _JOBS_LIMIT:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE, f"At most {_JOBS_LIMIT:,} jobs are retried at a time."
            )
        subject = _text(group, "group") if group else _digest(unique)
        return cls(Operation.RETRY, subject, jobs=unique)

    @classmethod
    def revoke(cls, job: str, *, terminate: bool = False) -> Self:
        """Keep a waiting job from starting; with ``terminate``, end it where it runs."""
        return cls(Operation.REVOKE, _text(job, "job"), terminate=terminate)

    @classmethod
    def scale(cls, worker: str, size: int) -> Self:
        """Set the pool of ``worker`` to ``size`` processes."""
        if not 1 <= size <= _POOL_LIMIT:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE,
                f"The size of a pool must be from 1 to {_POOL_LIMIT:,}.",
            )
        return cls(Operation.SCALE, _text(worker, "worker"), size=size)

    @property
    def is_for_all(self) -> bool:
        """Whether it applies to all queues."""
        return self.subject == ALL_QUEUES

    @property
    def target(self) -> str:
        """The thing that changes; only one operation at a time may change it."""
        match self.operation:
            case Operation.PAUSE | Operation.RESUME | Operation.PURGE:
                return "all queues" if self.is_for_all else f"queue {self.subject}"
            case Operation.RESTORE:
                return f"purge {self.subject}"
            case Operation.RETRY:
                return f"jobs {self.subject}"
            case Operation.REVOKE:
                return f"job {self.subject}"
            case Operation.SCALE:
                return f"worker {self.subject}"

    @property
    def is_destructive(self) -> bool:
        """Whether it must be confirmed by typing, since it stops or removes work."""
        match self.operation:
            case Operation.PURGE:
                return True
            case Operation.PAUSE:
                return self.is_for_all
            case Operation.REVOKE:
                return self.terminate
            case _:
                return False

    def require_known(self, queues: Collection[str]) -> None:
        """Raises ``RefusedError`` unless its queue is among ``queues``."""
        if self.subject not in queues:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE,
                f"Queue {self.subject} is not known from any worker or setting.",
            )

    def words(self) -> str:
        """The request in words, such as ``purge queue default``."""
        match self.operation:
            case Operation.SCALE:
                return f"scale {self.target} to {self.size}"
            case Operation.REVOKE if self.terminate:
                return f"end {self.target}"
            case _:
                return f"{self.operation} {self.target}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request affected when it was planned, and the challenge to carry it out.

    ``count`` is how many things it affected, ``revision`` that of its target. ``token`` confirms it
    once, until ``expires_at_ms`` (epoch milliseconds). ``warning`` says what is risky about
    it, in sentences; may be empty.
    """

    request: Request
    count: int
    revision: int
    expires_at_ms: int
    token: str
    warning: str = ""

    @property
    def phrase(self) -> str:
        """The text to be typed to confirm it, such as ``default 42``; empty if none is needed."""
        if not self.request.is_destructive and not self.warning:
            return ""
        subject = "all queues" if self.request.is_for_all else self.request.subject
        return f"{subject} {self.count}"

    def is_confirmed_by(self, typed: str) -> bool:
        """Whether ``typed`` is the phrase, if one is needed; surrounding blanks are ignored."""
        return typed.strip() == self.phrase or not self.phrase

    def require_confirmed(self, typed: str) -> None:
        """Raises ``RefusedError`` unless ``typed`` confirms it."""
        if self.is_confirmed_by(typed):
            return
        words = f"To confirm, type “{self.phrase}”"
        words = f"{self.warning} {words}." if self.warning else f"{words} exactly as shown."
        raise RefusedError(RefusalReason.WRONG_PHRASE, words)

    def require_not_grown(self, count: int) -> None:
        """Raises ``RefusedError`` if ``count``, the present one, is far above the planned one."""
        if count > self.count + max(_GROWTH_JOBS, _GROWTH_RATIO * self.count):
            raise RefusedError(
                RefusalReason.GROWN,
                f"There were {self.count:,} and are now {count:,}; check again before you confirm.",
            )


def _text(value: str, noun: str) -> str:
    # People must see exactly what they confirm.
    is_seen = value.isprintable() and is_fully_visible(value) and value == value.strip()
    if not value or len(value) > _TEXT_LIMIT or not is_seen:
        raise RefusedError(RefusalReason.NOT_POSSIBLE, f"This is not the name of a {noun}.")
    return value


def _digest(jobs: Sequence[str]) -> str:
    joined = "\n".join(jobs).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:16]
