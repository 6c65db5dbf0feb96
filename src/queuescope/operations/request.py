"""What is asked for: an operation, its subject, and what the two need to be carried out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Self

import msgspec

from queuescope.errors import RefusalReason, RefusedError
from queuescope.shown_text import is_shown_as_it_is

ALL_QUEUES = "*"
_TEXT_LIMIT = 200
_JOBS_LIMIT = 10_000
_POOL_LIMIT = 1000


class Operation(StrEnum):
    """The strings appear in the audit, on screen and in the addresses of pages."""

    PAUSE = "pause"
    RESUME = "resume"
    PURGE = "purge"
    RESTORE = "restore"
    RETRY = "retry"
    REVOKE = "revoke"
    SCALE = "scale"


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One wish. ``subject`` is a queue (``*`` is all of them), the id of a purge or of a job, or
    a worker; a retry of several jobs has them in ``jobs``. Make one with the functions below,
    which raise ``RefusedError`` for what cannot be meant.
    """

    operation: Operation
    subject: str
    jobs: tuple[str, ...] = ()
    size: int | None = None
    terminate: bool = False

    @classmethod
    def pause(cls, queue: str) -> Self:
        """Let no job of ``queue`` start until it is resumed."""
        return cls(Operation.PAUSE, _text(queue, "queue"))

    @classmethod
    def resume(cls, queue: str) -> Self:
        return cls(Operation.RESUME, _text(queue, "queue"))

    @classmethod
    def purge(cls, queue: str) -> Self:
        """Remove what waits in one queue, after it was exported."""
        if queue == ALL_QUEUES:
            raise RefusedError(RefusalReason.NOT_POSSIBLE, "Queues are purged one at a time.")
        return cls(Operation.PURGE, _text(queue, "queue"))

    @classmethod
    def restore(cls, purge_id: str) -> Self:
        """Put back what a purge removed."""
        return cls(Operation.RESTORE, _text(purge_id, "purge"))

    @classmethod
    def retry(cls, jobs: Sequence[str], *, group: str = "") -> Self:
        """Run failed jobs anew; ``group`` names the failure group that they are."""
        unique = tuple(sorted({_text(job, "job") for job in jobs}))
        if not unique:
            raise RefusedError(RefusalReason.NOTHING_TO_DO, "No job is chosen.")
        if len(unique) > _JOBS_LIMIT:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE, f"At most {_JOBS_LIMIT:,} jobs are retried at a time."
            )
        subject = _text(group, "group") if group else _digest(unique)
        return cls(Operation.RETRY, subject, jobs=unique)

    @classmethod
    def revoke(cls, job: str, *, terminate: bool = False) -> Self:
        """Let a waiting job never start; with ``terminate``, end it where it runs."""
        return cls(Operation.REVOKE, _text(job, "job"), terminate=terminate)

    @classmethod
    def scale(cls, worker: str, size: int) -> Self:
        """Give the pool of ``worker`` so many processes or threads."""
        if not 1 <= size <= _POOL_LIMIT:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE, f"A pool has from 1 to {_POOL_LIMIT:,} places."
            )
        return cls(Operation.SCALE, _text(worker, "worker"), size=size)

    @property
    def is_for_all(self) -> bool:
        """Whether all queues are meant."""
        return self.subject == ALL_QUEUES

    @property
    def target(self) -> str:
        """The thing that changes; one at a time may change it."""
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
        """Whether it must be confirmed by typing: work stops or goes, beyond one click's harm."""
        match self.operation:
            case Operation.PURGE:
                return True
            case Operation.PAUSE:
                return self.is_for_all
            case Operation.REVOKE:
                return self.terminate
            case _:
                return False

    def phrase(self, count: int) -> str:
        """What must be typed to confirm it while so many are touched, such as ``default 42``."""
        return f"{'all queues' if self.is_for_all else self.subject} {count}"

    def is_confirmed_by(self, typed: str, count: int) -> bool:
        """Whether ``typed`` is its phrase, where one is asked for; blanks around do not count."""
        return not self.is_destructive or typed.strip() == self.phrase(count)

    def words(self) -> str:
        """The wish as a person would say it, such as ``purge queue default``."""
        match self.operation:
            case Operation.SCALE:
                return f"scale {self.target} to {self.size}"
            case Operation.REVOKE if self.terminate:
                return f"end {self.target}"
            case _:
                return f"{self.operation} {self.target}"


def _text(value: str, noun: str) -> str:
    # What a person confirms must be what they see.
    is_seen = value.isprintable() and is_shown_as_it_is(value) and value == value.strip()
    if not value or len(value) > _TEXT_LIMIT or not is_seen:
        raise RefusedError(RefusalReason.NOT_POSSIBLE, f"This is not the name of a {noun}.")
    return value


def _digest(jobs: Sequence[str]) -> str:
    joined = "\n".join(jobs).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:16]
