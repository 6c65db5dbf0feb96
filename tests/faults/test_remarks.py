"""Responses that are used, with a remark that the page must show."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from tests.fault_server import http_response
from tests.faults import oracles
from tests.faults.cells import WHEN_COLD, WHEN_WARM, reads_the_truth
from tests.faults.conftest import Lab
from tests.faults.proxy import Exchange, Spoil, alter
from tests.faults.troubles import Scope
from tests.faults.world import PANELS, panel_of

from queuescope.view import View

pytestmark = pytest.mark.anyio

SCOPES = pytest.mark.parametrize(
    "scope", [Scope.SOURCE, pytest.param(Scope.PANEL, marks=pytest.mark.long)]
)
WORDS = "one store <b>did not answer</b>"
_POINT = re.compile(rb'\[\d+,"[^"]*"\]')


def _with(field: str) -> Callable[[bytes], bytes]:
    def changed(body: bytes) -> bytes:
        return http_response(body.rstrip()[:-1] + b"," + field.encode() + b"}")

    return changed


def _points(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    """The points of each series of a matrix, changed."""

    def changed(body: bytes) -> bytes:
        return http_response(
            re.sub(
                rb'"values":\[(.*?)\]\]',
                lambda m: b'"values":[' + b",".join(change(_POINT.findall(m[0]))) + b"]",
                body,
            )
        )

    return changed


@WHEN_COLD
@SCOPES
@pytest.mark.parametrize(
    ("field", "shown"),
    [(f'"warnings":["{WORDS}"]', WORDS), ('"isPartial":true', "partial")],
    ids=["warning", "marked as partial"],
)
async def test_a_warning_is_shown_and_its_response_is_not_cached(
    field: str, shown: str, scope: Scope, warm: bool, lab: Lab
) -> None:
    hit = PANELS if scope is Scope.SOURCE else ("latency",)
    async with lab.dashboard() as dashboard:
        good = await reads_the_truth(lab, dashboard) if warm else None
        lab.forward(121)
        lab.proxy.spoil(alter(_with(field)), scope.concerns)
        page = await dashboard.read()
        oracles.states_are(page, {n: "partial" if n in hit else "fresh" for n in PANELS})
        oracles.drawn_is_true(page, lab.truth)
        oracles.nothing_is_missing(page, lab.truth)
        for name, panel in page.panels.items():
            assert any(shown in text for text in panel["warnings"]) == (name in hit)
        dashboard.store.flush()
        await lab.proxy.refuse()
        async with lab.dashboard() as restarted:
            kept = await restarted.read()
        for name in hit:
            if good is None:
                assert kept.states[name] == "unavailable", "a partial answer was kept as whole"
            else:
                assert kept.panels[name]["asOf"] == good.panels[name]["asOf"]
        await lab.proxy.heal()
        lab.forward(400)
        await reads_the_truth(lab, dashboard)


@WHEN_WARM
@pytest.mark.parametrize("scope", [pytest.param(Scope.SOURCE, marks=pytest.mark.long), Scope.PANEL])
async def test_an_info_is_shown_beside_fresh_data(scope: Scope, warm: bool, lab: Lab) -> None:
    async with lab.dashboard() as dashboard:
        if warm:
            await reads_the_truth(lab, dashboard)
            lab.forward(121)
        lab.proxy.spoil(alter(_with(f'"infos":["{WORDS}"]')), scope.concerns)
        page = await reads_the_truth(lab, dashboard)
        warned = {name for name in PANELS if WORDS in page.panels[name]["warnings"]}
        assert warned == (set(PANELS) if scope is Scope.SOURCE else {"latency"})
        await lab.proxy.heal()
        lab.forward(400)
        assert not any(
            p["warnings"] for p in (await reads_the_truth(lab, dashboard)).panels.values()
        )


@WHEN_WARM
@pytest.mark.parametrize(
    "change",
    [lambda points: points[::-1], lambda points: points + points[:3]],
    ids=["unsorted", "repeated"],
)
async def test_samples_out_of_order_or_repeated_are_read_once_and_in_order(
    change: Callable[[list[bytes]], list[bytes]], warm: bool, lab: Lab
) -> None:
    async with lab.dashboard() as dashboard:
        if warm:
            await reads_the_truth(lab, dashboard)
            lab.forward(121)
        lab.proxy.spoil(alter(_points(change)), lambda request: request.endpoint == "query_range")
        await reads_the_truth(lab, dashboard)
        assert lab.proxy.spoilt == 3


def _at_most(points: int) -> Spoil:
    """Prometheus with a lower limit of steps than its own."""

    async def spoil(exchange: Exchange) -> None:
        form = exchange.request.form
        if (int(form["end"]) - int(form["start"])) // int(form["step"]) < points:
            await exchange.send(await exchange.ask(exchange.request))
            return
        await exchange.send(
            http_response(
                b'{"status":"error","errorType":"bad_data","error":"exceeded maximum resolution'
                b' of 11,000 points per timeseries. Try decreasing the query resolution"}',
                status="400 Bad Request",
            )
        )

    return spoil


@WHEN_WARM
@SCOPES
async def test_a_range_of_too_many_steps_is_fetched_in_parts(
    scope: Scope, warm: bool, lab: Lab
) -> None:
    async with lab.dashboard() as dashboard:
        if warm:
            await reads_the_truth(lab, dashboard)
            lab.forward(121)
        lab.proxy.spoil(
            _at_most(5),
            lambda r: (
                r.endpoint == "query_range"
                and (scope is Scope.SOURCE or panel_of(r.query) == "latency")
            ),
        )
        await reads_the_truth(lab, dashboard)


async def test_a_range_beyond_the_limit_of_prometheus_is_drawn_at_a_wider_step_that_is_named(
    lab: Lab, moment: int
) -> None:
    view = View(None, moment - 60 * 86_400, moment, 1)
    async with lab.dashboard() as dashboard:
        page = await dashboard.read(view)
    assert set(page.states.values()) == {"fresh"}
    stated = page.content["view"]
    assert stated["step"] > 60 * 86_400 / 11_000
    for panel in page.panels.values():
        assert all(t["dx"] == 1000 * stated["step"] for t in panel["figure"]["data"])
