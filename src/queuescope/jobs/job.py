"""One job of the history. Needs no database, so workers without a history do not load one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from queuescope.jobs.fingerprint import fingerprint

MESSAGE_LIMIT = 1000
LABEL_LIMIT = 255
LATEST = 253_402_300_799.0
"""The end of the year 9999, the latest time of a job."""


class JobStatus(StrEnum):
    """The status of a job. ``retrying`` waits for its next attempt.

    ``revoked`` by somebody, ``expired`` before it could start, ``ignored`` because it raised
    ``Ignore``.

    All except ``started`` and ``retrying`` are final. ``lost`` is a conclusion: no worker runs the
    job any more, and none recorded its end. A later report of its worker corrects that.
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
"""The error class of an attempt whose worker ended while it ran; Celery uses the same name."""

WITH_ERROR = frozenset({JobStatus.FAILED, JobStatus.LOST, JobStatus.RETRYING})


@dataclass(frozen=True, slots=True)
class Job:
    """One job; a time of ``None`` means that it has not happened or was not seen.

    ``status`` is a ``JobStatus``, or text of a newer worker. ``queue`` is where a worker took it
    from, ``routing_key`` how it was sent, empty if unknown. ``redelivers`` says whether the broker
    delivers it again if its worker is killed. ``deliveries`` is how many times in a row it was
    started without a recorded end; the store counts that.
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
        """When it ended or, while it runs, when it started; 0 if unknown."""
        for at in (self.finished_at, self.started_at, self.enqueued_at):
            if at is not None:
                return at
        return 0.0

    @property
    def order(self) -> tuple[float, float]:
        """Orders the rows of one job: the largest describes its newest attempt. An attempt that
        ended with a retry counts from its start, since the next one may begin, and even end, before
        this end is recorded.
        """
        moment = self.moment
        if self.status == JobStatus.RETRYING and self.started_at is not None:
            return self.started_at, moment
        return moment, moment

    @property
    def fingerprint(self) -> str:
        """See ``fingerprint``; empty without an error."""
        if self.status not in WITH_ERROR:
            return ""
        return fingerprint(self.name, self.error_class, self.error_message)
