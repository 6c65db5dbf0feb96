"""The whole stack, started like a user does, with six hours of history."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Page
from tests.browser.conftest import running_chromium
from tests.browser.jobs_page import JobsPage
from tests.browser.operations_page import OperationsPage
from tests.demo.incident import (
    FAILING,
    Incident,
    Seen,
    Truth,
    begin_sending,
    figures_are_true,
    findings_are_true,
    forecast_is_true,
    unfinished,
)

from queuescope.cli.serve import key_hint
from queuescope.dashboard.jobs.tables import GROUPS_SHOWN
from queuescope.demo.stack import StackOptions, _layout
from queuescope.jobs.failures import Span, failed_ids, failure_groups
from queuescope.jobs.job import JobStatus
from queuescope.jobs.store import JobStore
from queuescope.operator_key import operator_key
from queuescope.ports import listen, port_of
from queuescope.settings import Settings


class Stack:
    """``queuescope demo`` in its own process."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self._data_dir = data_dir
        self._argv = [sys.executable, "-P", "-m", "queuescope.cli", "demo"]
        self._argv += ["--data-dir", str(data_dir), "--history-days", "0.25", *arguments]
        self._log = data_dir.with_suffix(".said")
        self.start()

    def start(self) -> None:
        self.began_at = time.time()
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                self._argv, stdout=out, stderr=subprocess.STDOUT, umask=0
            )
        eventually(lambda: self._has_ended() or "Ready after" in self.said, "a start", self)

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def dashboard_url(self) -> str:
        return self._told(r"^Dashboard: (http://\S+)$")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        return self._process.wait()

    def query(self, promql: str) -> list[dict[str, Any]]:
        url = self._told(r"Prometheus: (http://[^;]+);")
        body = _get(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}")
        found: list[dict[str, Any]] = json.loads(body)["data"]["result"]
        return found

    def services(self) -> list[psutil.Process]:
        """Every process of this stack: with its name, or a descendant of one."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            own = " ".join(process.info["cmdline"] or ())
            environment = process.info["environ"] or {}
            if str(self._data_dir) in own + environment.get("QUEUESCOPE_JOB_STORE_URL", ""):
                found.append(process)
        return found

    def leaders(self, *words: str) -> list[int]:
        """The leader of a service, found by its command line; empty while it is down."""
        return [
            process.pid
            for process in self.services()
            if all(word in " ".join(process.info["cmdline"]) for word in words)
            and os.getpgid(process.pid) == process.pid
        ]

    def _has_ended(self) -> bool:
        return self._process.poll() is not None

    def _told(self, pattern: str) -> str:
        match = re.search(pattern, self.said, re.MULTILINE)
        assert match, self.said
        return match[1]


def eventually(condition: Callable[[], Any], what: str, stack: Stack) -> None:
    deadline = time.monotonic() + 200
    while True:
        # A restarting service does not respond for a while, or cuts off a response.
        with suppress(OSError, http.client.HTTPException):
            if condition():
                return
        assert time.monotonic() < deadline, f"never happened: {what}\n{stack.said}"
        time.sleep(0.1)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 - our own server
        body: bytes = response.read()
        return body


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack") / "data", "--port", "0")
    yield stack
    stack.signal(signal.SIGKILL)
    stack.wait()
    eventually(lambda: not stack.services(), "the end of every process", stack)


@pytest.fixture
def tab() -> Iterator[Page]:
    with running_chromium() as chromium:
        yield chromium.new_page(viewport={"width": 1440, "height": 1200}, timezone_id="UTC")


def test_the_dashboard_answers_at_the_address_that_is_printed(stack: Stack) -> None:
    assert _get(f"{stack.dashboard_url}/healthz").strip() == b"ok"


def test_the_link_that_is_printed_lets_a_browser_act(stack: Stack) -> None:
    link = urllib.parse.urlsplit(stack._told(r"^To act: (http://\S+)$"))
    assert f"http://{link.netloc}" == stack.dashboard_url
    connection = http.client.HTTPConnection(link.netloc, timeout=60)
    connection.request("GET", f"/?{link.query}", headers={"Accept": "text/html"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (303, "./")
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    connection.close()


def test_the_addresses_that_are_printed_are_below_the_base_path(tmp_path: Path) -> None:
    plan = _layout(StackOptions(tmp_path, "127.0.0.1", 0, base_path="/queues"), print)
    at = f"http://127.0.0.1:{plan.dashboard_port}"
    assert plan.dashboard_url == f"{at}/queues"
    assert operator_key(tmp_path).link(plan.dashboard_url).startswith(f"{at}/queues/?key=")
    settings = Settings(prometheus_url="http://127.0.0.1:1", data_dir=tmp_path, base_path="/queues")
    assert key_hint(settings, at, shows_key=True).startswith(f"To act: {at}/queues/?key=")


def test_the_past_and_the_present_are_one_series(stack: Stack) -> None:
    def joined() -> bool:
        depth = 'ai_agents_queue_depth{queue="default",job="exporter",instance="exporter"}'
        [past] = stack.query(f"count_over_time({depth}[1d])")
        present = stack.query(f"timestamp({depth}) > time() - 20")
        return int(past["value"][1]) > 1440 and len(present) == 1

    eventually(joined, "samples of all six hours in one series", stack)


def test_every_target_is_scraped(stack: Stack) -> None:
    targets = {"exporter", "worker-1", "worker-2", "dashboard", "prometheus"}
    up = "up == 1"
    eventually(
        lambda: {entry["metric"]["instance"] for entry in stack.query(up)} == targets,
        "all targets up",
        stack,
    )


def test_real_jobs_go_through_real_workers(stack: Stack) -> None:
    done = 'sum(increase(ai_agents_enhancement_jobs_total{outcome="succeeded"}[1m]))'
    eventually(lambda: stack.query(f"{done} > 0"), "a job that succeeds", stack)


def test_in_an_incident_the_page_is_true(stack: Stack) -> None:
    """A worker is frozen, 300 jobs of one tenant arrive and 60 failing ones of another; then it
    continues.

    Everything that the page shows meanwhile is compared with the rows of the jobs afterwards.
    """
    [worker], [producer] = stack.leaders("celery", "worker-2@demo"), stack.leaders("demo.producer")
    rows, seen = stack._data_dir / "jobs.sqlite3", []

    def look() -> Seen:
        overview = json.loads(_get(f"{stack.dashboard_url}/queuescope/overview?age=1"))
        view = json.loads(_get(f"{stack.dashboard_url}/queuescope/view?range=24h&age=1"))
        seen.append(Seen(overview["takenAt"], overview, view))
        return seen[-1]

    def watch(until: Callable[[Seen], bool], what: str) -> None:
        def looked() -> bool:
            time.sleep(2)
            return until(look())

        eventually(looked, what, stack)

    # The demo's own jobs arrive at random; those in flight end without action.
    os.killpg(producer, signal.SIGSTOP)
    watch(lambda now: now.card("active_workers")["words"] == "2 of 2", "both workers")
    os.killpg(worker, signal.SIGSTOP)
    frozen_at = time.time()
    with begin_sending(psutil.Process(producer).environ()) as sending:
        try:
            watch(lambda _: sending.poll() is not None, "all jobs sent")
            burst_at = time.time()
            watch(lambda now: now.at > burst_at + 30, "half a minute of one worker")
        finally:
            os.killpg(worker, signal.SIGCONT)
            sending.kill()
    thawed_at = time.time()
    watch(lambda _: unfinished(rows, frozen_at) <= 0, "the end of all jobs")
    watch(lambda now: now.overview["drain"]["state"] == "empty", "an empty queue")
    watch(lambda now: now.card("active_workers")["words"] == "2 of 2", "both workers again")
    os.killpg(producer, signal.SIGCONT)

    truth = Truth(rows, frozen_at - 900)
    incident = Incident(frozen_at, burst_at, thawed_at)
    for one in seen:
        figures_are_true(one, truth)
        forecast_is_true(one, truth, incident)
        findings_are_true(one, truth, incident)
    # And it was shown while it was useful.
    states = {(one.overview["drain"]["state"], one.at > burst_at) for one in seen}
    assert {("growing", False), ("clearing", True), ("empty", True)} <= states
    failed = [one for one in seen[-1].overview["failures"]["groups"] if one["count"] >= FAILING]
    assert "initech" in failed[0]["tenants"]


def test_its_failed_jobs_run_again_when_one_is_chosen_or_their_group_is(
    stack: Stack, tab: Page
) -> None:
    """Also those of the days before the stack was started, which no worker kept."""
    store = JobStore(f"sqlite:///{stack._data_dir / 'jobs.sqlite3'}")
    span = Span(time.time() - 86_400, time.time() + 3_600)
    # The smallest group, because retried jobs have to run.
    groups = failure_groups(store, span, limit=GROUPS_SHOWN).groups
    old = [one for one in groups if one.count > 1 and one.first_at < stack.began_at]
    group = min(old, key=lambda one: one.count)
    ids = failed_ids(store, span, group.fingerprint).ids

    def have_run(*wanted: str) -> bool:
        found = [store.get(one) for one in wanted]
        return [job.status for job in found if job] == [JobStatus.SUCCEEDED] * len(wanted)

    link = stack._told(r"^To act: (\S+)$")
    [key] = urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)["key"]
    acts = OperationsPage(tab, stack.dashboard_url, key).open()
    page = JobsPage(tab, stack.dashboard_url).open(f"?failures=24h&group={group.fingerprint}")
    # Others of the group may have failed meanwhile.
    chosen = ids[0]
    last = page.table("The last failures of this group")
    last.get_by_role("checkbox", name=f"Choose job {chosen}").check()
    page.card.get_by_role("button", name="Retry 1 chosen").click()
    acts.confirm_retry("sent again")
    eventually(lambda: have_run(chosen), "the chosen job has run", stack)
    page.open(f"?failures=24h&group={group.fingerprint}")
    page.card.get_by_role("button", name=re.compile("^Retry all ")).click()
    acts.confirm_retry("sent again")
    eventually(lambda: have_run(*ids), "the whole group has run", stack)
    store.close()


def test_its_data_are_for_its_user_alone(stack: Stack) -> None:
    assert stack._data_dir.stat().st_mode & 0o777 == 0o700
    made = [stack._data_dir / name for name in ("jobs.sqlite3", "broker", "prometheus", "logs")]
    assert [path.name for path in made if path.stat().st_mode & 0o077] == []


def test_the_rules_are_loaded(stack: Stack) -> None:
    recorded = "platform:ai_agents_enhancement_success:percent10m"
    eventually(lambda: stack.query(recorded), "a recorded sample", stack)


def test_a_second_start_on_the_same_data_says_where_the_first_answers(stack: Stack) -> None:
    argv = [sys.executable, "-m", "queuescope.cli", "demo", "--data-dir", str(stack._data_dir)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert f" at {stack.dashboard_url}" in done.stderr


@pytest.mark.parametrize("words", [("prometheus", "--config.file"), ("celery", "worker-2@demo")])
def test_a_killed_service_comes_back(stack: Stack, words: tuple[str, ...]) -> None:
    [killed] = stack.leaders(*words)
    os.kill(killed, signal.SIGKILL)
    name = "prometheus" if "prometheus" in words else "worker-2"
    eventually(lambda: f"{name} was killed by SIGKILL" in stack.said, "a word of it", stack)
    eventually(lambda: stack.leaders(*words), "another process", stack)
    assert stack.leaders(*words) != [killed]
    eventually(lambda: stack.query("up"), "Prometheus' answer", stack)


def test_nothing_is_left_when_the_supervisor_is_killed_and_it_starts_again(stack: Stack) -> None:
    stack.signal(signal.SIGKILL)
    stack.wait()
    eventually(lambda: not stack.services(), "the end of every process", stack)
    stack.start()
    assert _get(f"{stack.dashboard_url}/healthz").strip() == b"ok"
    assert "history" not in stack.said.replace("History", "history").lower()
    assert stack.query("count_over_time(ai_agents_queue_depth[1d]) > 1440")


def test_it_stops_on_request_and_leaves_nothing(stack: Stack) -> None:
    stack.signal(signal.SIGTERM)
    assert stack.wait() == 0
    assert "Stopped; nothing is left running." in stack.said
    assert stack.services() == []


def test_a_busy_port_that_was_asked_for_is_named(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0, may_move=False) as busy:
        port = port_of(busy)
        refused = Stack(tmp_path / "data", "--port", str(port))
    assert refused.wait() == 2
    assert f"port {port} on 127.0.0.1 is busy" in refused.said


def test_a_broker_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    url = "redis://:secret@127.0.0.1:1/0"
    refused = Stack(tmp_path / "data", "--port", "0", "--broker-url", url)
    assert refused.wait() == 2
    assert "the broker of --broker-url does not answer" in refused.said
    assert "secret" not in refused.said
