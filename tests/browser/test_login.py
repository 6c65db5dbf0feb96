"""Logging in and out in a real browser, and the page of a reader who may not view it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from tests.browser.conftest import Known
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.trends_page import TrendsPage
from tests.identity_proxy import ADDRESS, IdentityProxy
from tests.openid_provider import OpenIDProvider

# One refresh of ten seconds, one check whether the reader is admitted again, and a busy machine.
_WAIT_MS = 40_000
SECRET = "c" * 32
COOKIE = "_streamlit_user"
ADA = "ada.lovelace-of-the-engine@example-company.com"


@dataclass(frozen=True, eq=False)
class Stage:
    dashboard: DashboardProcess
    provider: OpenIDProvider


@pytest.fixture(scope="module")
def stage(known: Known, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("login")
    users: dict[str, Mapping[str, Any]] = {
        "ada": {"email": ADA, "groups": ["ops"]},
        "eve": {"email": "<b onmouseover=alert(1)>eve</b>", "groups": []},
    }
    with ExitStack() as running:
        provider = running.enter_context(OpenIDProvider(users))
        dashboard = DashboardProcess(
            folder,
            known.prometheus.url,
            selector='scene="known"',
            authentication="oidc",
            viewers="group:ops",
            operators="group:ops",
        )
        provider.configure(folder, dashboard.url, SECRET)
        running.enter_context(dashboard)
        yield Stage(dashboard, provider)


@pytest.fixture(scope="module")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(timezone_id="UTC") as made:
        made.new_page()
        yield made


@pytest.fixture
def context(profile: BrowserContext) -> Iterator[BrowserContext]:
    """A browser without cookies, and with one tab."""
    tab = profile.pages[0]
    tab.set_viewport_size({"width": 1440, "height": 900})
    yield profile
    for other in profile.pages[1:]:
        other.close()
    tab.goto("about:blank")
    profile.clear_cookies()


def opened(tab: Page, url: str, query: str = "") -> TrendsPage:
    page = TrendsPage(tab, url)
    page.page.goto(f"{url}/{query}", wait_until="domcontentloaded")
    return page


def keep_login(context: BrowserContext, stage: Stage, expires_at: float) -> None:
    """Give the browser Ada's login until then, in epoch seconds, as after one at the provider."""
    claims = {
        "is_logged_in": True,
        "origin": stage.dashboard.url,
        "email": ADA,
        "groups": ["ops"],
        "exp": expires_at,
    }
    signed = create_signed_value(SECRET, COOKIE, json.dumps(claims)).decode()
    context.add_cookies([{"name": COOKIE, "value": signed, "url": stage.dashboard.url}])


def log_in(page: Page, user: str) -> None:
    page.get_by_role("button", name="Log in").click(timeout=_WAIT_MS)
    page.get_by_role("link", name=user).click(timeout=_WAIT_MS)


def visitor(page: Page) -> Locator:
    return page.locator(".qs-visitor")


def refusal(page: Page) -> Locator:
    """Why the page shows no data any more."""
    return page.locator(".qs-refusal [role=alert]")


def expect_no_data(page: Page) -> None:
    for selector in (".js-plotly-plot", "[data-panel]", "[data-kpi]", "#queuescope-snapshot"):
        expect(page.locator(selector)).to_have_count(0)


def test_a_reader_logs_in_on_the_page_and_out_again(stage: Stage, context: BrowserContext) -> None:
    page = opened(context.pages[0], stage.dashboard.url)
    expect(page.page.get_by_role("heading", name="Log in to Queuescope")).to_be_visible(
        timeout=_WAIT_MS
    )
    expect_no_data(page.page)
    log_in(page.page, "ada")
    page.wait_until_drawn()
    page.wait_until_streamlit_has_taken_over()
    assert page.page.url.partition("?")[0] == f"{stage.dashboard.url}/"
    summary = visitor(page.page).locator("summary")
    expect(summary).to_have_text(f"{ADA}operator")
    summary.click()
    expect(visitor(page.page)).to_contain_text("May view, pause and resume a queue")
    page.page.keyboard.press("Escape")
    expect(page.page.get_by_role("link", name="Log out")).to_be_hidden()
    summary.click()
    page.page.get_by_role("link", name="Log out").click()
    expect(page.page.get_by_role("button", name="Log in")).to_be_visible(timeout=_WAIT_MS)
    expect_no_data(page.page)
    assert not [one for one in context.cookies() if one["name"].startswith(COOKIE)]


