"""The arguments of failed jobs, kept in the broker for an operator's retry, if a project wants it.

Arguments may hold personal data, so nothing is kept unless ``instrument(app, keep_arguments=True)``
says so. What is kept is bounded: 16 KiB a job, 10,000 jobs, seven days.
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
    """Takes in kept jobs from one thread, and writes them from another when it is told to."""

    def __init__(self, connection: WorkerConnection) -> None:
        self._connection = connection
        self._waiting: deque[KeptJob] = deque(maxlen=_WAITING_LIMIT)

    def add(self, kept: str) -> None:
        """Take in what ``keep`` gave; while the broker is down, the oldest are let go."""
        self._waiting.append(decode_kept_job(kept))

    def flush(self) -> None:
        """Write what waits. Raises ``BrokerError``; then it waits on."""
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not batch:
            return
        try:
            self._connection.keep_jobs(batch, limit=JOBS_LIMIT)
        except BrokerError:
            self._waiting.extendleft(reversed(batch))
            raise


def keep(job: KeptJob) -> str:
    """A job as text to be kept, or nothing when its arguments are no JSON or too large."""
    try:
        raw = encode_kept_job(job)
        # What JSON cannot hold as it is, such as a date, would come back as another thing.
        is_same = decode_kept_job(raw) == job
    except (TypeError, ValueError, OverflowError, RecursionError):
        return ""
    return raw.decode("utf-8") if is_same and len(raw) <= ARGUMENTS_LIMIT_BYTES else ""
