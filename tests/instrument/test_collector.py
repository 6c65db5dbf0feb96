"""The main process: what becomes of notes, also of repeated and invalid ones."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.job_rows import ended_jobs

from queuescope.broker.reports import label
from queuescope.instrument.collector import Collector, Running
from queuescope.instrument.history_writer import HistoryWriter
from queuescope.instrument.metrics import WorkerMetrics
from queuescope.instrument.observation import Event, Observation
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore

T0 = 1_790_000_000.0
JOBS = "ai_agents_enhancement_jobs_total"


def observed(event: Event, *, at: float = T0, number: int = 1) -> Observation:
    return Observation(
        event=event,
        id=f"j{number}",
        at=at,
        name="nap",
        tenant="acme",
        queue="orders",
        due_at=T0 - 2,
        first_due_at=T0 - 2,
        started_at=T0,
    )


def translate(note: object, running: Running) -> tuple[Hashable, Observation] | None:
    if not isinstance(note, Observation):
        raise TypeError(note)
    is_told = note.event is not Event.STARTED and note.id not in running
    return None if is_told else (note.id, note)


@pytest.fixture
def metrics() -> WorkerMetrics:
    return WorkerMetrics()


@pytest.fixture
def collector(metrics: WorkerMetrics) -> Iterator[Collector]:
    made = Collector(metrics, None, "w1@shop", translate)
    made.start("127.0.0.1", (0,), redelivers=False)
    yield made
    made.stop()


def outcome(metrics: WorkerMetrics, name: str) -> float | None:
    labels = {"tenant": "acme", "queue": "orders", "outcome": name}
    return metrics.registry.get_sample_value(JOBS, labels)


def in_flight(metrics: WorkerMetrics) -> float | None:
    name = "ai_agents_enhancement_jobs_in_flight"
    return metrics.registry.get_sample_value(name, {"queue": "orders"})


def test_an_attempt_counts_once_in_flight_until_its_end(
    collector: Collector, metrics: WorkerMetrics
) -> None:
    collector.note(observed(Event.STARTED))
    collector.process_notes()
    assert in_flight(metrics) == 1.0
    for event in (Event.FAILED, Event.FAILED):
        collector.note(observed(event, at=T0 + 3))
    collector.process_notes()
    assert outcome(metrics, "failed") == 1.0
    assert in_flight(metrics) == 0.0


def test_a_job_that_runs_again_counts_again(collector: Collector, metrics: WorkerMetrics) -> None:
    for event in (Event.STARTED, Event.RETRIED, Event.STARTED, Event.SUCCEEDED):
        collector.note(observed(event))
    collector.stop()
    assert (outcome(metrics, "retried"), outcome(metrics, "succeeded")) == (1.0, 1.0)


def test_a_job_that_began_before_it_was_due_has_no_wait_known(
    collector: Collector, metrics: WorkerMetrics
) -> None:
    """The clock of its sender is off; a little less is what two good clocks may differ by."""
    for number, ahead in ((1, 3600.0), (2, 1.0)):
        for event in (Event.STARTED, Event.SUCCEEDED):
            seen = observed(event, number=number)
            due_at = T0 + ahead
            collector.note(msgspec.structs.replace(seen, due_at=due_at, first_due_at=due_at))
    collector.stop()
    assert outcome(metrics, "succeeded") == 2.0
    for name, labels in (("wait", {}), ("latency", {"tenant": "acme"})):
        found = {
            part: metrics.registry.get_sample_value(
                f"ai_agents_enhancement_{name}_seconds_{part}", {"queue": "orders", **labels}
            )
            for part in ("count", "sum")
        }
        assert found == {"count": 1.0, "sum": 0.0}


def test_an_invalid_note_is_counted_as_lost_and_does_no_harm(
    collector: Collector, metrics: WorkerMetrics
) -> None:
    collector.note(b"garbage")
    collector.note(observed(Event.STARTED))
    collector.note(observed(Event.SUCCEEDED))
    collector.stop()
    assert metrics.registry.get_sample_value("ai_agents_observations_lost_total") == 1.0
    assert outcome(metrics, "succeeded") == 1.0


def test_a_reading_includes_all_earlier_notes(collector: Collector) -> None:
    for number in range(500):
        collector.note(observed(Event.STARTED, number=number))
        collector.note(observed(Event.SUCCEEDED, number=number))
    assert collector.activity().processed == 500


def test_rows_survive_an_outage_of_the_history(metrics: WorkerMetrics, tmp_path: Path) -> None:
    """The folder cannot be made while a file stands in its place."""
    obstacle = tmp_path / "history"
    obstacle.write_text("in the way")
    store = JobStore(f"sqlite:///{obstacle / 'jobs.db'}")
    history = HistoryWriter(store, metrics)
    row = Job("j1", "nap", "acme", "orders", "w1", JobStatus.SUCCEEDED, finished_at=T0)
    history.add(row)
    history._flush()
    obstacle.unlink()
    history._flush()
    assert ended_jobs(store) == [row]
    store.close()


def test_rows_beyond_the_limit_are_counted_as_lost(metrics: WorkerMetrics, tmp_path: Path) -> None:
    store = JobStore(f"sqlite:///{tmp_path / 'jobs.db'}")
    history = HistoryWriter(store, metrics, limit=3)
    for number in range(5):
        history.add(
            Job(
                f"j{number}", "nap", "acme", "q", "w1", JobStatus.SUCCEEDED, finished_at=T0 + number
            )
        )
    history._flush()
    assert [job.id for job in ended_jobs(store)] == ["j4", "j3", "j2"]
    assert metrics.registry.get_sample_value("ai_agents_observations_lost_total") == 2.0
    store.close()


def test_label_values_are_short_and_printable() -> None:
    assert label("a\nb\u202ec") == "a\ufffdb\ufffdc"
    assert len(label("x" * 10_000)) == 200
