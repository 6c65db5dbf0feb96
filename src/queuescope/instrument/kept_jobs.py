"""Keeps the arguments of failed jobs in the broker for an operator's retry, if a project wants it.

Arguments may hold personal data, so none are kept without ``instrument(app, keep_arguments=True)``.
The limits are 16 KiB a job, 10,000 jobs, seven days.
"""

from __future__ import annotations

from collections import deque

from queuescope.broker.protocol import WorkerConnection
from queuescope.broker.requeue import KeptJob, decode_kept_job, encode_kept_job
from queuescope.errors import BrokerError

ARGUMENTS_LIMIT_BYTES = 16_384
JOBS_LIMIT = 10_000
_WAITING_LIMIT = 1000


class KeptJobs:
    """Collects kept jobs in one thread, and writes them in another."""

    def __init__(self, connection: WorkerConnection) -> None:
        self._connection = connection
        self._waiting: deque[KeptJob] = deque(maxlen=_WAITING_LIMIT)

    def add(self, kept: str) -> None:
        """Add a result of ``keep``; while the broker is down, the oldest are dropped."""
        self._waiting.append(decode_kept_job(kept))

    def flush(self) -> None:
        """Write the waiting jobs. Raises ``BrokerError``, after which they still wait."""
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not batch:
            return
        try:
            self._connection.keep_jobs(batch, limit=JOBS_LIMIT)
        except BrokerError:
            self._waiting.extendleft(reversed(batch))
            raise


def keep(job: KeptJob) -> str:
    """``job`` as JSON text; empty if its arguments are not JSON or too large."""
    try:
        raw = encode_kept_job(job)
        # A date, for example, would come back from JSON as text.
        is_same = decode_kept_job(raw) == job
    except (TypeError, ValueError, OverflowError, RecursionError):
        return ""
    return raw.decode("utf-8") if is_same and len(raw) <= ARGUMENTS_LIMIT_BYTES else ""
