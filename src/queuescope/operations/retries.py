"""Which failed jobs the running workers could send again, derived from their reports.

Pure, and for display before a request is made: a worker that is asked knows better.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from queuescope.broker.reports import QUEUES_LIMIT, WorkerReport, label
from queuescope.broker.requeue import KEPT_SECONDS

NO_WORKER_CAN_RETRY = (
    "No running worker can send jobs again; instrument(app, retry=…) or "
    "instrument(app, keep_arguments=True) enables that."
)
# The obstacles of several jobs, as a phrase after “jobs”.
NOT_KEPT = "without kept arguments"
UNKNOWN_TYPE = "of a type that no running worker can send again"
UNSERVED = "from a queue without a running worker that can send them again"
_NO_WORKER = "without a running worker that can send jobs again"
_JUST_ENDED_SECONDS = 15.0
"""How long it may take until the arguments of a job are kept."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a job cannot be sent again: a sentence for one job, and a phrase for several
    (``they``).
    """

    words: str
    they: str


def known_queues(queues: Iterable[str]) -> frozenset[str]:
    """Names of queues, whole and cut as in the history."""
    names = set(queues)
    return frozenset(names | {label(name) for name in names})


def should_ask(
    queue: str, served: frozenset[str], reported: frozenset[str], *, serves_more: bool
) -> bool:
    """Whether to ask a worker that serves ``served`` about a job of ``queue``. A queue that no
    worker reports may be a routing key, so every worker is asked.
    """
    return serves_more or queue in served or queue not in reported


class Retries:
    """Which jobs the living workers with these ``reports`` could send again."""

    def __init__(self, reports: Iterable[WorkerReport]) -> None:
        alive = tuple(reports)
        self._able = [(r, known_queues(r.queues)) for r in alive if r.retries]
        self._reported = known_queues(queue for r in alive for queue in r.queues)

    @property
    def refusal(self) -> str:
        """Why no worker could send any job again; may be empty."""
        return "" if self._able else NO_WORKER_CAN_RETRY

    @property
    def needs_arguments(self) -> bool:
        """Whether some worker can only send jobs whose arguments are kept."""
        return any(report.needs_arguments for report, _ in self._able)

    def obstacle(
        self, name: str, queue: str, *, is_kept: bool | None, ended_seconds_ago: float | None
    ) -> Obstacle | None:
        """Why a job of type ``name`` from ``queue`` cannot be sent again; ``None`` if it can, as
        far as is known. ``is_kept`` says whether its arguments are kept; ``None`` is unknown.
        """
        if not self._able:
            return Obstacle(NO_WORKER_CAN_RETRY, _NO_WORKER)
        knowing = [
            (report, served)
            for report, served in self._able
            if report.types is None or label(name) in report.types
        ]
        if not knowing:
            return Obstacle(
                f"No running worker that can send jobs again knows type {name}.", UNKNOWN_TYPE
            )
        asked = [report for report, served in knowing if self._may_serve(report, served, queue)]
        if not asked:
            return Obstacle(
                f"No running worker that can send jobs of type {name} again serves queue {queue}.",
                UNSERVED,
            )
        ago = ended_seconds_ago
        if is_kept is not False or not all(report.needs_arguments for report in asked):
            return None
        if ago is not None and ago < _JUST_ENDED_SECONDS:
            return None
        if ago is not None and ago > KEPT_SECONDS:
            return Obstacle("Its arguments are no longer kept, after seven days.", NOT_KEPT)
        return Obstacle(
            "Its arguments were not kept: it failed before its project kept any, they are larger "
            "than 16 KiB or not JSON, or newer jobs took their place.",
            NOT_KEPT,
        )

    def _may_serve(self, report: WorkerReport, served: frozenset[str], queue: str) -> bool:
        """Whether jobs of ``queue``, which may be a routing key, may reach this worker."""
        is_cut = len(report.queues) >= QUEUES_LIMIT
        if report.origins is not None and not is_cut:
            return not queue or label(queue) in report.origins
        return should_ask(queue, served, self._reported, serves_more=is_cut)
