"""Reports of workers as they are in the broker, for tests of code that reads them."""

from __future__ import annotations

from typing import Any

import msgspec

from queuescope.broker.reports import ActiveJob, Pool, WorkerReport

NOW = 1_000_000.0
"""By the broker's clock."""
# The worker's clock is an hour ahead of the broker's, which must not matter.
AHEAD = 3600.0
JOB = ActiveJob(id="j", name="nap", queue="orders", tenant="acme", started_at=NOW + AHEAD - 40)
REPORT = WorkerReport(
    worker="w@h",
    boot_id="b",
    pid=1,
    at=NOW - 1,
    clock_at=NOW + AHEAD - 1,
    started_at=NOW + AHEAD - 1000,
    queues=("express", "orders"),
    consuming=("express", "orders"),
    paused=(),
    revision=4,
    revised_at=NOW + AHEAD - 500,
    pool=Pool.PREFORK,
    pool_size=2,
    prefetch_limit=2,
    reserved={},
    scheduled=0,
    active=(),
    active_count=0,
    processed=10,
    failed=0,
    retried=0,
    last_started_at=NOW + AHEAD - 400,
    last_ended_at=NOW + AHEAD - 390,
    loop_at=NOW + AHEAD - 2,
    cpu_ratio=0.1,
    memory_bytes=1,
    memory_limit_bytes=None,
    redelivers=True,
    retries=False,
    priority_steps=(0, 3, 6, 9),
    separator="\x06\x16",
)
BUSY: dict[str, Any] = {"active": (JOB,), "active_count": 1}
"""What is different about a worker that runs one job."""


def report(**changes: Any) -> WorkerReport:
    return msgspec.structs.replace(REPORT, **changes)
