"""How operations on jobs and workers are carried out: retry, revoke, scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from queuescope.errors import (
    BrokerError,
    JobStoreError,
    OutcomeUnknownError,
    RefusalReason,
    RefusedError,
)
from queuescope.heartbeats import RetryAnswer
from queuescope.operations.broker import RedisBroker
from queuescope.operations.commands import WorkerCommands
from queuescope.operations.control import Done
from queuescope.operations.request import Request
from queuescope.operations.workers import Fleet

ReadFleet = Callable[[], Fleet]
"""The workers as they report; raises ``BrokerError``."""


class JobClaims(Protocol):
    """What a retry needs of the job history: ``queuescope.jobs.store.JobStore``.

    The methods raise ``JobStoreError``.
    """

    def claim(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Make failed jobs retrying; returns id → name of those that this call has changed."""

    def release(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Make claimed jobs failed again."""


class RetryJobs:
    """Sends failed jobs again, by application code in one of the workers.

    A job is claimed in the history before it is sent, so of two retries one has it. What was
    claimed and may have been sent stays claimed: nothing is sent twice to be on the safe side.
    """

    def __init__(self, claims: JobClaims, commands: WorkerCommands, fleet: ReadFleet) -> None:
        self._claims = claims
        self._commands = commands
        self._fleet = fleet

    def count(self, request: Request) -> int:
        self._worker()
        return len(request.jobs)

    def carry_out(self, request: Request, act: str) -> Done:
        worker = self._worker()
        claimed = dict(self._claims.claim(request.jobs))
        if not claimed:
            raise RefusedError(
                RefusalReason.NOTHING_TO_DO,
                "None of these jobs is failed any more: somebody else has retried them.",
            )
        try:
            answers = self._commands.retry(worker, sorted(claimed.items()), act)
        except BrokerError as exc:
            if exc.may_have_acted:
                raise
            self._release(claimed, str(exc))
            raise
        except RefusedError as exc:
            self._release(claimed, str(exc))
            raise
        unsent = [
            job for job in claimed if answers.get(job) in (RetryAnswer.NOT_KEPT, RetryAnswer.FAILED)
        ]
        self._release(unsent, "some were not sent")
        return _told(Counter(answers.values()), len(request.jobs) - len(claimed))

    def _release(self, jobs: Iterable[str], reason: str) -> None:
        try:
            self._claims.release(jobs)
        except JobStoreError as exc:
            raise OutcomeUnknownError(
                f"Not all jobs were sent ({reason}), and {exc}: "
                "those stand as retrying in the history."
            ) from exc

    def _worker(self) -> str:
        """One that can send jobs again: the idlest."""
        able = [worker for worker in self._fleet().alive if worker.report.retries]
        if not able:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE,
                "No running worker can send jobs again; instrument(app, retry=…) or "
                "instrument(app, keep_arguments=True) lets it.",
            )
        return min(able, key=lambda worker: worker.report.active_count).name


class RevokeJob:
    """Lets a job not start anywhere, or ends it where it runs."""

    def __init__(self, broker: RedisBroker, commands: WorkerCommands, fleet: ReadFleet) -> None:
        self._broker = broker
        self._commands = commands
        self._fleet = fleet

    def count(self, request: Request) -> int:
        runs_at = self._runs_at(request.subject)
        if request.terminate and not runs_at:
            raise RefusedError(
                RefusalReason.NOTHING_TO_DO, "No worker reports that it runs this job."
            )
        if runs_at and not request.terminate:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE,
                f"Worker {runs_at} runs this job already; it can be ended.",
            )
        return 1

    def carry_out(self, request: Request, act: str) -> Done:  # noqa: ARG002 - the job's id holds
        runs_at = self._runs_at(request.subject)
        self._broker.revoke([request.subject])
        try:
            answered = self._commands.revoke([request.subject], terminate=request.terminate)
        except BrokerError as exc:
            if request.terminate:
                raise OutcomeUnknownError(f"The job was revoked, but {exc}.") from exc
            # The revocation is in the broker, where every worker reads it.
            answered = ()
        if request.terminate and runs_at not in answered:
            raise OutcomeUnknownError(
                f"The job will not start again, but worker {runs_at} did not say that it ended it."
            )
        if request.terminate:
            return Done(1, f"Worker {runs_at} was told to end the job.")
        return Done(1, "The job will not start in any worker.")

    def _runs_at(self, job: str) -> str:
        for worker in self._fleet().alive:
            if any(active.id == job for active in worker.report.active):
                return worker.name
        return ""


class ScalePool:
    """Gives a worker's pool another size."""

    def __init__(self, commands: WorkerCommands, fleet: ReadFleet) -> None:
        self._commands = commands
        self._fleet = fleet

    def count(self, request: Request) -> int:
        """The size now."""
        worker = self._fleet().get(request.subject)
        if worker is None or not worker.is_alive:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE, f"No worker {request.subject} is running."
            )
        if worker.report.pool_size == request.size:
            raise RefusedError(
                RefusalReason.NOTHING_TO_DO, f"The pool has {request.size} places already."
            )
        return worker.report.pool_size

    def carry_out(self, request: Request, act: str) -> Done:  # noqa: ARG002 - a size, not a step
        if request.size is None:
            raise RefusedError(RefusalReason.NOT_POSSIBLE, "No size was named.")
        scaled = self._commands.scale(request.subject, request.size)
        words = f"The pool went from {scaled.before} to {scaled.after} places."
        if scaled.after != request.size:
            words += " Busy processes stay until their job has ended; ask again then."
        return Done(scaled.after, words)


def _told(answers: Counter[RetryAnswer], not_failed: int) -> Done:
    """The result of a retry in a sentence. Raises ``OutcomeUnknownError`` if any is unknown."""
    sent = answers[RetryAnswer.SENT] + answers[RetryAnswer.ALREADY]
    words = [f"{sent:,} jobs were sent again."]
    if not_failed:
        words.append(f"{not_failed:,} were no longer failed.")
    if answers[RetryAnswer.NOT_KEPT]:
        words.append(f"Of {answers[RetryAnswer.NOT_KEPT]:,} the arguments are not kept.")
    if answers[RetryAnswer.FAILED]:
        words.append(f"{answers[RetryAnswer.FAILED]:,} could not be sent.")
    if answers[RetryAnswer.UNKNOWN]:
        words.append(
            f"Of {answers[RetryAnswer.UNKNOWN]:,} it is not known; they stand as retrying."
        )
        raise OutcomeUnknownError(" ".join(words))
    if not sent:
        raise RefusedError(RefusalReason.NOT_POSSIBLE, " ".join(words[1:]))
    return Done(sent, " ".join(words))
