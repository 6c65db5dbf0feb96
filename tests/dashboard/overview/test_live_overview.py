"""Live figures of a real broker, workers, job history and audit, each failing alone."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from tests.dashboard.conftest import RunningDashboard
from tests.instrument.conftest import Shop, Worker
from tests.real_broker import RealBroker
from tests.real_postgresql import RealPostgreSQL
from tests.real_prometheus import RealPrometheus

from queuescope.jobs.job import Job, JobStatus
from queuescope.jobs.store import JobStore
from queuescope.operations.access import Actor, Origin, Role
from queuescope.operations.audit import Outcome, Result
from queuescope.operations.request import Request
from queuescope.operations.store import OperationsStore

ADA = Actor("ada", Origin.OIDC)
WAITING = 7
SCRAPED = 3
BY_BROKER = {"queue_depth", "active_workers", "oldest_waiting"}
BY_HISTORY = {"success_rate", "throughput"}
FRESH = dict.fromkeys(("prometheus", "broker", "job_history", "audit"), "fresh")
WITHIN_SECONDS = 60
Standing = dict[str, Any]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    """Its numbers differ from the broker's, so that the source of each figure shows."""
    end = int(time.time()) + 3600
    times = np.arange(end - 2 * 3600, end, 15)
    jobs = np.arange(len(times), dtype=float)
    series: dict[str, tuple[Any, Any]] = {
        'ai_agents_queue_depth{queue="later"}': (times, np.full(len(times), SCRAPED)),
        "ai_agents_workers_up": (times, np.full(len(times), 9)),
        'ai_agents_enhancement_jobs_total{outcome="succeeded"}': (times, jobs),
    }
    with RealPrometheus(tmp_path_factory.mktemp("prometheus"), series=series) as server:
        yield server


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBroker]:
    with RealBroker(tmp_path_factory.mktemp("broker"), keeps=True) as running:
        yield running


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, broker: RealBroker) -> Iterator[Shop]:
    """Jobs wait in a queue that no worker serves."""
    made = Shop(tmp_path_factory.mktemp("shop"), broker.url)
    for _ in range(WAITING):
        made.send("nap", {"queue": "later"})
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def workers(shop: Shop) -> tuple[Worker, Worker]:
    return shop.start_worker("-c", "1"), shop.start_worker("-c", "1", beside=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of the dashboard, in which its audit and the job history are."""
    made = tmp_path_factory.mktemp("dashboard")
    write_jobs(f"sqlite:///{made / 'jobs.db'}")
    return made


@pytest.fixture(scope="module")
def dashboard(folder: Path, prometheus: RealPrometheus, shop: Shop) -> Iterator[RunningDashboard]:
    with serving(folder, prometheus, shop) as running:
        yield running


@contextmanager
def serving(
    folder: Path, prometheus: RealPrometheus, shop: Shop, **settings: str
) -> Iterator[RunningDashboard]:
    given: dict[str, Any] = {
        "broker_url": shop.broker_url,
        "job_store_url": f"sqlite:///{folder / 'jobs.db'}",
        "queues": "later",
        "prometheus_timeout_seconds": "20",
        **settings,
    }
    running = RunningDashboard(folder, prometheus.url, **given)
    try:
        yield running
    finally:
        running.close()
    assert "Traceback" not in running.log, running.log


def write_jobs(url: str) -> None:
    """Twenty jobs of the last minute, of which two have failed in one way and one in another."""
    now = time.time()
    job = Job("", "enhance", "acme", "later", "w@h", JobStatus.SUCCEEDED, started_at=now - 60)
    failed = replace(job, status=JobStatus.FAILED, error_class="LookupError")
    store = JobStore(url)
    store.record(
        [replace(job, id=f"good-{number}", finished_at=now - 30) for number in range(17)]
        + [
            replace(failed, id="bad-1", finished_at=now - 20, error_message="no order 17"),
            replace(failed, id="bad-2", finished_at=now - 10, error_message="no order 23"),
            replace(failed, id="bad-3", finished_at=now - 5, tenant="globex", error_message="gone"),
        ]
    )
    store.close()


def read_overview(dashboard: RunningDashboard) -> Standing:
    found: Standing = orjson.loads(dashboard.ask("/queuescope/overview?age=10").body)
    return found


def once(dashboard: RunningDashboard, is_so: Callable[[Standing], bool]) -> Standing:
    """The overview once the condition holds."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while not is_so(found := read_overview(dashboard)):
        assert time.monotonic() < deadline, found
        time.sleep(0.4)
    return found


def states(found: Standing) -> dict[str, str]:
    return {source["id"]: source["state"] for source in found["sources"]}


def cards(found: Standing) -> dict[str, dict[str, Any]]:
    return {card["id"]: card for card in found["kpis"]}


def findings(found: Standing) -> dict[str, str]:
    return {
        one["rule"]: "".join(part for part in one["reason"] if isinstance(part, str))
        for one in found["verdict"]["findings"]
    }


def all_answer(found: Standing) -> bool:
    return set(states(found).values()) == {"fresh"}


def test_the_cards_show_the_brokers_own_figures_with_their_moment(
    dashboard: RunningDashboard,
) -> None:
    found = once(
        dashboard,
        lambda found: all_answer(found) and cards(found)["active_workers"]["words"] == "2 of 2",
    )
    assert states(found) == FRESH
    shown = {name: cards(found)[name]["words"] for name in BY_BROKER}
    assert shown["queue_depth"] == str(WAITING)
    assert re.search(r"\d (s|min|h)$", shown["oldest_waiting"])
    for name, card in cards(found).items():
        history = "job_history" if name in BY_HISTORY else "prometheus"
        assert card["origin"] == ("broker" if name in BY_BROKER else history)
    assert cards(found)["success_rate"]["words"] == "85.0 %"
    depth = cards(found)["queue_depth"]
    assert depth["state"] == "fresh"
    assert abs(depth["asOf"] - time.time()) < WITHIN_SECONDS
    assert depth["details"][0] == ["From the broker, as of ", {"at": depth["asOf"]}, "."]
    assert found["operations"]["state"] == "idle"


def test_charts_and_cards_work_beside_an_unsupported_broker(
    folder: Path, prometheus: RealPrometheus, shop: Shop
) -> None:
    address = "amqp://guest:secret@127.0.0.1:1//"
    with serving(folder, prometheus, shop, broker_url=address) as running:
        found = once(running, lambda found: cards(found)["queue_depth"]["state"] == "fresh")
        assert cards(found)["queue_depth"]["words"] == str(SCRAPED)
        assert cards(found)["active_workers"]["words"] == "9"
        assert "broker" not in states(found)
        view = orjson.loads(running.ask("/queuescope/view?range=1h&age=600").body)
        assert view["panels"][0]["state"] == "fresh"
        assert "the broker is RabbitMQ" in running.log
        assert "secret" not in running.log


def act(url: str) -> None:
    with closing(OperationsStore(url)) as store:
        purge = Request.purge("later")
        plan = store.plan(ADA, purge, 3)
        begun = store.begin(plan, ADA, Role.ADMIN, 3)
        store.end(Outcome(Result.DONE, "Three.", 3, begun), ADA, Role.ADMIN, purge)


@pytest.fixture(scope="module")
def _purged(dashboard: RunningDashboard, folder: Path) -> None:
    """The audit of the running dashboard holds an operation."""
    act(f"sqlite:///{folder / 'operations.db'}")


@pytest.mark.usefixtures("_purged")
def test_operations_of_the_audit_are_listed_with_actor_and_outcome(
    dashboard: RunningDashboard,
) -> None:
    found = once(dashboard, lambda found: bool(found["operations"]["list"]))["operations"]
    [one] = found["list"]
    assert (one["actor"], one["words"], one["result"]) == ("ada", "purge queue later", "done")
    assert abs(one["at"] - time.time()) < WITHIN_SECONDS
    assert found["state"] == "fresh"


def test_a_worker_that_is_killed_is_lost_and_the_verdict_says_which(
    dashboard: RunningDashboard, workers: tuple[Worker, Worker]
) -> None:
    once(dashboard, lambda found: cards(found)["active_workers"]["words"] == "2 of 2")
    os.killpg(workers[1].process.pid, signal.SIGKILL)
    found = once(dashboard, lambda found: "workers_lost" in findings(found))
    alive = cards(found)["active_workers"]
    assert (alive["words"], alive["level"], alive["levelWords"]) == ("1 of 2", "warn", "1 lost")
    assert findings(found)["workers_lost"] == "1 of 2 workers is lost: w2@shop"


def test_the_failures_of_the_day_are_listed_by_group_and_one_by_one(
    dashboard: RunningDashboard,
) -> None:
    found = once(dashboard, lambda found: found["failures"]["state"] == "fresh")["failures"]
    assert (found["count"], found["groupCount"], found["isWhole"]) == (3, 2, True)
    assert [
        (one["name"], one["error"], one["count"], one["tenants"]) for one in found["groups"]
    ] == [
        ("enhance", "LookupError", 2, ["acme"]),
        ("enhance", "LookupError", 1, ["globex"]),
    ]
    assert [one["id"] for one in found["last"]] == ["bad-3", "bad-2", "bad-1"]
    assert found["last"][0]["message"] == "gone"


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_the_broker_prometheus_supplies_its_figures_and_the_rest_still_work(
    how: str, dashboard: RunningDashboard, broker: RealBroker
) -> None:
    once(dashboard, all_answer)
    with broker.gone() if how == "killed" else broker.frozen():
        found = once(dashboard, lambda found: states(found) == FRESH | {"broker": "stale"})
    [source] = [source for source in found["sources"] if source["id"] == "broker"]
    assert source["kind"] == ("down" if how == "killed" else "slow")
    depth, oldest = cards(found)["queue_depth"], cards(found)["oldest_waiting"]
    assert (depth["words"], depth["state"]) == (str(SCRAPED), "partial")
    assert (depth["origin"], depth["instead"]) == ("prometheus", "from Prometheus")
    assert depth["cause"].startswith("From Prometheus: the broker did")
    # No other source has this figure: the last good one stays, with its time.
    assert (oldest["state"], oldest["origin"]) == ("stale", "broker")
    assert oldest["asOf"] < found["takenAt"]
    assert oldest["level"] == "none"
    assert cards(found)["throughput"]["state"] == "fresh"
    assert findings(found)["broker"].startswith("the broker did")
    assert findings(found)["oldest_waiting"].startswith("Oldest waiting is not known: the broker")
    assert found["verdict"]["state"] != "healthy"
    once(dashboard, all_answer)


def test_without_prometheus_live_figures_continue_and_name_their_source(
    dashboard: RunningDashboard, prometheus: RealPrometheus
) -> None:
    once(dashboard, all_answer)
    prometheus.kill()
    try:
        found = once(dashboard, lambda found: states(found) == FRESH | {"prometheus": "stale"})
    finally:
        prometheus.start()
    for name, card in cards(found).items():
        if name in BY_BROKER:
            assert (card["state"], card["origin"]) == ("fresh", "broker")
        elif name in BY_HISTORY:
            # On a busy machine its jobs ended more than five minutes ago.
            assert card["state"] in ("fresh", "idle")
            assert card["origin"] == "job_history"
        else:
            assert card["state"] in ("stale", "unavailable")
    assert cards(found)["queue_depth"]["words"] == str(WAITING)
    assert "prometheus" in findings(found)
    once(dashboard, all_answer)


def test_a_broker_that_forbids_writing_is_still_read(
    dashboard: RunningDashboard, broker: RealBroker
) -> None:
    with broker.read_only():
        as_of = cards(once(dashboard, all_answer))["queue_depth"]["asOf"]
        found = once(
            dashboard,
            lambda found: (
                cards(found)["queue_depth"]["asOf"] > as_of + 4
                and "broker_refuses" in findings(found)
                and "workers_lost" not in findings(found)
            ),
        )
    # Nobody can report, so the broker cannot tell who is alive.
    assert cards(found)["active_workers"]["origin"] == "prometheus"
    assert findings(found)["broker_refuses"].startswith("workers cannot report")
    assert cards(found)["queue_depth"]["words"] == str(WAITING)
    assert states(found)["broker"] == "fresh"


def test_a_broker_that_forbids_reading_is_reported_with_its_kind_and_no_secret(
    tmp_path: Path, prometheus: RealPrometheus, shop: Shop, broker: RealBroker
) -> None:
    with broker.connected() as client:
        client.acl_setuser("blind", enabled=True, passwords=["+s3cret"], commands=["+ping"])
    blind = broker.url.replace("redis://", "redis://blind:s3cret@")
    with serving(tmp_path, prometheus, shop, broker_url=blind) as dashboard:
        found = once(dashboard, lambda found: bool(findings(found).get("broker")))
    [source] = [source for source in found["sources"] if source["id"] == "broker"]
    assert (source["state"], source["kind"]) == ("unavailable", "no_permission")
    assert cards(found)["queue_depth"]["words"] == str(SCRAPED)
    assert cards(found)["oldest_waiting"]["words"] == "–"
    assert b"s3cret" not in orjson.dumps(found)


@pytest.mark.usefixtures("_purged")
def test_an_unreadable_audit_is_reported_and_affects_nothing_else(
    dashboard: RunningDashboard, folder: Path
) -> None:
    once(dashboard, lambda found: all_answer(found) and bool(found["operations"]["list"]))
    with closing(sqlite3.connect(folder / "operations.db")) as other:
        other.execute("ALTER TABLE operations_audit RENAME TO gone")
        found = once(dashboard, lambda found: states(found) == FRESH | {"audit": "stale"})
        other.execute("ALTER TABLE gone RENAME TO operations_audit")
    assert findings(found)["audit"].startswith("the audit (SQLite, ")
    # Its last report is still shown.
    assert (found["operations"]["state"], len(found["operations"]["list"])) == ("stale", 1)
    assert cards(found)["queue_depth"]["words"] == str(WAITING)
    once(dashboard, all_answer)


def test_a_job_history_that_cannot_be_read_leaves_its_figures_to_prometheus(
    dashboard: RunningDashboard, folder: Path
) -> None:
    once(dashboard, all_answer)
    database, aside = folder / "jobs.db", folder / "jobs.aside"
    database.rename(aside)
    database.mkdir()
    try:
        found = once(
            dashboard,
            lambda found: (
                states(found) == FRESH | {"job_history": "stale"}
                and found["failures"]["state"] == "stale"
            ),
        )
    finally:
        database.rmdir()
        aside.rename(database)
    assert findings(found)["job_history"].startswith("the job history (SQLite, ")
    for name in BY_HISTORY:
        assert (cards(found)[name]["state"], cards(found)[name]["origin"]) == (
            *("partial", "prometheus"),
        )
    assert cards(found)["success_rate"]["words"] == "100.0 %"
    assert found["failures"]["count"] == 3
    assert cards(found)["queue_depth"]["state"] == "fresh"
    once(dashboard, all_answer)


@contextmanager
def down(postgresql: RealPostgreSQL) -> Iterator[None]:
    postgresql.kill()
    try:
        yield
    finally:
        postgresql.start()


@contextmanager
def denied(postgresql: RealPostgreSQL, name: str) -> Iterator[None]:
    postgresql.execute("REVOKE SELECT ON operations_audit, jobs FROM reader", database=name)
    try:
        yield
    finally:
        postgresql.execute("GRANT SELECT ON operations_audit, jobs TO reader", database=name)


def test_audit_and_history_report_a_postgresql_that_is_down_frozen_or_forbids_reading(
    tmp_path: Path,
    prometheus: RealPrometheus,
    shop: Shop,
    postgresql: RealPostgreSQL,
    postgresql_url: str,
) -> None:
    act(postgresql_url)
    write_jobs(postgresql_url)
    name = postgresql_url.rpartition("/")[2]
    postgresql.execute("CREATE USER reader PASSWORD 's3cret'")
    postgresql.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", database=name)
    url = postgresql.url(name, user="reader", password="s3cret")
    faults: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "lacks a right": lambda: denied(postgresql, name),
        "PostgreSQL": lambda: down(postgresql),
        "in time": postgresql.frozen,
    }
    try:
        with serving(
            tmp_path, prometheus, shop, operations_store_url=url, job_store_url=url
        ) as dashboard:
            found = once(dashboard, all_answer)
            assert [one["words"] for one in found["operations"]["list"]] == ["purge queue later"]
            assert cards(found)["success_rate"]["words"] == "85.0 %"
            for words, fault in faults.items():
                with fault():
                    found = once(dashboard, both_are_away)
                for source in ("audit", "job_history"):
                    assert words in findings(found)[source]
                assert len(found["operations"]["list"]) == 1
                assert cards(found)["queue_depth"]["words"] == str(WAITING)
                assert cards(found)["success_rate"]["origin"] == "prometheus"
                assert b"s3cret" not in orjson.dumps(found)
                once(dashboard, all_answer)
    finally:
        postgresql.execute("DROP OWNED BY reader", database=name)
        postgresql.execute("DROP USER reader")


def both_are_away(found: Standing) -> bool:
    return states(found) == FRESH | {"audit": "stale", "job_history": "stale"}
