"""Records the start and end of each attempt, between a worker's main process and its pool.

Celery's main process passes each request to the pool with four callbacks: accepted, ended, failed,
timed out. All pools call them the same way, once each, even when a child process was killed.
Wrapping them costs the children nothing. Here an event is only noted; the collector turns notes
into observations in batches. The note of a plain success does not keep the request alive: hundreds
of requests would cost the garbage collector more than everything else.

What only a child process knows travels with the result that it sends anyway, and only for jobs
that did not plainly succeed.
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
_STATE = "queuescope_state"
_REPLACED = "Replaced by new task"
_LOST = "The process that ran this job died; the job is tried again."


class Started(msgspec.Struct, frozen=True, gc=False):
    """An attempt started ``at`` epoch seconds; ``message`` is Celery's view of its message."""

    key: int
    at: float
    message: Mapping[str, Any]


class Succeeded(msgspec.Struct, frozen=True, gc=False):
    """A started attempt plainly succeeded, after ``runtime_seconds`` where that is known."""

    key: int
    at: float
    runtime_seconds: float | None


class Ended(msgspec.Struct, frozen=True):
    """Any other end: the pool's result, and the exception with which Celery reported a failure."""

    key: int
    at: float
    request: Request
    has_started: bool
    result: Any
    reported_error: BaseException | None


Note = Started | Succeeded | Ended

_keys = itertools.count(1)


class Attempt:
    """One request in the pool, and its callbacks."""

    __slots__ = (
        "_has_ended",
        "_has_started",
        "_key",
        "_note",
        "_reported_errors",
        "_request",
        "_when_accepted",
        "_when_ended",
        "_when_failed",
        "_when_timed_out",
    )

    def __init__(
        self,
        request: Request,
        note: Callable[[Note], None],
        reported_errors: dict[str, BaseException],
        options: dict[str, Any],
    ) -> None:
        self._request = request
        self._key = next(_keys)
        self._has_started = False
        self._has_ended = False
        self._note = note
        self._reported_errors = reported_errors
        self._when_accepted: Callback = options["accept_callback"]
        self._when_ended: Callback = options.get("callback")
        self._when_failed: Callback = options.get("error_callback")
        self._when_timed_out: Callback = options.get("timeout_callback")
        options["accept_callback"] = self.accepted
        if self._when_ended is not None:
            options["callback"] = self.ended
        if self._when_failed is not None:
            options["error_callback"] = self.failed
        if self._when_timed_out is not None:
            options["timeout_callback"] = self.timed_out

    def accepted(self, pid: int, time_accepted: float) -> None:
        request = self._request
        try:
            self._when_accepted(pid, time_accepted)
        finally:
            self._has_started = True
            self._note(Started(self._key, request.time_start or time.time(), request.request_dict))

    def ended(self, result: Any, **options: Any) -> None:
        try:
            self._when_ended(result, **options)
        finally:
            if isinstance(result, ExceptionInfo):
                # In a thread pool Celery sends no signal for what is not an ``Exception``.
                self._reported_errors.setdefault(self._request.id, result.exception)
            self.end(result)

    def failed(self, result: Any, **options: Any) -> None:
        try:
            self._when_failed(result, **options)
        finally:
            self.end(result)

    def timed_out(self, *, soft: bool, timeout: float) -> None:
        try:
            self._when_timed_out(soft=soft, timeout=timeout)
        finally:
            # A job may catch a soft limit and go on; it ends by itself.
            if not soft:
                self.end(TimeLimitExceeded(timeout))

    def end(self, result: Any) -> None:
        """Note the first end; later ones, such as the death of a process, repeat it."""
        reported_error = self._reported_errors.pop(self._request.id, None)
        if self._has_ended:
            return
        self._has_ended = True
        at = time.time()
        if self._has_started and isinstance(result, tuple) and not result[0]:
            self._note(Succeeded(self._key, at, result[2]))
        else:
            self._note(
                Ended(self._key, at, self._request, self._has_started, result, reported_error)
            )


