"""The main process: what observations become, also when they are late, doubled or never end."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuescope.instrument import collector as collector_module
from queuescope.instrument.collector import Collector, History
from queuescope.instrument.metrics import WorkerMetrics
from queuescope.instrument.observation import Event, Observation, Sender
from queuescope.jobs.store import Job, JobStatus, JobStore

T0 = 1_790_000_000.0
JOBS = "ai_agents_enhancement_jobs_total"


def observed(event: Event, *, at: float = T0, pid: int = 0, number: int = 1) -> Observation:
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
        pid=pid,
    )


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files of the test's own; ``tmp_path`` is too long for sockets."""
    with tempfile.TemporaryDirectory(prefix="collector-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture
def metrics() -> WorkerMetrics:
    return WorkerMetrics()


@pytest.fixture
def collector(metrics: WorkerMetrics) -> Iterator[Collector]:
    made = Collector(metrics, None, "w1@shop")
    made.start("127.0.0.1", 0, redelivers=False)
    yield made
    made.stop()


def outcome(metrics: WorkerMetrics, name: str) -> float | None:
    labels = {"tenant": "acme", "queue": "orders", "outcome": name}
    return metrics.registry.get_sample_value(JOBS, labels)


def in_flight(metrics: WorkerMetrics) -> float | None:
    name = "ai_agents_enhancement_jobs_in_flight"
    return metrics.registry.get_sample_value(name, {"queue": "orders"})


def test_an_end_that_is_told_twice_counts_once(
    collector: Collector, metrics: WorkerMetrics
) -> None:
    """The child told it and died; then the main process told that the job was lost."""
    sender = Sender(collector.path)
    sender.send(observed(Event.STARTED))
    sender.send(observed(Event.FAILED, at=T0 + 3))
    sender.send(observed(Event.FAILED, at=T0 + 13))
    sender.close()
    collector.stop()
    assert outcome(metrics, "failed") == 1.0
    assert in_flight(metrics) == 0.0


def test_a_job_that_runs_again_counts_again(collector: Collector, metrics: WorkerMetrics) -> None:
    sender = Sender(collector.path)
    for event in (Event.STARTED, Event.RETRIED, Event.STARTED, Event.SUCCEEDED):
        sender.send(observed(event))
    sender.close()
    collector.stop()
    assert (outcome(metrics, "retried"), outcome(metrics, "succeeded")) == (1.0, 1.0)


def test_garbage_is_counted_as_lost_and_does_no_harm(
    collector: Collector, metrics: WorkerMetrics
) -> None:
    sender = Sender(collector.path)
    sender._socket.sendto(b"\x00garbage", str(collector.path))
    sender.send(observed(Event.SUCCEEDED))
    sender.close()
    collector.stop()
    assert metrics.registry.get_sample_value("ai_agents_observations_lost_total") == 1.0
    assert outcome(metrics, "succeeded") == 1.0


def test_a_job_whose_process_is_gone_does_not_stay_in_flight(
    metrics: WorkerMetrics, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    idle = Collector(metrics, None, "w1@shop")
    idle.observe(observed(Event.STARTED, pid=gone.pid))
    idle._reap()
    assert in_flight(metrics) == 1.0
    monkeypatch.setattr(collector_module, "_LOST_AFTER_SECONDS", 0.0)
    idle._reap()
    assert in_flight(metrics) == 0.0
    assert outcome(metrics, "retried") == 1.0
    idle._socket.close()


def test_what_a_killed_worker_left_is_cleared_and_a_living_one_is_spared(
    metrics: WorkerMetrics, temporary: Path
) -> None:
    killed, living = Collector(metrics, None, "w1"), Collector(metrics, None, "w2")
    killed._socket.close()
    third = Collector(metrics, None, "w3")
    assert set(temporary.glob("*/*.sock")) == {living.path, third.path}
    living._socket.close()
    third._socket.close()


def test_a_long_path_to_temporary_files_costs_no_observation(
    metrics: WorkerMetrics, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The address of a socket is short; what has no room for it has a short path elsewhere."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    collector = Collector(metrics, None, "w1@shop")
    collector.start("127.0.0.1", 0, redelivers=False)
    sender = Sender(collector.path)
    sender.send(observed(Event.SUCCEEDED))
    sender.close()
    collector.stop()
    assert outcome(metrics, "succeeded") == 1.0
    assert not collector.path.parent.exists()


def test_rows_survive_an_outage_of_the_history(metrics: WorkerMetrics, tmp_path: Path) -> None:
    """The folder cannot be made while a file stands in its place."""
    obstacle = tmp_path / "history"
    obstacle.write_text("in the way")
    store = JobStore(f"sqlite:///{obstacle / 'jobs.db'}")
    history = History(store, metrics)
    row = Job("j1", "nap", "acme", "orders", "w1", JobStatus.SUCCEEDED, finished_at=T0)
    history.add(row)
    history._flush()
    obstacle.unlink()
    history._flush()
    assert store.recent() == [row]
    store.close()


def test_rows_beyond_the_limit_are_counted_as_lost(metrics: WorkerMetrics, tmp_path: Path) -> None:
    store = JobStore(f"sqlite:///{tmp_path / 'jobs.db'}")
    history = History(store, metrics, limit=3)
    for number in range(5):
        history.add(
            Job(
                f"j{number}", "nap", "acme", "q", "w1", JobStatus.SUCCEEDED, finished_at=T0 + number
            )
        )
    history._flush()
    assert [job.id for job in store.recent()] == ["j4", "j3", "j2"]
    assert metrics.registry.get_sample_value("ai_agents_observations_lost_total") == 2.0
    store.close()
