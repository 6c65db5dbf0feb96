"""Visitors who may not view it get no data: on every route, the page and its websocket.

The dashboard trusts only 127.0.0.2. A real proxy asks from there; forgeries come from there too, as
through a proxy that passes its visitors' headers, and from elsewhere.
"""

from __future__ import annotations

import http.client
import json
import socket
import socketserver
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from starlette.types import Scope
from tests.dashboard.conftest import Answer, RunningDashboard
from tests.dashboard.page_socket import PageSocket, elements, texts
from tests.identity_proxy import ADDRESS, IdentityProxy
from tests.real_prometheus import RealPrometheus
from websockets.exceptions import InvalidStatus

from queuescope.dashboard.auth.admission import AdmissionCheck
from queuescope.settings import Settings

USER = "X-Forwarded-User"
PAGE = ("Accept", "text/html,*/*")
DATA = [
    *("/queuescope/view", "/queuescope/overview", "/queuescope/flow", "/queuescope/jobs.csv"),
    *("/queuescope/audit.csv", "/queuescope/audit.jsonl"),
]
OTHERS = [
    "/_stcore/metrics", "/_stcore/script-health-check", "/_stcore/upload_file/a/b", "/media/a.csv",
    "/component/a/b.js", "/app/static/a", "/queuescope", "/queuescope/", "/QUEUESCOPE/VIEW",
    "/auth/login", "/auth/logout", "/oauth2callback?state=x", "/_stcore/host-config",
    "//queuescope/view", "/queuescope//view", "/static/../queuescope/view", "/no/such",
]  # fmt: skip
OPEN = [
    *("/healthz", "/readyz", "/metrics", "/_stcore/health"),
    *("/static/no.js", "/queuescope/static/no.js"),
]
FORGED = [
    pytest.param("127.0.0.1", [(USER, "ada")], "did not come through", id="another address"),
    pytest.param("127.0.0.1", [], "did not come through", id="no header"),
    pytest.param(ADDRESS, [], "named no user", id="proxy without header"),
    pytest.param(ADDRESS, [(USER, "")], "named no user", id="empty"),
    pytest.param(ADDRESS, [(USER, "ada"), (USER, "ada")], "more than once", id="twice"),
    pytest.param(ADDRESS, [(USER, "eve"), (USER, "ada")], "more than once", id="another first"),
    pytest.param(ADDRESS, [(USER, "eve, ada")], "more than once", id="list"),
    pytest.param(ADDRESS, [("X_Forwarded_User", "ada")], "more than once", id="underscores"),
    pytest.param(
        ADDRESS, [(USER, "ada"), ("x_forwarded-user", "eve")], "more than once", id="mixed"
    ),
    pytest.param(ADDRESS, [("XForwardedUser", "ada")], "more than once", id="no hyphens"),
    pytest.param(ADDRESS, [(USER, "ada\xa0")], "more than once", id="odd space"),
    pytest.param(ADDRESS, [(USER, "a\u0300da".encode().decode("latin-1"))], "more than", id="odd"),
    pytest.param(ADDRESS, [("Remote-User", "ada")], "named no user", id="another header"),
    pytest.param(
        "127.0.0.3",
        [(USER, "ada"), ("X-Forwarded-For", ADDRESS), ("X-Real-IP", ADDRESS)],
        "did not come through",
        id="forwarded for, from another address",
    ),
    pytest.param(
        "127.0.0.3",
        [(USER, "ada"), ("Forwarded", f"for={ADDRESS};by={ADDRESS}")],
        "did not come through",
        id="forwarded",
    ),
    # The header from which uvicorn's own command takes the peer's address if a local process sends
    # it.
    *(
        pytest.param(
            "127.0.0.1",
            [(USER, "ada"), ("X-Forwarded-For", said)],
            "did not come through",
            id=f"forwarded for {said}",
        )
        for said in (
            ADDRESS,
            f"{ADDRESS}:4444",
            f"[{ADDRESS}]:80",
            "::ffff:127.0.0.2",
            "[::ffff:7f00:2]:80",
            f"10.0.0.9, {ADDRESS}",
            f"{ADDRESS}, 127.0.0.1",
        )
    ),
]


@pytest.fixture(scope="module")
def guarded(
    prometheus: RealPrometheus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningDashboard]:
    running = RunningDashboard(
        tmp_path_factory.mktemp("guarded"),
        prometheus.url,
        authentication="proxy",
        trusted_proxies=ADDRESS,
        viewers="ada,group:viewers",
    )
    try:
        yield running
    finally:
        running.close()
    assert "Traceback" not in running.log, running.log


