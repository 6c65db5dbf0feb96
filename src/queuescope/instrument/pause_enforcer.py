"""Keeps the jobs of a paused queue from starting in this worker.

A pause takes effect at once for every job that has not started: none of the queue is passed to the
pool. Then the thread that fetches jobs stops consuming the queue and returns the jobs that were
fetched and not started to the broker, to the end that is consumed next and in their old order.
A job that waits for its time (a countdown) stays and is checked when its time has come.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.worker import state

from queuescope.broker.desired import ALL_QUEUES, DesiredState
from queuescope.instrument.source_queue import is_broadcast, return_to_queue, source_queue

logger = logging.getLogger(__name__)


class PauseEnforcer:
    """Enforces pauses in one worker; holds every job until the desired state is known."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._desired = DesiredState(paused=(ALL_QUEUES,))
        self.set_at = time.time()
        """When ``desired`` took effect, in epoch seconds."""
        self._is_applied = False
        self._worker: Any = None
        self._consumer: Any = None
        self._passing: Any = None
        self._releases = 0
        self._lock = threading.Lock()
        # Weak, like Celery's own sets: they must not keep requests alive.
        self._started_requests: weakref.WeakSet[Any] = weakref.WeakSet()
        self._returned: weakref.WeakSet[Any] = weakref.WeakSet()
        self._cancelled: set[str] = set()

    @property
    def desired(self) -> DesiredState:
        """The state that is in force."""
        return self._desired

    @property
    def served(self) -> tuple[str, ...]:
        """The queues that this worker serves, paused or not."""
        return tuple(sorted({*self._selected(), *self._cancelled}))

    @property
    def consuming(self) -> tuple[str, ...]:
        """The queues that it consumes now."""
        consumer = getattr(self._consumer, "task_consumer", None)
        if consumer is None or self._consumer.connection is None:
            return ()
        return tuple(sorted(name for name in self._selected() if consumer.consuming_from(name)))

    def install(self, worker: Any) -> None:
        """Check each request before ``worker`` passes it to its pool, which must not exist yet."""
        self._worker = worker
        process_task = worker._process_task  # noqa: SLF001

        def process(request: Any) -> None:
            if not self._may_start(request, at_once=not self._is_threaded):
                self._skip(request)
                return
            self._passing = request
            try:
                process_task(request)
            finally:
                self._passing = None

        worker._process_task = process  # noqa: SLF001

    def attach(self, consumer: Any) -> None:
        """Apply pauses to a consumer that has connected and not fetched anything yet."""
        self._consumer = consumer
        pool = consumer.pool
        if isinstance(pool, ThreadPool) and "on_apply" not in vars(pool):
            pool.on_apply = self._submit
        self._is_applied = False
        self.apply()

    def set(self, desired: DesiredState) -> None:
        """Put ``desired`` in force; any thread may call it. ``apply`` must follow."""
        if desired != self._desired:
            self._desired = desired
            self.set_at = time.time()
            self._is_applied = False

    def apply(self) -> None:
        """Consume only queues that are not paused and return the fetched jobs of paused ones; on
        the consumer's thread only.
        """
        if self._is_applied:
            return
        self._is_applied = True
        desired = self._desired
        for queue in self._selected():
            if desired.pauses(queue):
                self._cancel(queue)
        for queue in sorted(self._cancelled):
            if not desired.pauses(queue):
                self._cancelled.discard(queue)
                self._consumer.add_task_queue(queue)
        self._return_reserved(desired)

    def queue_of(self, request: Any) -> str:
        """The name of the queue that ``request`` came from."""
        return source_queue(request.request_dict, self._app)

    @property
    def _is_threaded(self) -> bool:
        return isinstance(self._worker.pool, ThreadPool)

    def _may_start(self, request: Any, *, at_once: bool) -> bool:
        """Whether ``request`` may start; with ``at_once`` it counts as started from now on."""
        with self._lock:
            if request in self._returned:
                return False
            if self._holds(self._desired, request):
                return False
            if at_once:
                self._started_requests.add(request)
            return True

    def _holds(self, desired: DesiredState, request: Any) -> bool:
        """Whether ``request`` must not start. A broadcast message cannot be returned."""
        if not desired.paused:
            return False
        queue = self.queue_of(request)
        return desired.pauses(queue) and not is_broadcast(request.message.channel, queue)

    def _skip(self, request: Any) -> None:
        """Hold ``request`` back and free its place in the pool, on the consumer's thread."""
        self._hold_back(request)
        worker = self._worker
        if worker.process_task == getattr(worker, "_process_task_sem", None):
            self._release()

    def _hold_back(self, request: Any) -> None:
        """Return ``request`` to the broker and those fetched after it, in their order; on the
        consumer's thread only.
        """
        if request in self._returned:
            return
        # While its queue is still consumed, a returned job would be fetched again.
        self._is_applied = False
        self.apply()
        self._return(request)

    def _release(self) -> None:
        """Free the place in the pool; a loop, since the next request may be skipped as well."""
        self._releases += 1
        if self._releases > 1:
            return
        while self._releases:
            self._worker._quick_release()  # noqa: SLF001
            self._releases -= 1

    def _submit(  # the signature is that of Celery's pools
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **_: Any,
    ) -> ApplyResult:
        """``on_apply`` of the thread pool, where jobs queue up: checks when a thread starts one."""
        request = self._passing

        def start() -> None:
            if request is not None and request.id in state.revoked and request.revoked():
                return
            if request is None or self._may_start(request, at_once=True):
                apply_target(target, args, kwargs, callback, accept_callback)
            else:
                self._consumer.call_soon(self._hold_back, request)

        return ApplyResult(self._worker.pool.executor.submit(start))

    def _selected(self) -> list[str]:
        return list(self._app.amqp.queues.consume_from)

    def _cancel(self, queue: str) -> None:
        self._cancelled.add(queue)
        if self._consumer.task_consumer is None:
            self._app.amqp.queues.deselect([queue])
        else:
            self._consumer.cancel_task_queue(queue)

    def _return_reserved(self, desired: DesiredState) -> None:
        waiting = [
            request
            for request in list(state.requests.values())
            if request in state.reserved_requests
            and request not in state.active_requests
            and self._holds(desired, request)
        ]
        # In reverse order, so that the job fetched first is consumed first again.
        for request in reversed(waiting):
            self._return(request)

    def _return(self, request: Any) -> None:
        with self._lock:
            if request in self._started_requests or request in self._returned:
                return
            self._returned.add(request)
        state.task_ready(request)
        message = request.message
        try:
            if hasattr(message.channel, "_do_restore_message"):
                # A plain rejection would put it last, and into each queue that its routing key
                # leads to.
                return_to_queue(message.channel, message.delivery_tag, self.queue_of(request))
                message.channel.qos.ack(message.delivery_tag)
            else:
                message.reject(requeue=True)
        except request.connection_errors as exc:
            # It is not acknowledged, so the broker delivers it again.
            logger.warning("a job of a paused queue could not be returned to the broker: %s", exc)
            return
        request.acknowledged = True
        logger.info("returned job %s to the broker: its queue is paused", request.id)
