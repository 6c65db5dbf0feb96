"""One job as the history tells it. Needs no database: workers that keep no history load none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from queuescope.jobs.fingerprint import fingerprint

MESSAGE_LIMIT = 1000
LABEL_LIMIT = 255
LATEST = 253_402_300_799.0
"""The end of the year 9999: no moment of a job is later."""


class JobStatus(StrEnum):
    """Where a job stands. ``retrying`` waits for its next attempt.

    ``revoked`` is what somebody did, ``expired`` what was too late when its turn came, ``ignored``
    what set itself aside.

    The others but ``started`` are final, ``lost`` as far as is known: nobody runs the job any
    more and nobody has told its end. News of its worker put that right.
    """

    STARTED = "started"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REVOKED = "revoked"
    EXPIRED = "expired"
    IGNORED = "ignored"
    LOST = "lost"


LOST_WORKER = "WorkerLostError"
"""The error class of an attempt whose worker ended in it, as Celery calls it, too."""

WITH_ERROR = frozenset({JobStatus.FAILED, JobStatus.LOST, JobStatus.RETRYING})


@dataclass(frozen=True, slots=True)
class Job:
    """One job as far as it is known; ``None`` means that it has not happened or was not seen.

    ``status`` is a ``JobStatus``, or what a newer worker has written. ``queue`` is the one that a
    worker took it from, ``routing_key`` what it was sent by, empty where that is not known.
    ``redelivers`` says whether the broker delivers it again should its worker be killed.
    ``deliveries`` is how often in a row a worker began it without telling an end; the store counts
    that by itself.
    """

    id: str
    name: str
    tenant: str
    queue: str
    worker: str
    status: str
    enqueued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    wait_seconds: float | None = None
    runtime_seconds: float | None = None
    attempts: int = 1
    error_class: str = ""
    error_message: str = ""
    routing_key: str = ""
    redelivers: bool | None = None
    deliveries: int = 1

    @property
    def moment(self) -> float:
        """When it ended or, while it runs, when it began; 0 where nobody knows."""
        for at in (self.finished_at, self.started_at, self.enqueued_at):
            if at is not None:
                return at
        return 0.0

    @property
    def fingerprint(self) -> str:
        """What failures of one kind have in common; empty where there is no error."""
        if self.status not in WITH_ERROR:
            return ""
        return fingerprint(self.name, self.error_class, self.error_message)
