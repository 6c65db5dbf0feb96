"""Operations on jobs and workers: retry, revoke, scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from queuescope.broker.fleet import Fleet
from queuescope.broker.protocol import Broker
from queuescope.broker.reports import QUEUES_LIMIT
from queuescope.broker.requeue import RetryAnswer, decisive_answer
from queuescope.broker.worker import Worker
from queuescope.errors import (
    BrokerError,
    JobStoreError,
    OutcomeUnknownError,
    RefusalReason,
    RefusedError,
)
from queuescope.operations.audit import Outcome, Result
from queuescope.operations.request import Request
from queuescope.operations.retries import NO_WORKER_CAN_RETRY, known_queues, should_ask
from queuescope.words import counted

ReadFleet = Callable[[], Fleet]
"""The workers as they report; raises ``BrokerError``."""

_NAMED_LIMIT = 3
"""How many kinds of jobs are named that no worker could send again."""
_TRY_ANOTHER = (RetryAnswer.NOT_MINE, RetryAnswer.NOT_KEPT)
"""After these answers another worker is asked."""
_NOT_SENT = (*_TRY_ANOTHER, RetryAnswer.FAILED)


class JobClaims(Protocol):
    """The part of the job history that a retry needs: ``queuescope.jobs.store.JobStore``.

    The methods raise ``JobStoreError``.
    """

    def claim(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Make failed jobs retrying; returns id → name of those that this call changed."""

    def queues_of(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """The queue or routing key of each job, by id; it may be cut or empty."""

    def release(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Make claimed jobs failed again."""


@dataclass(frozen=True, slots=True)
class _WorkerGroup:
    """``count`` workers of one name, which all receive one command. ``queues`` are those that they
    serve, named as in the history; with ``serves_more`` the report may not name all.
    """

    name: str
    count: int
    queues: frozenset[str]
    serves_more: bool


class RetryJobs:
    """Sends failed jobs again, with application code in one of the workers.

    A job is claimed in the history before it is sent, so that only one of two retries gets it. A
    claimed job that may have been sent stays claimed, so that none is sent twice.

    Several projects may share a broker, so the workers that serve the queue of a job are asked one
    after the other until one answers that the job belongs to its project.
    """

    def __init__(self, claims: JobClaims, broker: Broker, fleet: ReadFleet) -> None:
        self._claims = claims
        self._broker = broker
        self._fleet = fleet

    def count(self, request: Request) -> int:
        self._groups()
        return len(request.jobs)

    def carry_out(self, request: Request, operation_id: str) -> Outcome:
        groups, reported = self._groups()
        queues = self._claims.queues_of(request.jobs)
        claimed = dict(self._claims.claim(request.jobs))
        if not claimed:
            raise RefusedError(
                RefusalReason.NOTHING_TO_DO,
                "None of these jobs is failed any more: they were retried already.",
            )
        answers: dict[str, RetryAnswer] = {}
        refusal: BrokerError | RefusedError | None = None
        for group in groups:
            own = [
                (job, name)
                for job, name in sorted(claimed.items())
                if answers.get(job, RetryAnswer.NOT_MINE) in _TRY_ANOTHER
                and should_ask(
                    queues.get(job, ""), group.queues, reported, serves_more=group.serves_more
                )
            ]
            if not own:
                continue
            try:
                replies = self._broker.requeue(
                    group.name, own, operation_id, queues=queues, same_name_count=group.count
                )
            except (BrokerError, RefusedError) as exc:
                if isinstance(exc, BrokerError) and exc.may_have_acted:
                    if not answers:
                        self._release(claimed.keys() - dict(own).keys(), str(exc))
                        raise
                    answers |= {job: RetryAnswer.UNKNOWN for job, _ in own}
                refusal = exc
                if isinstance(exc, BrokerError):
                    break
                continue
            for job, answer in replies.items():
                answers[job] = decisive_answer((answer, answers.get(job, answer)))
        if refusal is not None and not answers:
            self._release(claimed, str(refusal))
            raise refusal
        # A worker that refused might have known the remaining jobs.
        rest = RetryAnswer.NOT_MINE if refusal is None else RetryAnswer.FAILED
        answers = {job: answers.get(job, rest) for job in claimed}
        unsent = [job for job, answer in answers.items() if answer in _NOT_SENT]
        self._release(unsent, "some were not sent")
        unknown = {
            (name, queues.get(job, ""))
            for job, name in claimed.items()
            if answers[job] is RetryAnswer.NOT_MINE
        }
        return _outcome(Counter(answers.values()), len(request.jobs) - len(claimed), unknown)

    def _release(self, jobs: Iterable[str], reason: str) -> None:
        try:
            self._claims.release(jobs)
        except JobStoreError as exc:
            raise OutcomeUnknownError(
                f"Not all jobs were sent ({reason}), and {exc}: "
                "the history shows those as retrying."
            ) from exc

    def _groups(self) -> tuple[list[_WorkerGroup], frozenset[str]]:
        """The workers that can send jobs again, the idlest first, and every queue that any worker
        reports.
        """
        alive = self._fleet().alive
        able = [worker for worker in alive if worker.report.retries]
        if not able:
            raise RefusedError(RefusalReason.NOT_POSSIBLE, NO_WORKER_CAN_RETRY)
        able.sort(
            key=lambda worker: (
                worker.report.shutting_down_at is not None,
                worker.report.active_count,
            )
        )
        named: dict[str, list[Worker]] = {worker.name: [] for worker in able}
        for worker in alive:
            if worker.name in named:
                named[worker.name].append(worker)
        return [_group(name, workers) for name, workers in named.items()], _queues(alive)


class RevokeJob:
    """Keeps a job from starting anywhere, or ends it where it runs."""

    def __init__(self, broker: Broker, fleet: ReadFleet) -> None:
        self._broker = broker
        self._fleet = fleet

    def count(self, request: Request) -> int:
        worker = self._fleet().running(request.subject)
        if request.terminate and worker is not None and (why := worker.cannot_end):
            raise RefusedError(RefusalReason.NOT_POSSIBLE, why)
        if request.terminate and worker is None:
            raise RefusedError(
                RefusalReason.NOTHING_TO_DO, "No worker reports that it runs this job."
            )
        if worker is not None and not request.terminate:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE,
                worker.cannot_end
                or f"Worker {worker.name} already runs this job; it can be ended.",
            )
        return 1

    def carry_out(self, request: Request, operation_id: str) -> Outcome:  # noqa: ARG002 - the job's id holds
        worker = self._fleet().running(request.subject)
        self._broker.revoke([request.subject])
        try:
            answered = self._broker.announce_revoked([request.subject], terminate=request.terminate)
        except BrokerError as exc:
            if request.terminate:
                raise OutcomeUnknownError(f"The job was revoked, but {exc}.") from exc
            # The revocation is stored in the broker, where every worker reads it.
            answered = ()
        if request.terminate and worker is None:
            raise OutcomeUnknownError(
                "The job will not start again, but no worker reports it as running any more."
            )
        if request.terminate and worker is not None:
            if worker.name not in answered:
                raise OutcomeUnknownError(
                    f"The job will not start again, but worker {worker.name} did not confirm that "
                    "it ended it."
                )
            return Outcome(Result.DONE, f"Worker {worker.name} ends the job.", 1)
        return Outcome(Result.DONE, "The job will not start in any worker.", 1)


class ScalePool:
    """Sets the size of a worker's pool."""

    def __init__(self, broker: Broker, fleet: ReadFleet) -> None:
        self._broker = broker
        self._fleet = fleet

    def count(self, request: Request) -> int:
        """The present size."""
        fleet = self._fleet()
        worker = fleet.get(request.subject)
        if worker is None or not worker.is_alive:
            raise RefusedError(
                RefusalReason.NOT_POSSIBLE, f"No worker {request.subject} is running."
            )
        if why := fleet.cannot_scale(worker):
            raise RefusedError(RefusalReason.NOT_POSSIBLE, why)
        if worker.report.pool_size == request.size:
            raise RefusedError(
                RefusalReason.NOTHING_TO_DO, f"The size of the pool is already {request.size}."
            )
        return worker.report.pool_size

    def carry_out(self, request: Request, operation_id: str) -> Outcome:  # noqa: ARG002 - a size, not a step
        if request.size is None:
            raise RefusedError(RefusalReason.NOT_POSSIBLE, "No size was given.")
        scaled = self._broker.scale(request.subject, request.size)
        words = f"The pool went from {scaled.before} to {scaled.after} processes."
        if scaled.after != request.size:
            words += " Busy processes stay until their job has ended; scale again then."
        return Outcome(Result.DONE, words, scaled.after)


def _group(name: str, workers: list[Worker]) -> _WorkerGroup:
    is_cut = any(len(worker.report.queues) >= QUEUES_LIMIT for worker in workers)
    return _WorkerGroup(name, len(workers), _queues(workers), serves_more=is_cut)


def _queues(workers: Iterable[Worker]) -> frozenset[str]:
    return known_queues(name for worker in workers for name in worker.report.queues)


def _outcome(
    answers: Counter[RetryAnswer], not_failed: int, unknown: Iterable[tuple[str, str]]
) -> Outcome:
    """The outcome of a retry; ``unknown`` are types and queues of jobs that no worker knew. Raises
    ``OutcomeUnknownError`` if that of any job is unknown.
    """
    sent = answers[RetryAnswer.SENT] + answers[RetryAnswer.ALREADY]
    words = [f"{counted(sent, 'job was', 'jobs were')} sent again."]
    if not_failed:
        words.append(f"{not_failed:,} were no longer failed.")
    if answers[RetryAnswer.NOT_KEPT]:
        words.append(f"The arguments of {answers[RetryAnswer.NOT_KEPT]:,} are not kept.")
    if answers[RetryAnswer.FAILED]:
        words.append(f"{answers[RetryAnswer.FAILED]:,} could not be sent.")
    if answers[RetryAnswer.NOT_MINE]:
        words.append(_unknown_words(answers[RetryAnswer.NOT_MINE], sorted(unknown)))
    if answers[RetryAnswer.UNKNOWN]:
        words.append(
            f"For {answers[RetryAnswer.UNKNOWN]:,} it is unknown; they are shown as retrying."
        )
        raise OutcomeUnknownError(" ".join(words))
    if not sent:
        raise RefusedError(RefusalReason.NOT_POSSIBLE, " ".join(words[1:]))
    return Outcome(Result.DONE, " ".join(words), sent)


def _unknown_words(count: int, kinds: list[tuple[str, str]]) -> str:
    named = [
        f"{name} from queue {queue}" if queue else name for name, queue in kinds[:_NAMED_LIMIT]
    ]
    if len(kinds) > _NAMED_LIMIT:
        named.append(counted(len(kinds) - _NAMED_LIMIT, "more kind"))
    return (
        f"{count:,} could not be sent: no running worker that serves the queue and can send jobs "
        f"again knows jobs of type {', '.join(named)}."
    )
