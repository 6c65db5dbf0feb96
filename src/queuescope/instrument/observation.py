"""An observation of a job: one event of one attempt."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from queuescope.broker.clock import CLOCK_OFF_SECONDS

ERROR_MESSAGE_LIMIT = 1000
UNKNOWN_JOB_TYPE = "UnknownJobType"
INVALID_MESSAGE = "InvalidMessage"


class Event(StrEnum):
    """What happened to an attempt; all but ``started`` end it.

    ``ignored`` means that the job raised ``Ignore``. ``replaced`` is not an outcome: the job
    continues under its id as another one.
    """

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    REVOKED = "revoked"
    EXPIRED = "expired"
    IGNORED = "ignored"
    REPLACED = "replaced"


class Observation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event; times are UTC epoch seconds, ``None`` is unknown.

    ``due_at`` is when this attempt could have started, ``first_due_at`` when the job's first
    attempt could have. ``queue`` is where a worker took the message from, ``routing_key`` how it
    was sent; both are cut like metric labels. ``redelivers`` says whether the broker delivers the
    message again if the worker is killed, ``is_redelivered`` whether it has been delivered before,
    to a worker that was killed or returned it.
    """

    event: Event
    id: str
    at: float
    name: str = ""
    tenant: str = ""
    queue: str = ""
    routing_key: str = ""
    redelivers: bool | None = None
    is_redelivered: bool = False
    due_at: float | None = None
    first_due_at: float | None = None
    started_at: float | None = None
    runtime_seconds: float | None = None
    attempt: int = 0
    error_class: str = ""
    error_message: str = ""

    @property
    def wait_seconds(self) -> float | None:
        """From when this attempt was due until it started."""
        return _seconds_since(self.due_at, self.started_at)

    @property
    def latency_seconds(self) -> float | None:
        """From when the job was first due until this event."""
        return _seconds_since(self.first_due_at, self.at)


def _seconds_since(due_at: float | None, at: float | None) -> float | None:
    """Seconds from ``due_at`` to ``at``; ``None`` if the sender's clock is off."""
    if due_at is None or at is None or at - due_at <= -CLOCK_OFF_SECONDS:
        return None
    return max(0.0, at - due_at)
