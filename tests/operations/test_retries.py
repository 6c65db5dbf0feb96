"""Which failed jobs no running worker can send again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.worker_reports import report

from queuescope.broker.reports import QUEUES_LIMIT, WorkerReport, decode_report, encode
from queuescope.operations.retries import Obstacle, Retries

DAY = 86_400.0
KNOWS: dict[str, Any] = {
    "retries": True,
    "types": ("nap",),
    "queues": ("orders",),
    "origins": ("key", "orders"),
}
KEEPS = report(**KNOWS, needs_arguments=True)
HAS_FUNCTION = report(**KNOWS, needs_arguments=False)


def obstacle(
    *reports: WorkerReport,
    name: str = "nap",
    queue: str = "orders",
    is_kept: bool | None = None,
    ended_seconds_ago: float | None = 60.0,
) -> Obstacle | None:
    return Retries(reports).obstacle(
        name, queue, is_kept=is_kept, ended_seconds_ago=ended_seconds_ago
    )


def words(found: Obstacle | None) -> str:
    return "" if found is None else found.words


def test_without_an_able_worker_nothing_is_sent_again() -> None:
    for reports in ((), (report(retries=False),)):
        assert Retries(reports).refusal.startswith("No running worker can send jobs again;")
        assert words(obstacle(*reports)) == Retries(reports).refusal
    assert Retries([KEEPS]).refusal == ""


def test_a_type_that_no_worker_knows_and_a_queue_that_none_serves_are_named() -> None:
    assert words(obstacle(KEEPS, name="gone")) == (
        "No running worker that can send jobs again knows type gone."
    )
    assert words(obstacle(KEEPS, queue="closed")) == (
        "No running worker that can send jobs of type nap again serves queue closed."
    )
    # Who serves the queue does not know the type, and who knows the type does not serve it.
    other = report(**{**KNOWS, "types": ("bake",), "queues": ("mill",), "origins": ("mill",)})
    assert "knows type" not in words(obstacle(KEEPS, other, queue="mill"))
    assert "serves queue mill" in words(obstacle(KEEPS, other, queue="mill"))
    assert obstacle(KEEPS, other, name="bake", queue="mill") is None
    # One that cannot send again is of no help, whatever it serves.
    serves = report(queues=("closed",))
    assert "serves queue closed" in words(obstacle(KEEPS, serves, queue="closed"))


@pytest.mark.parametrize("queue", ["orders", "key", ""])
def test_a_job_of_a_known_type_may_be_sent_from_a_queue_a_routing_key_or_nobody_knows_where(
    queue: str,
) -> None:
    assert obstacle(HAS_FUNCTION, queue=queue) is None


def test_names_are_compared_as_the_history_cuts_them() -> None:
    long = "n" * 250
    knows = report(**{**KNOWS, "types": (long[:200],), "origins": (long[:200],)})
    for name in (long, long[:200]):
        assert obstacle(knows, name=name, queue=name) is None


@pytest.mark.parametrize(
    ("is_kept", "ended_seconds_ago", "why"),
    [
        (True, 60.0, ""),
        (True, 8 * DAY, ""),
        # What is not known is for the worker to say.
        (None, 60.0, ""),
        # What is kept of it may be on its way.
        (False, 5.0, ""),
        (False, 60.0, "Its arguments were not kept: it failed before its project kept any, "),
        (False, None, "Its arguments were not kept: it failed before its project kept any, "),
        (False, 8 * DAY, "Its arguments are no longer kept, after seven days."),
    ],
)
def test_a_job_without_kept_arguments_cannot_be_sent_where_they_are_needed(
    is_kept: bool | None, ended_seconds_ago: float | None, why: str
) -> None:
    found = obstacle(KEEPS, is_kept=is_kept, ended_seconds_ago=ended_seconds_ago)
    assert words(found).startswith(why)
    assert bool(words(found)) == bool(why)
    assert Retries([KEEPS]).needs_arguments
    # A function of the project's own needs none, also beside a worker that does.
    assert not Retries([HAS_FUNCTION]).needs_arguments
    for able in ((HAS_FUNCTION,), (KEEPS, HAS_FUNCTION)):
        assert obstacle(*able, is_kept=is_kept, ended_seconds_ago=ended_seconds_ago) is None
    # But that of another project is none for this one.
    other = report(**{**KNOWS, "types": ("bake",)}, needs_arguments=False)
    both = obstacle(KEEPS, other, is_kept=is_kept, ended_seconds_ago=ended_seconds_ago)
    assert words(both) == words(found)


def test_what_an_earlier_worker_does_not_report_is_no_obstacle() -> None:
    fields = json.loads(encode(KEEPS))
    for field in ("needs_arguments", "types", "origins", "scales_itself"):
        del fields[field]
    before = decode_report(json.dumps(fields).encode())
    assert (before.needs_arguments, before.types, before.origins) == (None, None, None)
    assert obstacle(before, is_kept=False) is None
    assert obstacle(before, name="gone") is None
    assert obstacle(before, queue="closed") is None
    # It is known of a queue that others serve that this one does not.
    other = report(**{**KNOWS, "types": ("bake",), "queues": ("mill",), "origins": ("mill",)})
    assert "serves queue mill" in words(obstacle(before, other, queue="mill"))


def test_a_worker_with_more_queues_than_it_reports_may_serve_any() -> None:
    names = tuple(f"q{number}" for number in range(QUEUES_LIMIT))
    many = report(**{**KNOWS, "queues": names, "origins": None})
    assert obstacle(many, queue="closed") is None