class Attempts:
    """Wraps the pool of one worker to record its attempts."""

    def __init__(self, note: Callable[[Note], None]) -> None:
        self._note = note
        self._pid = os.getpid()
        self._reported_errors: dict[str, BaseException] = {}
        watch_states()
        signals.task_failure.connect(self._on_failure, weak=False)
        signals.task_retry.connect(_mark_end, weak=False)

    def install(self, pool: Any) -> None:
        """Wrap ``pool``; call it before the consumer exists, which keeps ``apply_async``."""
        apply = pool.apply_async
        note, reported_errors = self._note, self._reported_errors

        def apply_async(target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            request = getattr(options.get("accept_callback"), "__self__", None)
            if not isinstance(request, Request):
                return apply(target, args, kwargs, **options)
            attempt = Attempt(request, note, reported_errors, options)
            try:
                return apply(target, args, kwargs, **options)
            except Exception as exc:
                # The pool runs the job in this thread, and Celery itself failed.
                attempt.end(exc)
                raise

        pool.apply_async = apply_async

    def _on_failure(
        self, sender: Any, task_id: str, exception: BaseException, einfo: Any, **_: object
    ) -> None:
        # A job that another one runs in its own process (``apply``) is in no pool; its entry would
        # never be removed.
        if os.getpid() == self._pid and not sender.request.is_eager:
            self._reported_errors[task_id] = exception
        _mark_end(einfo)


class ObserveStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Installs ``Attempts`` while the worker starts: after the pool, before the consumer."""

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
    # The child's own clock reading: a busy main process receives the end later.
    if isinstance(einfo, ExceptionInfo):
        setattr(einfo, _ENDED_AT, time.time())


def succeeded_at(at: float, runtime_seconds: float | None, started_at: float | None) -> float:
    """When an attempt succeeded, by the child's measurement: a busy main process receives the end
    later, and its clock may have been set in between.
    """
    if started_at is None or not runtime_seconds:
        return at
    return started_at + runtime_seconds


def end_of_attempt(note: Ended) -> tuple[Event, float, str, str]:
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
    return _ended(note.request.task, at, result, note.reported_error)


def _ended(
    task: Any, at: float, error: Any, reported_error: BaseException | None
) -> tuple[Event, float, str, str]:
    if isinstance(error, Ignore):
        return _ignored(error, at)
    if isinstance(error, Reject):
        return (Event.RETRIED if error.requeue else Event.FAILED), at, *described(error)
    if isinstance(error, Retry):
        return Event.RETRIED, at, *described(getattr(error, "exc", None) or error)
    if (
        reported_error is None
        and isinstance(error, TimeLimitExceeded)
        and _is_redelivered_after_time_limit(task)
    ):
        return Event.RETRIED, at, *described(error)
    if reported_error is None and isinstance(
        error, WorkerLostError | Terminated | SystemExit | KeyboardInterrupt
    ):
        # Celery reports a failure for every job that it does not return to the broker.
        if isinstance(error, WorkerLostError) and not _is_redelivered_after_loss(task):
            return Event.SUCCEEDED, at, "", ""
        return Event.RETRIED, at, "WorkerLostError", _LOST
    if isinstance(error, SystemExit | KeyboardInterrupt) and reported_error is not None:
        error = reported_error
    return Event.FAILED, at, *described(error)


def _ignored(error: Ignore, at: float) -> tuple[Event, float, str, str]:
    """The end of a job that raised ``Ignore``; it may have set its state before."""
    state, error_class, error_message = getattr(error, _STATE, ("", "", ""))
    if state == states.FAILURE:
        return Event.FAILED, at, error_class, error_message
    if state == states.SUCCESS:
        return Event.SUCCEEDED, at, "", ""
    if str(error) == _REPLACED:
        return Event.REPLACED, at, "", ""
    return Event.IGNORED, at, "", ""


def _is_redelivered_after_time_limit(task: Any) -> bool:
    """Whether a job is delivered again after a hard time limit. Before 5.7 Celery had one setting
    for failures and time limits.
    """
    both = getattr(task, "acks_on_failure_or_timeout", True)
    return bool(task.acks_late and not getattr(task, "acks_on_timeout", both))


def watch_states() -> None:
    """Record the state that a job sets with ``update_state`` before it raises ``Ignore``.

    Neither a signal nor the result contains it, so the method is wrapped. Jobs that do not call it
    pay nothing.
    """
    original = Task.update_state
    if hasattr(original, _STATE):
        return

    @wraps(original)
    def update_state(
        self: Any, task_id: str | None = None, state: Any = None, meta: Any = None, **more: Any
    ) -> Any:
        request = self.request
        if request.id and task_id in {None, request.id}:
            setattr(request, _STATE, (state, *_failure(state, meta)))
            signals.task_postrun.connect(_attach_state, weak=False, dispatch_uid=_STATE)
        return original(self, task_id=task_id, state=state, meta=meta, **more)

    setattr(update_state, _STATE, True)
    Task.update_state = update_state


def _attach_state(sender: Any, retval: object, state: str | None, **_: object) -> None:
    if state == states.IGNORED and isinstance(retval, Ignore):
        setattr(retval, _STATE, getattr(sender.request, _STATE, ("", "", "")))


def _failure(state: object, meta: object) -> tuple[str, str]:
    if state != states.FAILURE:
        return "", ""
    if isinstance(meta, BaseException):
        return described(meta)
    if isinstance(meta, dict) and "exc_type" in meta:
        return str(meta["exc_type"]), _text(meta.get("exc_message", ""))
    return "Failure", _text("" if meta is None else meta)


def _is_redelivered_after_loss(task: Any) -> bool:
    is_rejected = task.acks_late and task.reject_on_worker_lost
    return bool(is_rejected or getattr(task, "retry_on_worker_lost", False))


def described(error: object) -> tuple[str, str]:
    """The class and the text of an error, without obvious secrets."""
    if isinstance(error, UnpickleableExceptionWrapper):
        return str(error.exc_cls_name), _text(error.text)
    return type(error).__name__, _text(error)


def _text(error: object) -> str:
    try:
        # Masked before it is cut: half a secret would no longer be recognized as one.
        return redacted(str(error)[:_READ_LIMIT])[:ERROR_MESSAGE_LIMIT]
    except Exception:  # noqa: BLE001 - the text of a foreign exception may itself raise
        return "(the error has no readable text)"
