"""The page of jobs and its reads on 1,000,000 rows against 1,000, as ratios within one run."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.browser import awaited, chromium, new_viewer
from benchmarks.report import Ratio, Results, versions
from benchmarks.servers import PROJECT, Server
from benchmarks.turns import take_turns
from playwright.sync_api import Browser, Page
from tests.real_postgresql import RealPostgreSQL

from queuescope.jobs.failures import Span, failed_ids, failure_groups, last_failures
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.search import (
    JobFilter,
    Place,
    count_jobs,
    find_jobs,
    known_values,
)
from queuescope.jobs.store import JobStore

FEW, MANY = 1_000, 1_000_000
DATABASES = ("SQLite", "PostgreSQL")
ALL_READS, LOAD, TURN = "all reads of the page", "page opened", "older jobs shown"

_DAY = 86_400.0
_SPAN_SECONDS = 14 * _DAY
_NOWHERE = "http://127.0.0.1:9"
_TENANTS = ("acme", "globex", "initech", "umbrella", *(f"tenant-{n:02}" for n in range(40)))
_SHARES = (40.0, 30.0, 20.0, 9.0, *([0.025] * 40))
_TYPES = ("enhance_ticket", "summarise_thread", "classify_ticket")
_FAILED_RATIO, _REVOKED_RATIO = 0.03, 0.0005

_SHOWN = """
async before => {
  const rows = () => [...document.querySelectorAll("[data-part=history] tbody details")]
    .map(row => row.dataset.key).join();
  const groups = () => document.querySelector("[data-part=failures] table");
  while (!rows() || rows() === before || !groups()) {
    await new Promise(requestAnimationFrame);
  }
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return [performance.now(), rows()];
}
"""


def name_of(database: str, rows: int) -> str:
    return f"{database}, {rows:,} rows"


def made_up(count: int, end: float) -> Iterator[Job]:
    """``count`` jobs of the two weeks until ``end``; the shares are the same for every count."""
    rng = random.Random(1)
    for number in range(count):
        at = end - _SPAN_SECONDS * (count - number) / count
        tenant = rng.choices(_TENANTS, _SHARES)[0]
        ticket, luck = rng.randrange(900_000), rng.random()
        status, error_class, error_message = JobStatus.SUCCEEDED, "", ""
        if luck < _FAILED_RATIO:
            status = JobStatus.FAILED
            error_class, error_message = rng.choice(
                (
                    ("UpstreamTimeoutError", f"no answer within 60 s (ticket {ticket})"),
                    ("BadPayloadError", f"ticket {ticket}: the field 'body' is missing"),
                    ("RateLimitedError", f"429 Too Many Requests (ticket {ticket})"),
                )
            )
        elif luck < _FAILED_RATIO + _REVOKED_RATIO:
            status = JobStatus.REVOKED
        yield Job(
            id=f"{rng.getrandbits(32):08x}-{number:08x}-7000-a000-{rng.getrandbits(48):012x}",
            name=rng.choices(_TYPES, (60, 15, 25))[0],
            tenant=tenant,
            queue=rng.choices(("default", "priority"), (80, 20))[0],
            worker=f"worker-{rng.randrange(8)}@bench",
            status=status,
            enqueued_at=at - 8,
            started_at=at - 5,
            finished_at=at,
            wait_seconds=3.0,
            runtime_seconds=5.0,
            error_class=error_class,
            error_message=error_message,
        )


def reads_of(store: JobStore, now: float) -> dict[str, Callable[[], object]]:
    """The reads of the page, and those that a viewer can cause."""
    day, ever = Span(now - _DAY, now), Span(0.0, now)
    (group, *_) = failure_groups(store, ever).groups
    deep = Place(now - _SPAN_SECONDS / 2, "")
    filters = ("tenant", "name", "queue", "worker")
    page_reads: dict[str, Callable[[], object]] = {
        "failures of 24 h, grouped": lambda: failure_groups(store, day, limit=10),
        "the last 10 failures": lambda: last_failures(store, day),
        "the values of four filters": lambda: [known_values(store, name) for name in filters],
        "the newest 50 jobs": lambda: find_jobs(store, JobFilter()),
        "number of jobs": lambda: count_jobs(store, JobFilter()),
    }

    def whole() -> None:
        for read in page_reads.values():
            read()

    def found(wanted: JobFilter) -> Callable[[], object]:
        return lambda: (find_jobs(store, wanted), count_jobs(store, wanted))

    return {
        ALL_READS: whole,
        **page_reads,
        "failures of 14 days, grouped": lambda: failure_groups(store, ever, limit=10),
        "the last 10 of a group": lambda: last_failures(store, ever, fingerprint=group.fingerprint),
        "the ids of a group, at most 10,000": lambda: failed_ids(store, ever, group.fingerprint),
        "50 jobs of a week ago": lambda: find_jobs(store, JobFilter(), older_than=deep),
        "one tenant, with the number": found(JobFilter(tenant="acme")),
        "failures of one tenant, with the number": found(
            JobFilter(tenant="acme", status=JobStatus.FAILED)
        ),
        "five filters at once, with the number": found(
            JobFilter(
                tenant="acme",
                status=JobStatus.SUCCEEDED,
                name="enhance_ticket",
                queue="priority",
                worker="worker-3@bench",
            )
        ),
        "a job by the start of its id": found(JobFilter(text=group.example.id[:13])),
        "text in errors, with the number": found(JobFilter(text="too many")),
        "text that is in no error": found(JobFilter(text="zebra")),
    }


def measure_reads(
    results: Results, stores: Mapping[str, JobStore], now: float, *, turns: int
) -> None:
    reads = {name: reads_of(store, now) for name, store in stores.items()}
    for title in next(iter(reads.values())):
        contenders = {name: of[title] for name, of in reads.items()}
        take_turns(results, title, contenders, turns=turns)


def measure_pages(
    results: Results, browser: Browser, servers: Mapping[str, Server], *, turns: int
) -> None:
    names = list(servers)
    loads: dict[str, list[float]] = {name: [] for name in names}
    turned: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, turns):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            with new_viewer(browser) as page:
                loaded, older = open_and_turn(page, f"{servers[name].url}/jobs")
            if turn >= 0:
                loads[name].append(loaded)
                turned[name].append(older)
    for name in names:
        results.add(LOAD, name, "ms", loads[name])
        results.add(TURN, name, "ms", turned[name])


def open_and_turn(page: Page, url: str) -> tuple[float, float]:
    """Milliseconds until failures and history are painted, and from a click to the older jobs."""
    page.goto(url, wait_until="commit")
    loaded, rows = awaited(page, f"({_SHOWN})('')")
    page.locator("[data-test-script-state=notRunning]").wait_for()
    begun = page.evaluate(
        "() => { const begun = performance.now();"
        " document.querySelector('[data-part=history] [data-value=older]').click();"
        " return begun; }"
    )
    shown, _ = awaited(page, f"({_SHOWN})({json.dumps(rows)})")
    return float(loaded), float(shown) - float(begun)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./benchmarks/run jobs_page", description=__doc__)
    parser.add_argument("--turns", type=int, default=15, help="of each read [%(default)s]")
    parser.add_argument("--loads", type=int, default=8, help="of each page [%(default)s]")
    parser.add_argument("--rows", type=int, default=MANY, help="instead of %(default)s")
    parser.add_argument(
        "--output", type=Path, default=PROJECT / "benchmarks/results", help="[%(default)s]"
    )
    given = parser.parse_args()
    sizes = (FEW, given.rows)
    results = Results(
        "jobs_page",
        "The page of jobs",
        {"rows": list(sizes), "turns": given.turns, "loads": given.loads},
        versions("sqlalchemy", "psycopg", "streamlit"),
    )
    now = time.time()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="jobs-page-")))
        postgresql = running.enter_context(RealPostgreSQL())
        stores: dict[str, JobStore] = {}
        servers: dict[str, Server] = {}
        for database in DATABASES:
            for rows in sizes:
                name = name_of(database, rows)
                if database == "SQLite":
                    url = f"sqlite:///{folder / f'{rows}.db'}"
                else:
                    postgresql.execute(f"CREATE DATABASE rows_{rows}")
                    url = postgresql.url(f"rows_{rows}")
                stores[name] = JobStore(url)
                running.callback(stores[name].close)
                begun = time.monotonic()
                stores[name].load(made_up(rows, now))
                if database == "PostgreSQL":
                    # As autovacuum would do in time.
                    postgresql.execute("VACUUM ANALYZE jobs", database=f"rows_{rows}")
                print(f"{name} loaded in {time.monotonic() - begun:.0f} s", flush=True)
                data = folder / f"{database}-{rows}"
                servers[name] = running.enter_context(
                    Server(
                        f"{database}-{rows}",
                        ("-P", "-m", "queuescope.cli", "serve", "--port", "{port}"),
                        folder,
                        environment={
                            "PROMETHEUS_URL": _NOWHERE,
                            "QUEUESCOPE_DATA_DIR": str(data),
                            "QUEUESCOPE_JOB_STORE_URL": url,
                        },
                        ready_path="/healthz",
                    )
                )
        measure_reads(results, stores, now, turns=given.turns)
        with chromium() as browser:
            measure_pages(results, browser, servers, turns=given.loads)
    for database in DATABASES:
        few, many = (name_of(database, rows) for rows in sizes)
        for title, target in ((LOAD, 1.25), (TURN, 1.5), (ALL_READS, 4.0)):
            ratio = results.times(title, many, few)
            results.ratios.append(
                Ratio(f"{database}: {title}, times", ratio, target, at_least=False)
            )
    results.write(given.output)
    print((given.output / "jobs_page.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
