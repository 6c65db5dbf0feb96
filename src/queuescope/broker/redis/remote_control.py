"""Commands to running workers through Celery's remote control, each with a timeout.

Nothing is sent twice. If a worker does not answer, the outcome is unknown
(``OutcomeUnknownError``); a refusal is a ``RefusedError``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import celery
from kombu.exceptions import KombuError

from queuescope.broker.protocol import Scaled
from queuescope.broker.redis.failures import raise_cause, translated
from queuescope.broker.reports import names_in_replies
from queuescope.broker.requeue import RetryAnswer, decisive_answer
from queuescope.errors import BrokerError, OutcomeUnknownError, RefusalReason, RefusedError

_BATCH = 200
_MALFORMED = "gave an answer that cannot be understood"


class RemoteControl:
    """Sends commands to the workers of one broker; see ``Broker`` for its methods.

    They raise ``BrokerError``; if its ``may_have_acted`` is set, the outcome is unknown.
    """

    def __init__(
        self,
        broker_url: str,
        now: Callable[[], float],
        *,
        key_prefix: str = "",
        answer_seconds: float = 5.0,
        transport_options: Mapping[str, Any] | None = None,
    ) -> None:
        """``now`` returns the broker's time, by which commands expire."""
        self._now = now
        self._answer_seconds = answer_seconds
        self._app = celery.Celery("queuescope-commands", broker=broker_url, set_as_current=False)
        self._app.conf.update(
            accept_content=["json"],
            broker_connection_timeout=answer_seconds,
            broker_transport_options={
                **(transport_options or {}),
                "socket_timeout": answer_seconds,
                "socket_connect_timeout": answer_seconds,
                "global_keyprefix": key_prefix,
            },
        )

    def scale(self, worker: str, size: int) -> Scaled:
        answer = self._ask(worker, "queuescope_scale", {"size": size})
        before, after = answer.get("before"), answer.get("after")
        if not isinstance(before, int) or not isinstance(after, int):
            raise OutcomeUnknownError(f"Worker {worker} {_MALFORMED}.")
        return Scaled(worker, before, after)

    def requeue(
        self,
        worker: str,
        jobs: Sequence[tuple[str, str]],
        operation_id: str,
        *,
        queues: Mapping[str, str] | None = None,
        same_name_count: int = 1,
    ) -> dict[str, RetryAnswer]:
        results: dict[str, RetryAnswer] = {}
        for start in range(0, len(jobs), _BATCH):
            batch = jobs[start : start + _BATCH]
            order = {
                "jobs": [list(job) for job in batch],
                "act_id": operation_id,
                "queues": {job_id: (queues or {}).get(job_id, "") for job_id, _ in batch},
            }
            try:
                answers = self._ask_all(worker, "queuescope_retry", order, same_name_count)
            except OutcomeUnknownError:
                results |= {job_id: RetryAnswer.UNKNOWN for job_id, _ in jobs[start:]}
                break
            except (BrokerError, RefusedError) as exc:
                if not start:
                    raise
                is_open = isinstance(exc, BrokerError) and exc.may_have_acted
                left = RetryAnswer.UNKNOWN if is_open else RetryAnswer.FAILED
                results |= {job_id: left for job_id, _ in jobs[start:]}
                break
            for job_id, _ in batch:
                found = [_answer_for(answer, job_id) for answer in answers]
                if len(answers) < same_name_count:
                    found.append(RetryAnswer.UNKNOWN)
                results[job_id] = decisive_answer(found)
        return results

    def announce_revoked(
        self, job_ids: Iterable[str], *, terminate: bool = False
    ) -> tuple[str, ...]:
        with self._connection() as connection:
            replies = self._app.control.revoke(
                list(job_ids),
                terminate=terminate,
                reply=True,
                timeout=self._answer_seconds / 2,
                connection=connection,
            )
        failed = {
            name
            for reply in (replies if isinstance(replies, list) else [])
            if isinstance(reply, dict)
            for name, answer in reply.items()
            if isinstance(answer, dict) and "error" in answer
        }
        return tuple(sorted(names_in_replies(replies) - failed))

    def close(self) -> None:
        self._app.close()

    def _ask(self, worker: str, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._ask_all(worker, command, arguments, 1)[0]

    def _ask_all(
        self, worker: str, command: str, arguments: dict[str, Any], same_name_count: int
    ) -> list[dict[str, Any]]:
        """The answers of the workers of this name: at least one, at most ``same_name_count``.
        Raises ``RefusedError`` only if all of them refused.
        """
        until = self._now() + self._answer_seconds
        with self._connection() as connection:
            replies = self._app.control.broadcast(
                command,
                arguments={**arguments, "until": until},
                destination=[worker],
                reply=True,
                limit=same_name_count,
                timeout=self._answer_seconds,
                connection=connection,
            )
        found = [reply.get(worker) for reply in replies or () if isinstance(reply, dict)]
        answers = [answer for answer in found if isinstance(answer, dict)]
        if not answers:
            raise OutcomeUnknownError(f"Worker {worker} did not answer.")
        if any("error" in answer for answer in answers):
            raise OutcomeUnknownError(f"Worker {worker} failed while it carried out the command.")
        if len(answers) == same_name_count and all("refused" in answer for answer in answers):
            refused = str(answers[0]["refused"])
            raise RefusedError(RefusalReason.NOT_POSSIBLE, _sentence(refused))
        return answers

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        with translated(writes=True):
            try:
                with self._app.connection_for_write() as connection:
                    connection.ensure_connection(max_retries=1, timeout=self._answer_seconds)
                    yield connection
            except KombuError as exc:
                raise_cause(exc)
            except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as exc:
                # Any client of the broker can send a malformed answer.
                raise OutcomeUnknownError(f"A worker {_MALFORMED}.") from exc


def _answer_for(answer: dict[str, Any], job_id: str) -> RetryAnswer:
    if "refused" in answer:
        return RetryAnswer.NOT_MINE  # another worker of its name did not refuse
    answers = answer.get("answers")
    try:
        return RetryAnswer(str(answers.get(job_id) if isinstance(answers, dict) else ""))
    except ValueError:
        return RetryAnswer.UNKNOWN


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else "The worker refused."