@pytest.fixture(scope="module")
def proxy(
    guarded: RunningDashboard, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[IdentityProxy]:
    with IdentityProxy(tmp_path_factory.mktemp("proxy"), guarded.port) as running:
        yield running


def through(
    proxy: IdentityProxy, path: str, *headers: tuple[str, str], user: str = "ada"
) -> Answer:
    """One request to the proxy by a visitor who has logged in there."""
    connection = http.client.HTTPConnection(ADDRESS, proxy.port, timeout=30)
    try:
        connection.putrequest("GET", path)
        for name, value in [("Cookie", f"proxy_session={user}"), *headers]:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


def assert_tells_nothing(answer: Answer) -> None:
    for word in (b"ai_agents", b"alert(", b'"panels"', b"queuescope-snapshot", b"bdata"):
        assert word not in answer.body


@pytest.mark.parametrize(("source", "headers", "said"), FORGED)
def test_a_forged_name_is_refused_on_every_route(
    guarded: RunningDashboard, source: str, headers: list[tuple[str, str]], said: str
) -> None:
    for path in (*DATA, *OTHERS):
        answer = guarded.ask(path, headers, source=source)
        assert answer.status in (403, 400), path
        assert_tells_nothing(answer)
        if answer.status == 403:
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["cache-control"] == "no-store"
            assert said in json.loads(answer.body)["error"]
            assert json.loads(answer.body)["refused"] == "role"
    for path in ("/", "/?range=1h", "/jobs"):
        page = guarded.ask(path, [*headers, PAGE], source=source)
        assert page.status == 403
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"] == "frame-ancestors 'self'"
        assert said in page.text
        assert "<script" not in page.text
        assert_tells_nothing(page)


@pytest.mark.parametrize(("source", "headers", "said"), FORGED)
def test_a_forged_name_opens_no_websocket(
    guarded: RunningDashboard, source: str, headers: list[tuple[str, str]], said: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        PageSocket(guarded.port, headers=headers, source=source)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("path", OPEN)
def test_probes_and_files_are_for_everybody_and_tell_nothing(
    guarded: RunningDashboard, path: str
) -> None:
    answer = guarded.ask(path)
    assert answer.status in (200, 404)
    assert_tells_nothing(answer)


def test_a_user_named_by_the_proxy_sees_the_page_and_its_data(
    guarded: RunningDashboard, proxy: IdentityProxy
) -> None:
    assert json.loads(through(proxy, "/queuescope/view?range=1h&age=1").body)["panels"]
    assert json.loads(through(proxy, "/queuescope/overview").body)["kpis"]
    assert b"queuescope-snapshot" in through(proxy, "/?range=1h", PAGE).body
    cookie = ("Cookie", "proxy_session=ada")
    with PageSocket(proxy.port, host=ADDRESS, headers=[cookie]) as page:
        shown = "".join(element.body for element in elements(page.run(), "html"))
    assert '<span class="qs-name">ada</span>' in shown
    assert '<span class="qs-role">viewer</span>' in shown


@pytest.mark.parametrize("spelling", [USER, "x-forwarded-user", "X_Forwarded_User"])
def test_the_proxys_name_overrides_the_visitors(proxy: IdentityProxy, spelling: str) -> None:
    forged = (spelling, "ada")
    assert through(proxy, "/queuescope/view", forged, user="eve").status == 403
    assert through(proxy, "/queuescope/view", forged, user="mallory").status == 401
    with pytest.raises(InvalidStatus):
        PageSocket(proxy.port, host=ADDRESS, headers=[("Cookie", "proxy_session=eve"), forged])


def test_an_identified_visitor_who_is_no_viewer_gets_the_reason(
    guarded: RunningDashboard, proxy: IdentityProxy
) -> None:
    answer = through(proxy, "/queuescope/view", user="eve")
    assert answer.status == 403
    assert json.loads(answer.body) == {
        "error": "You may not view this dashboard; an administrator can add you to its viewers.",
        "refused": "role",
    }
    page = through(proxy, "/", PAGE, user="eve")
    assert page.status == 403
    assert_tells_nothing(page)


def test_the_true_peer_counts_where_the_server_knows_it(
    prometheus: RealPrometheus, tmp_path: Path
) -> None:
    """``queuescope serve`` itself takes no address from a header; so one may name the proxy's own,
    as when someone browses from the machine of the proxy.
    """
    running = RunningDashboard(
        tmp_path,
        prometheus.url,
        server="queuescope",
        authentication="proxy",
        trusted_proxies=ADDRESS,
    )
    try:
        for source, status in ((ADDRESS, 200), ("127.0.0.1", 403), ("127.0.0.3", 403)):
            for said in (ADDRESS, "127.0.0.1"):
                headers = [(USER, "ada"), ("X-Forwarded-For", said)]
                assert running.ask("/queuescope/view", headers, source=source).status == status
    finally:
        running.close()


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::1"])
def test_without_authentication_another_machine_sees_nothing(kind: str, peer: str) -> None:
    """Also if the server listens on other addresses than the settings say."""
    scope: Scope = {"type": kind, "client": (peer, 4444), "headers": [(b"host", b"127.0.0.1")]}
    gate = AdmissionCheck(Settings.model_validate({}))
    refusal = gate.refusal(scope)
    assert refusal is not None
    assert refusal.sentence == "This dashboard is open to its own machine only."
    assert gate.refusal({**scope, "client": ("127.0.0.1", 4444)}) is None


def test_without_authentication_no_header_makes_another_machine_this_one(
    dashboard: RunningDashboard,
) -> None:
    """``uvicorn``'s own command takes a local client's address from a header; this one is far."""
    for said in ("192.0.2.1", "192.0.2.1, 192.0.2.1", "127.0.0.1, 192.0.2.1"):
        headers = [("X-Forwarded-For", said)]
        assert dashboard.ask("/queuescope/view", headers).status == 403
        with pytest.raises(InvalidStatus):
            PageSocket(dashboard.port, headers=headers)


@contextmanager
def forwarded(port: int) -> Iterator[int]:
    """A port of this machine that forwards to another one, byte by byte, and is not detectable."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as there:
                back = threading.Thread(target=_pass_on, args=(there, self.request), daemon=True)
                back.start()
                _pass_on(self.request, there)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def _pass_on(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)


def said_on_page(port: int, cookie: str = "", **headers: str) -> str:
    sent = [*headers.items(), *([("Cookie", cookie)] if cookie else [])]
    with PageSocket(port, headers=sent) as page:
        (said,) = [element.body for element in elements(page.run(), "html")]
    return str(said)


def test_without_authentication_the_key_holder_may_run_operations_and_others_view(
    dashboard: RunningDashboard,
) -> None:
    """Also behind a port that is forwarded without headers: the request itself proves nothing."""
    path = dashboard.directory / "operator-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_text("ascii").strip()
    taken = dashboard.ask(f"/operations?range=6h&key={key}", [PAGE])
    assert (taken.status, taken.headers["location"]) == (303, "./operations?range=6h")
    cookie, *attributes = taken.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(attributes)
    assert key not in str(taken.headers)
    looks, acts = (
        "Operations require the operator’s key.",
        "You hold the operator’s key and may run operations.",
    )
    with forwarded(dashboard.port) as port:
        for at in (dashboard.port, port):
            assert looks in said_on_page(at)
        # A visitor with the key may use a forwarded port.
        assert acts in said_on_page(port, cookie)
    assert acts in said_on_page(dashboard.port, f"a=b; {cookie}")
    name, _, proof = cookie.partition("=")
    for forged in (
        *(f"{name}=", f"{name}={proof[:-1]}", f"{name}={key}", f"{name}=\xe9"),
        *(f"queuescope_00000000={proof}", f"x{cookie}", proof),
    ):
        assert looks in said_on_page(dashboard.port, forged)
    # A proxy that identifies itself brings all visitors here, with or without the key.
    assert looks in said_on_page(dashboard.port, cookie, Via="1.1 proxy")


@pytest.mark.parametrize("path", ["/?key=wrong", "/jobs?key=", "//evil.example/?key=x", "/a:b?key"])
def test_a_wrong_key_gives_nothing_and_leads_nowhere_else(
    dashboard: RunningDashboard, path: str
) -> None:
    answer = dashboard.ask(path, [PAGE])
    assert "set-cookie" not in answer.headers
    if answer.status == 303:
        assert answer.headers["location"] in ("./", "./jobs", "./a%3Ab")
    else:
        assert path == "/a:b?key"


def test_in_public_mode_everyone_may_view_and_no_one_may_run_operations(
    prometheus: RealPrometheus, tmp_path: Path
) -> None:
    running = RunningDashboard(tmp_path, prometheus.url, authentication="public", host="0.0.0.0")
    try:
        other = [("X-Forwarded-For", "192.0.2.1")]
        assert running.ask("/queuescope/view", other).status == 200
        with PageSocket(running.port, headers=other) as page:
            drawn = page.run()
        (said,) = [element.body for element in elements(drawn, "html")]
        assert "may view this dashboard, and no one may run operations." in said
        assert texts(drawn) == []
    finally:
        running.close()


@pytest.mark.parametrize(
    "origin",
    ["http://127.0.0.1:1", "http://localhost:{port}", "https://evil.example", "null", "file://"],
)
def test_a_page_of_another_server_opens_no_websocket(
    dashboard: RunningDashboard, origin: str
) -> None:
    """Not even for one on this machine, from which anyone may run operations."""
    with pytest.raises(InvalidStatus) as refused:
        PageSocket(dashboard.port, origin=origin.format(port=dashboard.port))
    assert refused.value.response.status_code == 403
    with PageSocket(dashboard.port, origin=f"http://127.0.0.1:{dashboard.port}") as page:
        assert page.run()