def test_a_visitor_who_may_not_view_it_is_named_and_may_log_out(
    stage: Stage, context: BrowserContext
) -> None:
    page = opened(context.pages[0], stage.dashboard.url, "operations").page
    log_in(page, "eve")
    said = page.locator(".qs-entrance").last
    expect(said).to_have_text(
        "You are logged in as <b onmouseover=alert(1)>eve</b>. Log out", timeout=_WAIT_MS
    )
    expect(page.get_by_text("an administrator can add you to its viewers.")).to_be_visible()
    expect(said.locator("b")).to_have_count(0)
    expect_no_data(page)
    page.get_by_role("link", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible(timeout=_WAIT_MS)


def test_a_log_out_elsewhere_empties_every_page_and_a_login_fills_them_again(
    stage: Stage, context: BrowserContext
) -> None:
    keep_login(context, stage, time.time() + 3600)
    first = opened(context.pages[0], stage.dashboard.url, "operations")
    page = opened(context.new_page(), stage.dashboard.url, "?refresh=10")
    page.wait_until_drawn()
    page.wait_until_streamlit_has_taken_over()
    visitor(first.page).locator("summary").click()
    first.page.get_by_role("link", name="Log out").click()
    expect(refusal(page.page)).to_have_text("You are not logged in.", timeout=_WAIT_MS)
    expect_no_data(page.page)
    expect(visitor(page.page)).to_be_hidden()
    link = page.page.get_by_role("link", name="Log in")
    expect(link).to_have_attribute("href", page.page.url)
    log_in(first.page, "ada")
    # By itself, and at the address that it had.
    page.page.locator("[data-panel]").first.wait_for(timeout=_WAIT_MS)
    page.wait_until_drawn()
    assert page.parameter("refresh") == "10"


def test_a_login_that_ends_empties_the_page_and_leads_to_another(
    stage: Stage, context: BrowserContext
) -> None:
    keep_login(context, stage, time.time() + 3600)
    page = opened(context.pages[0], stage.dashboard.url, "?refresh=10")
    page.wait_until_drawn()
    page.wait_until_streamlit_has_taken_over()
    keep_login(context, stage, 1)
    expect(refusal(page.page)).to_have_text(
        "Your login has expired; log in again.", timeout=_WAIT_MS
    )
    expect_no_data(page.page)
    page.page.get_by_role("link", name="Log in").click()
    expect(page.page.get_by_text("Your login has expired; log in again.")).to_be_visible(
        timeout=_WAIT_MS
    )
    log_in(page.page, "ada")
    page.wait_until_drawn()


@pytest.fixture(scope="module")
def behind_proxy(
    known: Known, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[DashboardProcess, IdentityProxy]]:
    folder = tmp_path_factory.mktemp("proxy")
    with (
        DashboardProcess(
            folder / "dashboard",
            known.prometheus.url,
            selector='scene="known"',
            authentication="proxy",
            trusted_proxies=ADDRESS,
            operators="ada",
        ) as dashboard,
        IdentityProxy(folder, dashboard.port) as proxy,
    ):
        yield dashboard, proxy


@pytest.mark.parametrize("otherwise", ["401", pytest.param("302", marks=pytest.mark.long)])
def test_a_proxy_that_wants_a_login_empties_the_page(
    behind_proxy: tuple[DashboardProcess, IdentityProxy], context: BrowserContext, otherwise: str
) -> None:
    dashboard, proxy = behind_proxy
    context.request.get(f"{proxy.url}/login?user=ada", max_redirects=0)
    page = opened(context.pages[0], proxy.url, "?refresh=10")
    page.wait_until_drawn()
    page.wait_until_streamlit_has_taken_over()
    expect(visitor(page.page).locator("summary")).to_have_text("adaoperator")
    proxy.allow("eve", otherwise=otherwise)
    expect(refusal(page.page)).to_have_text(
        "Your login has expired; log in again.", timeout=_WAIT_MS
    )
    expect_no_data(page.page)
    proxy.allow("ada", "eve")
    page.page.locator("[data-panel]").first.wait_for(timeout=_WAIT_MS)
    page.wait_until_drawn()
    direct = opened(context.pages[0], dashboard.url).page
    expect(direct.get_by_text("did not come through a trusted proxy.")).to_be_visible()
    expect_no_data(direct)


@pytest.mark.parametrize(
    "screen", [pytest.param((1440, 900), marks=pytest.mark.long), (390, 844)], ids=["1440", "390"]
)
def test_way_in_and_card_fit_every_screen(
    stage: Stage, context: BrowserContext, screen: tuple[int, int]
) -> None:
    width, height = screen
    page = context.pages[0]
    page.set_viewport_size({"width": width, "height": height})
    opened(page, stage.dashboard.url)
    button = page.get_by_role("button", name="Log in")
    button.wait_for(timeout=_WAIT_MS)
    box = button.bounding_box()
    assert box is not None
    assert abs(box["x"] + box["width"] / 2 - width / 2) < 20
    keep_login(context, stage, time.time() + 3600)
    opened(page, stage.dashboard.url)
    summary = visitor(page).locator("summary")
    summary.click(timeout=_WAIT_MS)
    for part in (summary, visitor(page).locator("> div")):
        found = part.bounding_box()
        assert found is not None
        assert found["x"] >= 0
        assert found["x"] + found["width"] <= width
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    # The role is shown in full, however long the name.
    role = visitor(page).locator(".qs-role")
    assert role.evaluate("node => node.scrollWidth <= node.clientWidth + 1")
    logo = page.get_by_test_id("stHeaderLogo").or_(page.locator(".stLogo")).first.bounding_box()
    chip = summary.bounding_box()
    assert logo is not None
    assert chip is not None
    assert logo["x"] + logo["width"] <= chip["x"]
