"""The lists of a queue: kombu keeps one for each priority step, named with a separator."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from kombu.transport.redis import Channel

from queuescope.broker.redis.bindings import BINDING, BINDINGS_LIMIT
from queuescope.broker.redis.bounded_replies import ReplyTooLargeError
from queuescope.broker.redis.connection import RedisConnection
from queuescope.broker.redis.failures import translated
from queuescope.broker.redis.keys import list_key
from queuescope.broker.reports import STEPS_LIMIT, WorkerReport
from queuescope.errors import ConfigurationError

KOMBU_STEPS = range(10)
"""Every step that kombu may use: it cuts a priority to 0 to 9."""
# The most steps of all workers of a broker together; a false report cannot add many.
_STEPS_LIMIT = 16
_SEPARATOR_LIMIT = 16
_SEPARATOR_SECONDS = 10.0


class QueueLayout:
    """The priority steps and the separator: the configured ones if there are any, otherwise those
    that workers report, and without workers the separator in the queues' bindings.
    """

    def __init__(
        self, connection: RedisConnection, *, steps: Iterable[int], separator: str | None
    ) -> None:
        self._connection = connection
        self._own_steps = frozenset({0, *steps})
        self._own_separator = separator
        self._is_separator_known = separator is not None
        self._bound_separator_at = -math.inf
        self._bound_separator = Channel.sep
        # Replaced as a whole, since threads share it.
        self._layout = (self._own_steps, separator or Channel.sep)

    @property
    def separator(self) -> str:
        return self._layout[1]

    def lists(self, queue: str) -> list[str]:
        """The keys of the lists of ``queue``, the most urgent first."""
        steps, separator = self._layout
        return [
            list_key(queue, step, key_prefix=self._connection.key_prefix, separator=separator)
            for step in sorted(steps)
        ]

    def learn(self, reports: Collection[WorkerReport]) -> None:
        """Use the priority steps of these workers in addition to the configured ones, instead of
        those learned before. If workers disagree, the majority decides.
        """
        steps = Counter(step for report in reports for step in set(report.priority_steps))
        more = [step for step, _ in steps.most_common() if step not in self._own_steps]
        separators = Counter(report.separator for report in reports).most_common(1)
        separator = separators[0][0] if separators else self._own_separator
        self._is_separator_known = separator is not None
        self._layout = (
            self._own_steps.union(more[: max(0, _STEPS_LIMIT - len(self._own_steps))]),
            # The separator last read from the bindings, until it is read again.
            separator or self._bound_separator,
        )

    def read_separator(self, queues: Sequence[str]) -> None:
        """Read the separator from the queues' bindings, which kombu writes with it, if no worker
        reports it. Raises ``BrokerError``.
        """
        now = time.monotonic()
        if self._is_separator_known or now - self._bound_separator_at < _SEPARATOR_SECONDS:
            return
        with translated():
            found = Channel.sep
            with self._connection.reader.pipeline(transaction=False) as pipe:
                for queue in queues[:BINDINGS_LIMIT]:
                    pipe.srandmember(f"{self._connection.key_prefix}{BINDING % queue}", 1)
                try:
                    answers = pipe.execute(raise_on_error=False)
                except ReplyTooLargeError:
                    answers = []
        for queue, members in zip(queues, answers, strict=False):
            if isinstance(members, list) and members:
                found = _separator_in(members[0], queue) or found
        self._bound_separator_at, self._bound_separator = now, found
        self._layout = (self._layout[0], found)


def checked_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check the ``broker_transport_options`` that name lists. Raises ``ConfigurationError``."""
    steps = options.get("priority_steps", [])
    if not isinstance(steps, list | tuple) or not all(
        isinstance(step, int) and 0 <= step <= 255 for step in steps
    ):
        raise ConfigurationError(
            "broker_transport_options: priority_steps must be numbers from 0 to 255, such as "
            "[0, 3, 6, 9]"
        )
    if len(steps) > STEPS_LIMIT:
        raise ConfigurationError(
            f"broker_transport_options: priority_steps has {len(steps)} entries, and kombu has "
            f"only {STEPS_LIMIT} priorities"
        )
    for name in ("sep", "global_keyprefix"):
        if not isinstance(options.get(name, ""), str):
            raise ConfigurationError(f"broker_transport_options: {name} must be text")
    return options


def _separator_in(member: object, queue: str) -> str | None:
    """The separator in a queue's binding to itself: routing key, pattern (usually empty), queue.
    ``None`` for any other binding.
    """
    text = member.decode("utf-8", "replace") if isinstance(member, bytes) else str(member)
    if not (text.startswith(queue) and text.endswith(queue)):
        return None
    between = text[len(queue) : len(text) - len(queue)]
    half = between[: len(between) // 2]
    return half if half and half * 2 == between and len(half) <= _SEPARATOR_LIMIT else None
