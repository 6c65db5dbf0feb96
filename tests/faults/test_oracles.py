"""Each oracle rejects a reading that it must not accept."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from tests.faults import oracles
from tests.faults.conftest import Lab
from tests.faults.world import PANELS, Page
from tests.rounding import words_of

from queuescope.panels import Kind

pytestmark = pytest.mark.anyio

Content = dict[str, Any]
FRESH = dict.fromkeys(PANELS, "fresh")


@pytest.fixture
async def healthy(lab: Lab) -> Page:
    async with lab.dashboard() as dashboard:
        return await dashboard.read()


@pytest.fixture
async def outage(lab: Lab) -> Page:
    """Stale, after a good reading."""
    async with lab.dashboard() as dashboard:
        await dashboard.read()
        lab.forward(121)
        await lab.proxy.refuse()
        return await dashboard.read()


def doctored(page: Page, change: Callable[[Content], None], complete: bool | None = None) -> Page:
    content = copy.deepcopy(page.content)
    change(content)
    return Page(orjson.dumps(content), page.complete if complete is None else complete)


def redrawn(number: int, change: Callable[[Any], Any]) -> Callable[[Content], None]:
    """The values of a panel's first curve, changed."""

    def change_values(content: Content) -> None:
        packed = content["panels"][number]["figure"]["data"][0]["y"]
        values = np.frombuffer(base64.b64decode(packed["bdata"]), f"<{packed['dtype']}").copy()
        changed = np.asarray(change(values), f"<{packed['dtype']}")
        packed["bdata"] = base64.b64encode(changed.tobytes()).decode()

    return change_values


