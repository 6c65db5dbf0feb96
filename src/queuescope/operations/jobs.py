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
from queuescope.operations.retries import NOBODY, known_queues, may_know
from queuescope.words import counted

ReadFleet = Callable[[], Fleet]
"""The workers as they report; raises ``BrokerError``."""

_TOLD_LIMIT = 3
"""So many kinds of jobs are named that nobody could send again."""
_ASK_ON = (RetryAnswer.NOT_MINE, RetryAnswer.NOT_KEPT)
"""After these another worker is asked."""
_NOT_SENT = (*_ASK_ON, RetryAnswer.FAILED)


class JobClaims(Protocol):
    """What a retry needs of the job history: ``queuescope.jobs.store.JobStore``.

    The methods raise ``JobStoreError``.
    """

    def claim(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Make failed jobs retrying; returns id → name of those that this call has changed."""

    def queues_of(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Where jobs came from, by id: a queue or routing key, perhaps cut, or empty."""

    def release(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """Make claimed jobs failed again."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """``count`` workers of one name, whom an order reaches together; ``queues`` are what they
    serve, as the history writes them.
    """

    name: str
    count: int
    queues: frozenset[str]
    serves_more: bool


class RetryJobs:
    """Sends failed jobs again, by application code in one of the workers.

    A job is claimed in the history before it is sent, so of two retries one has it. What was
    claimed and may have been sent stays claimed: nothing is sent twice to be on the safe side.

    Several projects may share a broker, so workers that serve the queue of a job are asked, one
    after the other, until one says that the job is of its own project and what came of it.
    """

    def __init__(self, claims: JobClaims, broker: Broker, fleet: ReadFleet) -> None:
        self._claims = claims
        self._broker = broker
        self._fleet = fleet

    def count(self, request: Request) -> int:
        self._able()
        return len(request.jobs)

    def carry_out(self, request: Request, act: str) -> Outcome:
        able, reported = self._able()
        queues = self._claims.queues_of(request.jobs)
        claimed = dict(self._claims.claim(request.jobs))
        if not claimed:
            raise RefusedError(
                RefusalReason.NOTHING_TO_DO,
                "None of these jobs is failed any more: somebody else has retried them.",
            )
        answers: dict[str, RetryAnswer] = {}
        refusal: BrokerError | RefusedError | None = None
        for asked in able:
            mine = [
                (job, name)
                for job, name in sorted(claimed.items())
                if answers.get(job, RetryAnswer.NOT_MINE) in _ASK_ON
                and may_know(
                    queues.get(job, ""), asked.queues, reported, serves_more=asked.serves_more
                )
            ]
            if not mine:
                continue
            try:
                said = self._broker.requeue(
                    asked.name, mine, act, queues=queues, same_name_count=asked.count
                )
            except (BrokerError, RefusedError) as exc:
                if isinstance(exc, BrokerError) and exc.may_have_acted:
                    if not answers:
                        self._release(claimed.keys() - dict(mine).keys(), str(exc))
                        raise
                    answers |= {job: RetryAnswer.UNKNOWN for job, _ in mine}
                refusal = exc
                if isinstance(exc, BrokerError):
                    break
                continue
            for job, answer in said.items():
                answers[job] = decisive_answer((answer, answers.get(job, answer)))
        if refusal is not None and not answers:
            self._release(claimed, str(refusal))
            raise refusal
        # Who refused might have been the one that knows the others.
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
                "those stand as retrying in the history."
            ) from exc

    def _able(self) -> tuple[list[_Asked], frozenset[str]]:
        """Those that can send jobs again, the idlest first, and every queue that any worker says
        it serves.
        """
        alive = self._fleet().alive
        able = [worker for worker in alive if worker.report.retries]
        if not able:
            raise RefusedError(RefusalReason.NOT_POSSIBLE, NOBODY)
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
        return [_asked(name, workers) for name, workers in named.items()], _queues(alive)


class RevokeJob:
    """Lets a job not start anywhere, or ends it where it runs."""

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
                or f"Worker {worker.name} runs this job already; it can be ended.",
            )
        return 1

    def carry_out(self, request: Request, act: str) -> Outcome:  # noqa: ARG002 - the job's id holds
        worker = self._fleet().running(request.subject)
        self._broker.revoke([request.subject])
        try:
            answered = self._broker.announce_revoked([request.subject], terminate=request.terminate)
        except BrokerError as exc:
            if request.terminate:
                raise OutcomeUnknownError(f"The job was revoked, but {exc}.") from exc
            # The revocation is in the broker, where every worker reads it.
            answered = ()
        if request.terminate and worker is None:
            raise OutcomeUnknownError(
                "The job will not start again, but no worker reports any more that it runs it."
            )
        if request.terminate and worker is not None:
            if worker.name not in answered:
                raise OutcomeUnknownError(
                    f"The job will not start again, but worker {worker.name} did not say that it "
                    "ended it."
                )
            return Outcome(Result.DONE, f"Worker {worker.name} was told to end the job.", 1)
        return Outcome(Result.DONE, "The job will not start in any worker.", 1)


class ScalePool:
    """Gives a worker's pool another size."""

    def __init__(self, broker: Broker, fleet: ReadFleet) -> None:
        self._broker = broker
        self._fleet = fleet

    def count(self, request: Request) -> int:
        """The size now."""
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
                RefusalReason.NOTHING_TO_DO, f"The pool has {request.size} places already."
            )
        return worker.report.pool_size

    def carry_out(self, request: Request, act: str) -> Outcome:  # noqa: ARG002 - a size, not a step
        if request.size is None:
            raise RefusedError(RefusalReason.NOT_POSSIBLE, "No size was named.")
        scaled = self._broker.scale(request.subject, request.size)
        words = f"The pool went from {scaled.before} to {scaled.after} places."
        if scaled.after != request.size:
            words += " Busy processes stay until their job has ended; ask again then."
        return Outcome(Result.DONE, words, scaled.after)


def _asked(name: str, workers: list[Worker]) -> _Asked:
    is_cut = any(len(worker.report.queues) >= QUEUES_LIMIT for worker in workers)
    return _Asked(name, len(workers), _queues(workers), serves_more=is_cut)


def _queues(workers: Iterable[Worker]) -> frozenset[str]:
    return known_queues(name for worker in workers for name in worker.report.queues)


def _outcome(
    answers: Counter[RetryAnswer], not_failed: int, unknown: Iterable[tuple[str, str]]
) -> Outcome:
    """What became of a retry; ``unknown`` are types and queues of jobs that were not
    known anywhere. Raises ``OutcomeUnknownError`` if any is unknown.
    """
    sent = answers[RetryAnswer.SENT] + answers[RetryAnswer.ALREADY]
    words = [f"{counted(sent, 'job was', 'jobs were')} sent again."]
    if not_failed:
        words.append(f"{not_failed:,} were no longer failed.")
    if answers[RetryAnswer.NOT_KEPT]:
        words.append(f"Of {answers[RetryAnswer.NOT_KEPT]:,} the arguments are not kept.")
    if answers[RetryAnswer.FAILED]:
        words.append(f"{answers[RetryAnswer.FAILED]:,} could not be sent.")
    if answers[RetryAnswer.NOT_MINE]:
        words.append(_unknown_words(answers[RetryAnswer.NOT_MINE], sorted(unknown)))
    if answers[RetryAnswer.UNKNOWN]:
        words.append(
            f"Of {answers[RetryAnswer.UNKNOWN]:,} it is not known; they stand as retrying."
        )
        raise OutcomeUnknownError(" ".join(words))
    if not sent:
        raise RefusedError(RefusalReason.NOT_POSSIBLE, " ".join(words[1:]))
    return Outcome(Result.DONE, " ".join(words), sent)


def _unknown_words(count: int, kinds: list[tuple[str, str]]) -> str:
    named = [f"{name} from queue {queue}" if queue else name for name, queue in kinds[:_TOLD_LIMIT]]
    if len(kinds) > _TOLD_LIMIT:
        named.append(counted(len(kinds) - _TOLD_LIMIT, "more kind"))
    return (
        f"{count:,} could not be sent: no running worker that serves the queue and can send jobs "
        f"again knows jobs of type {', '.join(named)}."
    )
