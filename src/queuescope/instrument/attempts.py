"""What becomes of each job, seen where a worker's main process meets its pool.

Celery's main process hands each request to the pool with four callbacks: accepted, ended, failed,
timed out. They are the same for all pools, they come for a child that was killed as well, and they
come once. Standing between the two costs the children nothing. Here an event is only noted; the
collector makes observations of the notes, many at a time. A note of a job that simply succeeds
keeps no request alive: hundreds of those would cost the garbage collector more than all the rest.

What only a child knows travels with the result that it sends anyway, and only where a job did not
simply succeed.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import msgspec
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import Terminated, WorkerLostError
from celery import Task, bootsteps, signals, states
from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded
from celery.utils.serialization import UnpickleableExceptionWrapper
from celery.worker.request import Request

from queuescope.instrument.observation import ERROR_MESSAGE_LIMIT, Event
from queuescope.instrument.redact import redacted

_READ_LIMIT = 8 * ERROR_MESSAGE_LIMIT

Callback = Any
_ENDED_AT = "queuescope_ended_at"
_SAID = "queuescope_said"
_REPLACED = "Replaced by new task"
_LOST = "The process that ran this job died; it is tried again."


class Begun(msgspec.Struct, frozen=True, gc=False):
    """An attempt began, ``at`` epoch seconds; ``message`` is what Celery says of its message."""

    key: int
    at: float
    message: Mapping[str, Any]


class Succeeded(msgspec.Struct, frozen=True, gc=False):
    """An attempt that had begun simply succeeded, after ``runtime_seconds`` where that is known."""

    key: int
    at: float
    runtime_seconds: float | None


class Ended(msgspec.Struct, frozen=True):
    """Any other end: what the pool gave back, and with which exception Celery told a failure
    meanwhile.
    """

    key: int
    at: float
    request: Request
    has_begun: bool
    result: Any
    told: BaseException | None


Note = Begun | Succeeded | Ended

_keys = itertools.count(1)


class Attempt:
    """One request in the pool, and the callbacks that tell of it."""

    __slots__ = (
        "_has_begun",
        "_has_ended",
        "_key",
        "_note",
        "_request",
        "_told",
        "_when_accepted",
        "_when_ended",
        "_when_failed",
        "_when_late",
    )

    def __init__(
        self,
        request: Request,
        note: Callable[[Note], None],
        told: dict[str, BaseException],
        options: dict[str, Any],
    ) -> None:
        self._request = request
        self._key = next(_keys)
        self._has_begun = False
        self._has_ended = False
        self._note = note
        self._told = told
        self._when_accepted: Callback = options["accept_callback"]
        self._when_ended: Callback = options.get("callback")
        self._when_failed: Callback = options.get("error_callback")
        self._when_late: Callback = options.get("timeout_callback")
        options["accept_callback"] = self.accepted
        if self._when_ended is not None:
            options["callback"] = self.ended
        if self._when_failed is not None:
            options["error_callback"] = self.failed
        if self._when_late is not None:
            options["timeout_callback"] = self.timed_out

    def accepted(self, pid: int, time_accepted: float) -> None:
        request = self._request
        try:
            self._when_accepted(pid, time_accepted)
        finally:
            self._has_begun = True
            self._note(Begun(self._key, request.time_start or time.time(), request.request_dict))

    def ended(self, result: Any, **options: Any) -> None:
        try:
            self._when_ended(result, **options)
        finally:
            if isinstance(result, ExceptionInfo):
                # A thread whose job raised what is no ``Exception``, of which Celery tells nothing.
                self._told.setdefault(self._request.id, result.exception)
            self.end(result)

    def failed(self, result: Any, **options: Any) -> None:
        try:
            self._when_failed(result, **options)
        finally:
            self.end(result)

    def timed_out(self, *, soft: bool, timeout: float) -> None:
        try:
            self._when_late(soft=soft, timeout=timeout)
        finally:
            # A job may catch a soft limit and go on; it ends by itself.
            if not soft:
                self.end(TimeLimitExceeded(timeout))

    def end(self, result: Any) -> None:
        """Note the first end; what comes after it, as of a process that died, was told before."""
        told = self._told.pop(self._request.id, None)
        if self._has_ended:
            return
        self._has_ended = True
        at = time.time()
        if self._has_begun and isinstance(result, tuple) and not result[0]:
            self._note(Succeeded(self._key, at, result[2]))
        else:
            self._note(Ended(self._key, at, self._request, self._has_begun, result, told))


class Attempts:
    """Stands between one worker and its pool."""

    def __init__(self, note: Callable[[Note], None]) -> None:
        self._note = note
        self._pid = os.getpid()
        self._told: dict[str, BaseException] = {}
        listen_to_states()
        signals.task_failure.connect(self._on_failure, weak=False)
        signals.task_retry.connect(_mark_end, weak=False)

    def install(self, pool: Any) -> None:
        """To be called before the consumer, which keeps ``apply_async``, exists."""
        apply = pool.apply_async
        note, told = self._note, self._told

        def apply_async(target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            request = getattr(options.get("accept_callback"), "__self__", None)
            if not isinstance(request, Request):
                return apply(target, args, kwargs, **options)
            attempt = Attempt(request, note, told, options)
            try:
                return apply(target, args, kwargs, **options)
            except Exception as exc:
                # A pool that runs the job in this thread, and an error of Celery's own in it.
                attempt.end(exc)
                raise

        pool.apply_async = apply_async

    def _on_failure(
        self, sender: Any, task_id: str, exception: BaseException, einfo: Any, **_: object
    ) -> None:
        # A job that another one calls in its own process (``apply``) is in no pool, and its end
        # would be asked for by nobody.
        if os.getpid() == self._pid and not sender.request.is_eager:
            self._told[task_id] = exception
        _mark_end(einfo)


class ObserveStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Between the pool and the consumer, as the worker is put together."""

    requires = ("celery.worker.components:Pool",)
    name = "queuescope-observe"

    def include_if(self, parent: Any) -> bool:
        return _attempts_of(parent) is not None

    def create(self, parent: Any) -> None:
        attempts = _attempts_of(parent)
        if attempts is not None:
            attempts.install(parent.pool)


