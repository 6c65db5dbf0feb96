"""Frames that no page would send: forged, replayed, in a stolen session, or damaged. No effect.

The broker, the worker, the audit and the dashboards are real. One dashboard knows its visitors by
a proxy's header, the other by a login; people without a role, and without a login, have a session
only on the latter.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import redis
from tests.dashboard.conftest import RunningDashboard
from tests.dashboard.operations.operations_page import OperationsPage
from tests.dashboard.page_socket import PageSocket, elements
from tests.dashboard.reader import Reader
from tests.identity_proxy import ADDRESS
from tests.instrument.conftest import QUICK, Shop, Worker, until
from tests.openid_provider import OpenIDProvider
from tests.ports import free_port
from tests.real_broker import RealBroker, connection_of
from websockets.exceptions import ConnectionClosed

from queuescope.errors import RefusalReason, RefusedError
from queuescope.jobs.failures import Span, failure_groups
from queuescope.jobs.job import JobStatus
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.audit import Entry, Phase, Result, Search
from queuescope.operations.context import OperationsContext
from queuescope.operations.request import Request

pytestmark = pytest.mark.timeout(400)

ADA = Actor("ada", Origin.PROXY)
# Written by workers and dashboards all the time, and by no operation.
_RESTLESS = {b"queuescope:workers", b"queuescope:probe", b"unacked_mutex"}
# A frame that starts no script is waited for so long.
_PATIENCE_SECONDS = 0.4
_TIMINGS = replace(QUICK, report_seconds=0.2)
_REPORTS_SECONDS = 5 * _TIMINGS.report_seconds
_HELD = 5


@dataclass(eq=False)
class Stage:
    """Two dashboards on one broker with one worker, and everything that an operation could change
    there.
    """

    by_proxy: RunningDashboard
    by_login: RunningDashboard
    worker: Worker
    shop: Shop
    context: OperationsContext
    waiting_job: str
    failed_job: str
    failed_group: str
    purge: str = ""

    def page(self, name: str, session: str | None = None) -> PageSocket:
        """A page of the user whom the proxy names."""
        return PageSocket(
            self.by_proxy.port,
            headers=[("X-Forwarded-User", name)],
            source=ADDRESS,
            session=session,
        )

    def facts(self) -> dict[str, Any]:
        """What operations change."""
        keys = sorted(
            key
            for key in self.redis.scan_iter()
            # The answers of workers to remote control, which the broker drops.
            if key not in _RESTLESS and b"pidbox" not in key
        )
        held: dict[str, Any] = {str(key): self.redis.dump(key) for key in keys}
        (report,) = self.context.broker.workers().reports
        held["pool"] = report.pool_size
        held["running"] = [job.id for job in report.active]
        held["failures"] = self.worker.scrape().sum("ai_agents_enhancement_jobs_total")
        held["intents"] = len(self.intents())
        return held

    @property
    def redis(self) -> redis.Redis:
        return connection_of(self.context.broker).reader

    def entries(self) -> list[Entry]:
        return self.context.store.audit.find(Search(), limit=10_000)

    def newest(self) -> Entry:
        return self.context.store.audit.find(Search(), limit=1)[0]

    def intents(self) -> list[Entry]:
        return self.context.store.audit.find(Search(result=Result.PENDING), limit=10_000)

    def do(self, request: Request) -> None:
        """Carry it out as an admin who asks the service itself."""
        plan = self.context.operations.plan(ADA, request)
        outcome = self.context.operations.carry_out(ADA, request, plan.token, plan.phrase)
        assert outcome.result == "done", outcome


@dataclass(frozen=True)
class Act:
    """An operation on the page: its request, its confirmation, how to undo it, and the context that
    it needs (``meanwhile``).
    """

    name: str
    ask: Callable[[OperationsPage, Stage], None]
    button: str
    undo: Callable[[Stage], None]
    least: str = "admin"
    at: str = "operations"
    meanwhile: Callable[[Stage], AbstractContextManager[None]] = lambda _: nullcontext()

    def __str__(self) -> str:
        return self.name


def _unrevoke(stage: Stage) -> None:
    stage.redis.delete("queuescope:revoked")


def _resume_all(stage: Stage) -> None:
    stage.do(Request.resume("*"))
    stage.do(Request.pause("frozen"))


@contextmanager
def _all_paused(stage: Stage) -> Iterator[None]:
    stage.do(Request.pause("*"))
    yield
    _resume_all(stage)


def _empty_again(stage: Stage) -> None:
    stage.redis.delete("gone")


def _hold(stage: Stage) -> None:
    """Five jobs wait again in the queue that no worker serves."""
    for _ in range(_HELD - stage.redis.llen("held")):
        stage.shop.send("nap", {"queue": "held"})


def _scale(page: OperationsPage, _stage: Stage) -> None:
    page.press("scale", "w1@shop")
    if elements(page.drawn, "number_input"):
        page.choose_size(3)


def _scale_back(stage: Stage) -> None:
    until(stage.facts, lambda facts: facts["pool"] == 3)
    stage.do(Request.scale("w1@shop", 2))
    until(stage.facts, lambda facts: facts["pool"] == 2)


def _failed_again(stage: Stage) -> None:
    """Until the job that was sent again has failed once more, and its history says so."""
    until(
        lambda: stage.worker.store.get(stage.failed_job),
        lambda job: job is not None and job.status is JobStatus.FAILED,
    )


def _ended(stage: Stage) -> None:
    """Until the job that was ended is reported no more."""
    until(stage.facts, lambda facts: not facts["running"])
    _unrevoke(stage)


def _running(stage: Stage) -> str:
    """A job that the worker runs."""
    if not stage.facts()["running"]:
        stage.shop.send("nap", {"queue": "orders"}, seconds=6000)
    job: str = until(lambda: stage.facts()["running"], bool)[0]
    return job


def _revoke(page: OperationsPage, stage: Stage) -> None:
    page.ask_to_revoke(stage.waiting_job, terminate=False)


def _terminate(page: OperationsPage, stage: Stage) -> None:
    page.ask_to_revoke(_running(stage), terminate=True)


ACTS = [
    Act(
        "pause",
        lambda page, _: page.press("pause", "held"),
        "Pause",
        lambda stage: stage.do(Request.resume("held")),
        "operator",
    ),
    Act(
        "resume",
        lambda page, _: page.press("resume", "frozen"),
        "Resume",
        lambda stage: stage.do(Request.pause("frozen")),
        "operator",
    ),
    Act(
        "pause all",
        lambda page, _: page.press("pause", "*"),
        "Pause",
        _resume_all,
    ),
    Act(
        "resume all",
        lambda page, _: page.press("resume", "*"),
        "Resume",
        lambda stage: stage.do(Request.pause("*")),
        meanwhile=_all_paused,
    ),
    Act("purge", lambda page, _: page.press("purge", "held"), "Purge", _hold),
    Act(
        "restore",
        lambda page, stage: page.press("restore", stage.purge),
        "Restore",
        _empty_again,
    ),
    Act("revoke", _revoke, "Revoke", _unrevoke, "operator"),
    Act("scale", _scale, "Scale", _scale_back),
    Act(
        "retry",
        lambda page, stage: page.retry(stage.failed_job),
        "Retry",
        _failed_again,
        "operator",
        "jobs",
    ),
    Act(
        "retry of a group",
        lambda page, stage: page.retry_group(stage.failed_group),
        "Retry",
        _failed_again,
        "operator",
        "jobs",
    ),
    Act("terminate", _terminate, "Revoke", _ended),
]
ROLES = {"vera": "viewer", "oz": "operator"}
FORBIDDEN = [
    pytest.param(
        *(name, act),
        id=f"{role}-{act}",
        # What an operator may not do, a viewer may not do either.
        marks=pytest.mark.long if role == "viewer" and act.least == "admin" else (),
    )
    for name, role in ROLES.items()
    for act in ACTS
    if not (role == "operator" and act.least == "operator")
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("frames")
    with ExitStack() as running:
        url = running.enter_context(RealBroker(folder / "broker")).url
        (folder / "shop").mkdir()
        shop = Shop(folder / "shop", url)
        running.callback(shop.close)
        worker = shop.start_worker(
            SHOP_OPTIONS="{'keep_arguments': True}", SHOP_TIMINGS=repr(_TIMINGS)
        )
        store = f"sqlite:///{folder / 'operations.db'}"
        common: dict[str, Any] = {
            "broker_url": url,
            "operations_store_url": store,
            "queues": "held,frozen,gone",
            "job_store_url": f"sqlite:///{shop.folder / 'jobs-1.db'}",
        }
        by_proxy = RunningDashboard(
            folder,
            "http://127.0.0.1:9",
            authentication="proxy",
            trusted_proxies=ADDRESS,
            admins="ada,bob",
            operators="oz",
            **common,
        )
        running.callback(by_proxy.close)
        provider = running.enter_context(
            OpenIDProvider({"eve": {"email": "eve@example.com"}, "ada": {"email": "ada"}})
        )
        other, port = folder / "by-login", free_port()
        provider.configure(other, f"http://127.0.0.1:{port}", "s" * 32)
        by_login = RunningDashboard(
            other,
            "http://127.0.0.1:9",
            port=port,
            authentication="oidc",
            viewers="ada",
            admins="ada",
            **common,
        )
        running.callback(by_login.close)
        context = running.enter_context(
            OperationsContext(
                broker_url=f"{url}?socket_timeout=20",
                store_url=store,
                folder=folder / "purged",
                access=Access(viewers=["vera"], operators=["oz"], admins=["ada"]),
                queues=["held", "frozen", "gone"],
                claims=worker.store,
            )
        )
        for queue, count in (("held", _HELD), ("gone", 3)):
            for _ in range(count):
                waiting_job = shop.send("nap", {"queue": queue})
        failed_job = shop.send("fail", {"queue": "orders"})
        ever = Span(0, time.time() + 3600)
        (group,) = until(lambda: failure_groups(worker.store, ever).groups, bool)
        made = Stage(
            by_proxy, by_login, worker, shop, context, waiting_job, failed_job, group.fingerprint
        )
        until(lambda: len(context.broker.workers().reports), lambda count: count == 1)
        _running(made)
        made.do(Request.pause("frozen"))
        made.do(Request.purge("gone"))
        made.purge = next(
            entry.event.act for entry in made.entries() if entry.event.operation == "purge"
        )
        yield made
        for dashboard in (by_proxy, by_login):
            # Streamlit reports invalid frames with a traceback, and only in its log.
            faults = dashboard.log.count("Traceback")
            assert faults == dashboard.log.count("protobuf.message.DecodeError"), dashboard.log


def visible(stage: Stage, page: OperationsPage) -> None:
    """Waits until the page has read the broker, which it watches in the background."""
    awaited = {"w1@shop", stage.purge}
    if page.at == "jobs":
        awaited = {stage.failed_job}
    while not all(word in page.said for word in awaited):
        time.sleep(0.2)
        page.drawn = page.first = page.socket.run(page=page.hash)


def confirmations(page: OperationsPage) -> list[str]:
    """The buttons on the page that would confirm something."""
    return [
        button.label
        for button in elements(page.drawn, "button")
        if button.form_id.startswith("queuescope_confirm")
    ]


def settled(stage: Stage) -> dict[str, Any]:
    """The facts, when no worker has anything new to report."""
    facts = stage.facts()
    while True:
        time.sleep(_REPORTS_SECONDS)
        facts, before = stage.facts(), facts
        if facts == before:
            return facts


def phrase(page: OperationsPage) -> str:
    found = re.search(r'To confirm, type <code class="qs-named">([^<]*)</code>', page.said)
    return found.group(1) if found else ""


@pytest.mark.parametrize(("name", "act"), FORBIDDEN)
def test_a_forbidden_operation_is_refused_even_if_its_button_is_forced(
    stage: Stage, name: str, act: Act
) -> None:
    """By frames of buttons that are disabled on their page."""
    with act.meanwhile(stage), stage.page(name) as socket:
        before = stage.facts()
        page = OperationsPage(socket, act.at)
        visible(stage, page)
        act.ask(page, stage)
        # Where a form's button is disabled, Streamlit itself takes no press.
        if not (ROLES[name] == "viewer" and act.button == "Revoke"):
            assert f"you need the role {act.least}; yours is {ROLES[name]}." in page.said
            assert "Nothing was done." in page.said
        assert confirmations(page) == []
        assert stage.facts() == before


def confirmed(stage: Stage, socket: PageSocket, act: Act) -> None:
    """The whole operation by an admin, with its effect."""
    before = stage.facts()
    page = OperationsPage(socket, act.at)
    visible(stage, page)
    act.ask(page, stage)
    page.confirm(act.button, phrase(page))
    assert "Done" in page.said, page.said
    after = until(stage.facts, lambda facts: set(changed(before, facts)) > {"intents"})
    assert after["intents"] == before["intents"] + 1


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def replay(frames: list[bytes], open_page: Callable[[], PageSocket]) -> None:
    """Send ``frames`` once more, each when the one before has had its run, and wait until all
    that they could have started is over.
    """
    with open_page() as socket:
        for frame in frames:
            socket.send(frame, patience_seconds=_PATIENCE_SECONDS)
        socket.run()


# Whose dialogs differ: a phrase that is typed, and none on another page.
_REPLAYED = ("purge", "retry")


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(act, id=act.name, marks=[] if act.name in _REPLAYED else pytest.mark.long)
        for act in ACTS
    ],
)
def test_a_confirmed_act_that_is_replayed_has_no_second_effect(stage: Stage, act: Act) -> None:
    """All its frames, in the same session and in others, of the same visitor and of all others."""
    with (
        act.meanwhile(stage),
        stage.page("ada") as admin,
        Reader(stage.by_login.port) as stranger,
    ):
        confirmed(stage, admin, act)
        frames = list(admin.sent)
        act.undo(stage)
        before = settled(stage)
        for frame in frames:
            admin.send(frame, patience_seconds=_PATIENCE_SECONDS)
        admin.run()
        for name in ("ada", "bob", "oz", "vera"):
            replay(frames, partial(stage.page, name))
        replay(frames, stranger.page)
        stranger.log_in("eve")
        replay(frames, stranger.page)
        assert changed(before, settled(stage)) == []


@pytest.mark.parametrize("thief", [pytest.param("oz", marks=pytest.mark.long), "vera", "bob"])
def test_a_stolen_session_does_not_give_the_rights_of_its_owner(stage: Stage, thief: str) -> None:
    """Behind a proxy all sessions are alike to Streamlit, and its id opens one: with the open
    dialog in it, the plan and its token. The operation is requested as the sender of the frame.
    """
    with stage.page("ada") as admin:
        page = OperationsPage(admin)
        visible(stage, page)
        page.press("purge", "held")
        typed = phrase(page)
        assert typed == f"held {_HELD}"
    before = stage.facts()
    with stage.page(thief, session=admin.session) as stolen:
        page.socket = stolen
        page.drawn = stolen.run(page=page.hash)
        assert stolen.session == admin.session
        assert f'<span class="qs-name">{thief}</span>' in page.said
        page.confirm("Purge", typed)
        assert "Refused" in page.said
    assert stage.facts() == before
    refusal = stage.newest().event
    assert (refusal.actor, refusal.operation, refusal.result) == (thief, "purge", "refused")


def test_damaged_and_made_up_frames_do_nothing_and_break_nothing(stage: Stage) -> None:
    with stage.page("ada") as admin:
        page = OperationsPage(admin)
        visible(stage, page)
        page.press("purge", "held")
        page.confirm("Purge", "held 4")
        assert "held 4" not in page.said
        frames = list(admin.sent)
    chance = random.Random(20261124)
    before = stage.facts()
    for name in ("vera", "oz"):
        socket = stage.page(name)
        for _ in range(60):
            frame = bytearray(chance.choice(frames))
            for _ in range(chance.randint(1, 4)):
                frame[chance.randrange(len(frame))] = chance.randrange(256)
            try:
                socket.send(bytes(frame), patience_seconds=0.1)
            except ConnectionClosed:
                socket = stage.page(name)
        socket.close()
    with stage.page("vera") as socket:
        page = OperationsPage(socket)
        for value in (
            *("purge", ["purge"], ["purge", "held", "x"], {"purge": "held"}, 7, None, [], ""),
            *(
                ["purge", "*"],
                ["purge", ["held"]],
                ["purge", {"a": 1}],
                ["retry", "x"],
                ["scale", ""],
            ),
            *(["restore", "../../etc/passwd"], ["restore", "x" * 100_000], ["pause", "held\n"]),
            *(
                ["PURGE", "held"],
                ["purge", "held\x00"],
                ["pause", "\u202ehcaes"],
                ["verify", "held"],
            ),
        ):
            page.choose(value)
            assert confirmations(page) == []
    assert changed(before, stage.facts()) == []
    assert stage.by_proxy.ask("/healthz").status == 200


REQUESTS: dict[str, tuple[str, Callable[[Stage], Request]]] = {
    "pause": ("operator", lambda _: Request.pause("held")),
    "resume": ("operator", lambda _: Request.resume("frozen")),
    "pause all": ("admin", lambda _: Request.pause("*")),
    "resume all": ("admin", lambda _: Request.resume("*")),
    "purge": ("admin", lambda _: Request.purge("held")),
    "restore": ("admin", lambda stage: Request.restore(_purged(stage))),
    "retry": ("operator", lambda stage: Request.retry([stage.failed_job])),
    "revoke": ("operator", lambda stage: Request.revoke(stage.waiting_job)),
    "terminate": ("admin", lambda stage: Request.revoke(_running(stage), terminate=True)),
    "scale": ("admin", lambda _: Request.scale("w1@shop", 3)),
}
PEOPLE = {
    "nobody": Actor("eve", Origin.PROXY),
    "public": Actor("public", Origin.PUBLIC),
    "viewer": Actor("vera", Origin.PROXY),
    "operator": Actor("oz", Origin.PROXY),
    "expired": Actor("ada", Origin.PROXY, expires_at=1.0),
}
UNDO: dict[str, Callable[[Stage], None]] = {
    "pause": lambda stage: stage.do(Request.resume("held")),
    "resume": lambda stage: stage.do(Request.pause("frozen")),
    "pause all": _resume_all,
    "resume all": lambda stage: stage.do(Request.pause("frozen")),
    "purge": _hold,
    "restore": _empty_again,
    "retry": _failed_again,
    "revoke": _unrevoke,
    "terminate": _ended,
    "scale": _scale_back,
}


def _purged(stage: Stage) -> str:
    """A purge that can be restored."""
    if stage.redis.llen("gone") == 0:
        stage.shop.send("nap", {"queue": "gone"})
    stage.do(Request.purge("gone"))
    return next(e.event.act for e in stage.entries() if e.event.operation == "purge")


@pytest.mark.parametrize("name", REQUESTS)
def test_a_direct_call_without_the_right_does_nothing(stage: Stage, name: str) -> None:
    """Also with the confirmation that an admin was given, and typed as it must be."""
    role, make = REQUESTS[name]
    request, operations = make(stage), stage.context.operations
    plan = operations.plan(ADA, request)
    before = stage.facts()
    for person, actor in PEOPLE.items():
        if person == role:
            continue
        # So many refusals in a minute are not all written down.
        operations._refusals.clear()
        with pytest.raises(RefusedError) as refused:
            operations.plan(actor, request)
        is_expired = person == "expired"
        reason = RefusalReason.IDENTITY_EXPIRED if is_expired else RefusalReason.NO_RIGHT
        assert refused.value.reason is reason, person
        for token, typed in ((plan.token, plan.phrase), (plan.token, ""), ("", plan.phrase)):
            with pytest.raises(RefusedError) as refused:
                operations.carry_out(actor, request, token, typed)
            assert refused.value.reason is reason, person
            last = stage.newest().event
            assert (last.phase, last.actor, last.result) == (Phase.OUTCOME, actor.name, "refused")
            assert last.operation == request.operation
    assert changed(before, stage.facts()) == []


# Others of them have an effect of the same kind.
_REPEATED = ("pause", "resume all", "purge", "restore", "retry", "terminate", "scale")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in _REPEATED else pytest.mark.long) for name in REQUESTS],
)
def test_a_direct_call_has_one_effect_however_often_it_is_repeated(stage: Stage, name: str) -> None:
    operations, request = stage.context.operations, REQUESTS[name][1](stage)
    start = settled(stage)
    plan = operations.plan(ADA, request)
    assert operations.carry_out(ADA, request, plan.token, plan.phrase).result == "done"
    until(stage.facts, lambda facts: set(changed(start, facts)) > {"intents"})
    UNDO[name](stage)
    before = settled(stage)
    for _ in range(3):
        with pytest.raises(RefusedError) as refused:
            operations.carry_out(ADA, request, plan.token, plan.phrase)
        assert refused.value.reason is not RefusalReason.NO_RIGHT
    assert changed(before, settled(stage)) == []
