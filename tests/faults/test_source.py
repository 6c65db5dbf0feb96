"""Prometheus itself is down, frozen, killed, not resolvable, or redirects."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.fault_server import FaultServer, http_response
from tests.faults import oracles
from tests.faults.cells import WHEN_COLD, WHEN_WARM, live_through, reads_the_truth
from tests.faults.conftest import Lab
from tests.faults.proxy import say
from tests.faults.troubles import Scope
from tests.real_prometheus import RealPrometheus

pytestmark = pytest.mark.anyio


async def _nothing() -> None:
    """What ends by itself."""


async def _whole(
    lab: Lab,
    log: pytest.LogCaptureFixture,
    begin: Callable[[], Awaitable[None]],
    end: Callable[[], Awaitable[None]],
    **seen: Any,
) -> None:
    usual: dict[str, Any] = {"timeout_seconds": 10.0, "most_spoilt": 0, "scope": Scope.SOURCE}
    await live_through(lab, log, begin=begin, end=end, **(usual | seen))


@WHEN_COLD
async def test_a_refused_connection_is_reported(
    warm: bool, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    seen = {"kind": "cannot_connect", "words": "does not accept connections"}
    await _whole(lab, caplog, lab.proxy.refuse, _nothing, warm=warm, **seen)


@WHEN_WARM
async def test_a_host_name_that_cannot_be_resolved_is_reported(
    warm: bool, lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = True
    resolve = socket.getaddrinfo

    def resolved(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host in ("prometheus.test", b"prometheus.test"):
            if not known:
                raise socket.gaierror(socket.EAI_AGAIN, oracles.UPSTREAM)
            host = "127.0.0.1"
        return resolve(host, *args, **kwargs)

    async def begin() -> None:
        nonlocal known
        known = False
        await lab.proxy.disconnect()

    async def end() -> None:
        nonlocal known
        known = True

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    lab.url = f"http://prometheus.test:{lab.proxy.port}"
    seen = {"kind": "cannot_connect", "words": "does not accept connections"}
    await _whole(lab, caplog, begin, end, warm=warm, **seen)


@WHEN_COLD
async def test_a_frozen_prometheus_is_reported(
    warm: bool, lab: Lab, caplog: pytest.LogCaptureFixture, mortal: RealPrometheus
) -> None:
    async def begin() -> None:
        mortal.stop()

    async def end() -> None:
        mortal.cont()

    lab.proxy.upstream = mortal.port
    seen = {"kind": "timeout", "words": "did not answer within", "timeout_seconds": 3.9}
    try:
        await _whole(lab, caplog, begin, end, warm=warm, **seen)
    finally:
        mortal.cont()


@WHEN_WARM
async def test_a_killed_prometheus_is_reported_and_the_restarted_one_is_read(
    warm: bool, lab: Lab, caplog: pytest.LogCaptureFixture, mortal: RealPrometheus
) -> None:
    async def begin() -> None:
        mortal.kill()

    async def end() -> None:
        mortal.start()

    lab.proxy.upstream = mortal.port
    seen = {"kind": "cannot_connect", "words": "without an answer"}
    try:
        await _whole(lab, caplog, begin, end, warm=warm, **seen)
    finally:
        mortal.kill()
        mortal.start()


@WHEN_WARM
@pytest.mark.parametrize("scope", [Scope.SOURCE, pytest.param(Scope.PANEL, marks=pytest.mark.long)])
@pytest.mark.parametrize("status", ["301 Moved Permanently", "307 Temporary Redirect"])
async def test_no_redirect_is_followed(
    status: str, scope: Scope, warm: bool, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    async with FaultServer(http_response(b"{}")) as elsewhere:

        async def begin() -> None:
            headers = {"Location": f"{elsewhere.url}/{oracles.UPSTREAM}"}
            lab.proxy.spoil(say(http_response(status=status, headers=headers)), scope.concerns)

        seen = {"kind": "not_prometheus", "words": "not as a Prometheus API"}
        await _whole(lab, caplog, begin, _nothing, warm=warm, scope=scope, most_spoilt=12, **seen)
    assert elsewhere.connections == 0, "credentials were carried elsewhere"


@WHEN_WARM
async def test_hundreds_of_viewers_after_a_restart_cost_one_query_for_each_chart(
    warm: bool, lab: Lab
) -> None:
    if warm:
        async with lab.dashboard() as before:
            await reads_the_truth(lab, before)
        lab.forward(121)
    lab.proxy.forget()
    async with lab.dashboard() as dashboard:
        pages = await dashboard.crowd(400)
    assert len({page.body for page in pages}) == 1
    oracles.drawn_is_true(pages[0], lab.truth)
    oracles.nothing_is_missing(pages[0], lab.truth)
    asked = [request.form["query"] for request in lab.proxy.seen if "query" in request.form]
    charts = [request for request in lab.proxy.seen if request.endpoint == "query_range"]
    assert len(charts) == 3
    assert len({request.query for request in charts}) == 3
    assert len([query for query in asked if "queuescope_panel" in query]) == 1