def _attempts_of(worker: Any) -> Attempts | None:
    return getattr(getattr(worker.app, "queuescope", None), "attempts", None)


def _mark_end(einfo: Any, **_: object) -> None:
    # The child's own clock reading: the main process may be busy when it hears of the end.
    if isinstance(einfo, ExceptionInfo):
        setattr(einfo, _ENDED_AT, time.time())


def succeeded_at(at: float, runtime_seconds: float | None, started_at: float | None) -> float:
    """As the child has measured it: the main process may be busy when it hears of the end, and its
    clock may have been set meanwhile.
    """
    if started_at is None or not runtime_seconds:
        return at
    return started_at + runtime_seconds


def what_became(note: Ended) -> tuple[Event, float, str, str]:
    """How an attempt ended: the event, when, the class and text of the error."""
    at, result = note.at, note.result
    if isinstance(result, tuple):
        has_failed, value, _ = result
        if not has_failed:
            return Event.SUCCEEDED, at, "", ""
        result = value
    if isinstance(result, ExceptionInfo):
        at = min(at, getattr(result, _ENDED_AT, at))
        result = result.exception
    if isinstance(result, ExceptionWithTraceback):
        result = result.exc
    return _ended(note.request.task, at, result, note.told)


def _ended(
    task: Any, at: float, error: Any, told: BaseException | None
) -> tuple[Event, float, str, str]:
    if isinstance(error, Ignore):
        return _set_aside(error, at)
    if isinstance(error, Reject):
        return (Event.RETRIED if error.requeue else Event.FAILED), at, *described(error)
    if isinstance(error, Retry):
        return Event.RETRIED, at, *described(getattr(error, "exc", None) or error)
    if told is None and isinstance(error, TimeLimitExceeded) and _comes_again(task):
        return Event.RETRIED, at, *described(error)
    if told is None and isinstance(
        error, WorkerLostError | Terminated | SystemExit | KeyboardInterrupt
    ):
        # Celery calls what it does not give back to the broker a failure.
        if isinstance(error, WorkerLostError) and not _is_given_back(task):
            return Event.SUCCEEDED, at, "", ""
        return Event.RETRIED, at, "WorkerLostError", _LOST
    if isinstance(error, SystemExit | KeyboardInterrupt) and told is not None:
        error = told
    return Event.FAILED, at, *described(error)


def _set_aside(error: Ignore, at: float) -> tuple[Event, float, str, str]:
    """A job may have said what became of it before it set itself aside."""
    state, error_class, error_message = getattr(error, _SAID, ("", "", ""))
    if state == states.FAILURE:
        return Event.FAILED, at, error_class, error_message
    if state == states.SUCCESS:
        return Event.SUCCEEDED, at, "", ""
    if str(error) == _REPLACED:
        return Event.REPLACED, at, "", ""
    return Event.IGNORED, at, "", ""


def _comes_again(task: Any) -> bool:
    """After a hard time limit. Celery had one setting for failures and time limits before 5.7."""
    both = getattr(task, "acks_on_failure_or_timeout", True)
    return bool(task.acks_late and not getattr(task, "acks_on_timeout", both))


def listen_to_states() -> None:
    """Let a job that says its state by ``update_state`` and then raises ``Ignore`` be believed.

    Neither a signal nor the result tells it, so that method is watched; nothing else costs
    anything before it has been called.
    """
    said = Task.update_state
    if hasattr(said, _SAID):
        return

    @wraps(said)
    def update_state(
        self: Any, task_id: str | None = None, state: Any = None, meta: Any = None, **more: Any
    ) -> Any:
        request = self.request
        if request.id and task_id in {None, request.id}:
            setattr(request, _SAID, (state, *_failure(state, meta)))
            signals.task_postrun.connect(_carry, weak=False, dispatch_uid=_SAID)
        return said(self, task_id=task_id, state=state, meta=meta, **more)

    setattr(update_state, _SAID, True)
    Task.update_state = update_state


def _carry(sender: Any, retval: object, state: str | None, **_: object) -> None:
    if state == states.IGNORED and isinstance(retval, Ignore):
        setattr(retval, _SAID, getattr(sender.request, _SAID, ("", "", "")))


def _failure(state: object, meta: object) -> tuple[str, str]:
    if state != states.FAILURE:
        return "", ""
    if isinstance(meta, BaseException):
        return described(meta)
    if isinstance(meta, dict) and "exc_type" in meta:
        return str(meta["exc_type"]), _text(meta.get("exc_message", ""))
    return "Failure", _text("" if meta is None else meta)


def _is_given_back(task: Any) -> bool:
    gives_back = task.acks_late and task.reject_on_worker_lost
    return bool(gives_back or getattr(task, "retry_on_worker_lost", False))


def described(error: object) -> tuple[str, str]:
    """The class and the text of an error, without obvious secrets."""
    if isinstance(error, UnpickleableExceptionWrapper):
        return str(error.exc_cls_name), _text(error.text)
    return type(error).__name__, _text(error)


def _text(error: object) -> str:
    try:
        # Masked before it is cut: of a secret that was cut in two, the first half looks like none.
        return redacted(str(error)[:_READ_LIMIT])[:ERROR_MESSAGE_LIMIT]
    except Exception:  # noqa: BLE001 - the text of a foreign exception may itself raise
        return "(the error has no readable text)"