def put(*path: Any, to: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        at: Any = content
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = to

    return change


def one(values: Any, value: float) -> Any:
    values[30] = value
    return values


def objects(oracle: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(AssertionError):
        oracle(*args, **kwargs)


async def test_wrong_states(healthy: Page, outage: Page) -> None:
    oracles.states_are(healthy, FRESH)
    oracles.states_are(outage, dict.fromkeys(PANELS, "stale"))
    objects(oracles.states_are, outage, FRESH)
    objects(oracles.states_are, doctored(healthy, put("panels", 0, "state", to="stale")), FRESH)
    objects(oracles.states_are, doctored(healthy, put("panels", 0, "cause", to="why")), FRESH)
    objects(
        oracles.states_are,
        doctored(outage, put("panels", 1, "cause", to="")),
        dict.fromkeys(PANELS, "stale"),
    )
    objects(
        oracles.states_are,
        doctored(outage, lambda _: None, complete=True),
        dict.fromkeys(PANELS, "stale"),
    )


async def test_unknown_as_zero(healthy: Page) -> None:
    oracles.unknown_is_not_zero(healthy)
    for state in ("unavailable", "empty", "idle"):
        lying = doctored(healthy, put("panels", 0, "state", to=state))
        zero = doctored(lying, redrawn(0, lambda values: values * 0))
        objects(oracles.unknown_is_not_zero, zero)
        objects(
            oracles.unknown_is_not_zero,
            doctored(lying, redrawn(0, lambda values: one(values * np.nan, 0.0))),
        )
    objects(oracles.unknown_is_not_zero, doctored(healthy, redrawn(0, lambda v: v * np.nan)))
    objects(oracles.unknown_is_not_zero, doctored(healthy, put("panels", 0, "asOf", to=None)))


async def test_wrong_numbers(healthy: Page, lab: Lab) -> None:
    oracles.drawn_is_true(healthy, lab.truth)
    for number in range(3):
        for change in (
            lambda values: values * 1.0001,
            lambda values: one(values, 0.0),
            lambda values: np.roll(values, 1),
        ):
            objects(oracles.drawn_is_true, doctored(healthy, redrawn(number, change)), lab.truth)
        objects(
            oracles.drawn_is_true,
            doctored(healthy, put("panels", number, "now", "words", to="0")),
            lab.truth,
        )
    # At a tie of rounding the last bits decide, and these are nobody's.
    assert words_of(Kind.PERCENT, 83.75) == {"83.7 %", "83.8 %"}
    assert words_of(Kind.PERCENT, 100.0) == {"100.0 %"}
    objects(oracles.drawn_is_true, healthy, lab.truth.of("nowhere"))
    objects(oracles.drawn_is_true, healthy, lab.truth.of("gap"))


async def test_a_missing_point_or_curve(healthy: Page, lab: Lab) -> None:
    oracles.nothing_is_missing(healthy, lab.truth)
    objects(
        oracles.nothing_is_missing,
        doctored(healthy, redrawn(0, lambda values: one(values, np.nan))),
        lab.truth,
    )
    objects(
        oracles.nothing_is_missing,
        doctored(healthy, put("panels", 2, "figure", "data", to=[])),
        lab.truth,
    )


async def test_an_old_value_without_its_time(healthy: Page, outage: Page) -> None:
    as_of = {name: panel["asOf"] for name, panel in outage.panels.items()}
    now = {name: panel["now"]["asOf"] for name, panel in outage.panels.items()}
    oracles.old_values_carry_their_time(healthy, {}, {})
    oracles.old_values_carry_their_time(outage, as_of, now)
    for change in (
        put("panels", 0, "asOf", to=outage.content["takenAt"]),
        put("panels", 0, "asOf", to=outage.panels["queue_depth"]["asOf"] - 600),
        put("panels", 0, "now", "asOf", to=outage.content["takenAt"]),
        put("source", "failingSince", to=outage.content["takenAt"] + 60),
        put("source", "cause", to=""),
        put("source", "lastSeen", to=outage.content["takenAt"] + 60),
    ):
        objects(oracles.old_values_carry_their_time, doctored(outage, change), as_of, now)
    early = dict.fromkeys(as_of, outage.content["view"]["from"])
    shown = doctored(outage, put("panels", 0, "asOf", to=early["queue_depth"]))
    objects(oracles.old_values_carry_their_time, shown, as_of | early, now)
    failing = doctored(healthy, put("source", "failingSince", to=1.0))
    objects(oracles.old_values_carry_their_time, failing, {}, {})
    past = doctored(healthy, put("panels", 0, "now", "asOf", to=healthy.content["takenAt"] - 120))
    objects(oracles.old_values_carry_their_time, past, {}, {})


async def test_last_good_data_that_have_changed(healthy: Page, outage: Page) -> None:
    oracles.same_data(outage, outage, "queue_depth")
    other = doctored(outage, redrawn(0, lambda values: one(values, 1.0)))
    objects(oracles.same_data, other, outage, "queue_depth")
    cut = doctored(outage, redrawn(0, lambda values: one(values, np.nan)))
    objects(oracles.same_data, cut, outage, "queue_depth")
    none = doctored(healthy, put("panels", 0, "figure", "data", to=[]))
    objects(oracles.same_data, none, healthy, "queue_depth")


async def test_too_many_queries() -> None:
    oracles.questions_are_few(3, 10, most_spoilt=3, most=10)
    objects(oracles.questions_are_few, 4, 10, most_spoilt=3, most=10)
    objects(oracles.questions_are_few, 3, 11, most_spoilt=3, most=10)


async def test_secrets_and_text_of_the_server(healthy: Page) -> None:
    oracles.no_secret_is_shown([healthy.body.decode()])
    objects(oracles.no_secret_is_shown, ["fine", f"Bearer {oracles.CANARY}"])
    oracles.no_upstream_text_is_shown(healthy, "up 1")
    objects(oracles.no_upstream_text_is_shown, healthy, oracles.UPSTREAM)
    telling = doctored(healthy, put("source", "cause", to=oracles.UPSTREAM))
    objects(oracles.no_upstream_text_is_shown, telling, "")
    oracles.log_lines_are_harmless(["plain"])
    for line in ("two\nlines", "\x1b[31mred", "\u202ereversed", "long" * 1_000):
        objects(oracles.log_lines_are_harmless, [line])


async def test_a_line_across_a_gap(lab: Lab, moment: int) -> None:
    async with lab.dashboard(env="gap") as dashboard:
        page = await dashboard.read()
    gap = (moment - 1_500, moment - 1_260)
    oracles.no_line_crosses(page, "queue_depth", *gap)
    joined = doctored(page, put("panels", 0, "figure", "data", 0, "connectgaps", to=True))
    objects(oracles.no_line_crosses, joined, "queue_depth", *gap)
    filled = doctored(page, redrawn(0, np.nan_to_num))
    objects(oracles.no_line_crosses, filled, "queue_depth", *gap)
    ended = doctored(page, redrawn(0, lambda values: values * np.nan))
    objects(oracles.no_line_crosses, ended, "queue_depth", *gap)
