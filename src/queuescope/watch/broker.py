"""The state of the broker: queues, workers, and the desired state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from queuescope.broker.capabilities import ALL_CAPABILITIES, Ability, Capabilities
from queuescope.broker.desired import DesiredState
from queuescope.broker.fleet import Fleet, fleet_of
from queuescope.broker.protocol import QueueReading
from queuescope.broker.reports import QUEUES_LIMIT
from queuescope.errors import BrokerError, BrokerErrorKind, DamagedError, QueuescopeError
from queuescope.operations.context import OperationsContext
from queuescope.watch.completion_rates import CompletionRate, CompletionRates
from queuescope.watch.depths import Depths, RecentDepths


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The broker at one instant; ``at`` is epoch seconds of its own clock.

    ``completion_rates`` are those of workers that have been seen for long enough, by name and run.
    ``depths`` are the depths of the last minutes in the queues that are not paused.
    ``is_decided_elsewhere`` means that the desired state comes from the operations database of
    another dashboard. ``unreadable`` and ``unread`` are those of the ``WorkersReading``, and
    ``left_out_queues`` is how many queues were not read because they are too many, or because
    their key holds something else than messages. With a ``desired_fault``, a sentence, ``desired``
    is the last readable state. Fields are empty for what is missing in ``capabilities``.
    """

    at: float
    queues: tuple[QueueReading, ...]
    fleet: Fleet
    desired: DesiredState
    completion_rates: Mapping[tuple[str, str], CompletionRate] = field(default_factory=dict)
    is_decided_elsewhere: bool = False
    unreadable: tuple[str, ...] = ()
    unread: int = 0
    left_out_queues: int = 0
    desired_fault: str = ""
    depths: Depths = ()
    capabilities: Capabilities = ALL_CAPABILITIES

    def queue(self, name: str) -> QueueReading | None:
        """The reading of one queue; ``None`` if it is not among them."""
        return next((queue for queue in self.queues if queue.queue == name), None)

    @property
    def depth(self) -> int | None:
        """How many jobs wait in all queues; ``None`` if no queue is known."""
        return sum(queue.depth for queue in self.queues) if self.queues else None

    @property
    def oldest(self) -> QueueReading | None:
        """The queue with the longest waiting job, among those where that is known."""
        known = [q for q in self.queues if q.depth and q.oldest_age_seconds is not None]
        return max(known, key=lambda queue: queue.oldest_age_seconds or 0.0, default=None)

    @property
    def oldest_age_seconds(self) -> float | None:
        """How long the oldest waiting job has waited, 0 if none waits; ``None`` is unknown."""
        ages = [queue.oldest_age_seconds for queue in self.queues if queue.depth]
        if any(age is None for age in ages) or not self.queues:
            return None
        return max((age for age in ages if age is not None), default=0.0)


def read_broker(
    context: OperationsContext,
    completion_rates: CompletionRates | None = None,
    recent_depths: RecentDepths | None = None,
) -> BrokerState:
    """Read the state; ``completion_rates`` and ``recent_depths`` hold the earlier readings.

    Raises ``BrokerError``.
    """
    broker = context.broker
    can = broker.capabilities.has
    workers = broker.workers()
    # To read very many queues would take all the time.
    served = sorted(workers.queues.difference(context.named_queues))
    kept = served[: max(0, QUEUES_LIMIT - len(context.named_queues))]
    wanted = sorted({*context.named_queues, *kept})
    queues = tuple(broker.queues(wanted)) if can(Ability.DEPTH) else ()
    fault = ""
    try:
        desired = broker.desired() if can(Ability.PAUSE) else DesiredState()
    except DamagedError as exc:
        desired, fault = broker.last_desired, str(exc)
    rates = {} if completion_rates is None else completion_rates.add(workers.reports)
    ours = context.store.desired.name
    elsewhere = bool(ours) and desired.ledger not in ("", ours)
    return BrokerState(
        workers.at,
        queues,
        fleet_of(workers, desired, queues),
        desired,
        rates,
        elsewhere,
        workers.unreadable,
        workers.unread,
        len(served) - len(kept) + (len(wanted) - len(queues) if can(Ability.DEPTH) else 0),
        fault,
        () if recent_depths is None else recent_depths.add(workers.at, queues, desired),
        broker.capabilities,
    )


def refuses_reports(error: QueuescopeError | None) -> bool:
    """Whether ``error``, from a test of writing, means that workers cannot report either."""
    refusals = (BrokerErrorKind.READ_ONLY, BrokerErrorKind.FULL)
    return isinstance(error, BrokerError) and error.kind in refusals
