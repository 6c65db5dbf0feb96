"""The page of jobs to its readers: hostile texts of jobs in every place, size, theme, keyboard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect
from tests.browser.contrasts import CONTRASTS, THEMES, turn_to
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.jobs_page import NOWHERE, JobsPage, some_jobs
from tests.browser.trends_page import FITS, WAIT_MS

from queuescope.jobs.store import JobStore
from queuescope.shown_text import shown

IMAGE = "<img src=x onerror=window.hacked=1>"
SCRIPT = "</td></table></script><script>window.hacked=1</script>"
MARKDOWN = "**b** :red[r] :smile: $x^2$ `c` [l](javascript:window.hacked=1) <n>"
QUOTE = "\"'><svg onload=window.hacked=1>"
# such an id cannot be ticked, since it is shown in another form.
TURNED = "\u202egnitirw\u202c des\u200brever"
PAYLOADS = (IMAGE, SCRIPT, MARKDOWN, QUOTE, TURNED)
_MARKUP = ".qs-sheet :is(img, script, svg, a[href^='javascript'], em, strong, .katex)"
OpenJobs = Callable[..., JobsPage]


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardProcess]:
    folder = tmp_path_factory.mktemp("jobs-text")
    url = f"sqlite:///{folder / 'jobs.db'}"
    now = time.time()
    jobs = some_jobs(now, 60)
    failed = next(job for job in jobs if job.error_class)
    hostile = [
        replace(
            failed,
            id=f"{number}{text}",
            name=text,
            tenant=text,
            queue=text,
            worker=text,
            error_class=text,
            error_message=f"{text}\n{text}",
            finished_at=now - 20 + number,
        )
        for number, text in enumerate(PAYLOADS)
    ]
    store = JobStore(url)
    store.record([*jobs, *hostile])
    store.close()
    with DashboardProcess(folder, NOWHERE, job_store_url=url) as running:
        yield running


@pytest.fixture
def open_jobs(tab: Page, dashboard: DashboardProcess) -> Iterator[OpenJobs]:
    page = JobsPage(tab, dashboard.url)
    yield page.open
    assert page.complaints == []
    assert page.page.evaluate("window.hacked") is None


def test_a_text_of_a_job_is_only_text_in_every_place(open_jobs: OpenJobs) -> None:
    page = open_jobs()
    for number, text in enumerate(PAYLOADS):
        group = page.groups.filter(
            has=page.page.get_by_role("button", name=shown(text), exact=True)
        )
        expect(group.locator("td").first).to_contain_text(f"in {shown(text)}")
        expect(group.locator("td").last).to_have_text(shown(text))
        group.get_by_role("button").click()
        expect(page.card.locator("> div > pre")).to_have_text(
            f"{shown(text)}: {shown(text)}\n{shown(text)}", timeout=WAIT_MS
        )
        expect(page.card.locator("h3").first).to_have_text(f"{shown(text)} in {shown(text)}")
        own = page.page.locator("details").filter(has_text=shown(f"{number}{text}"[:8]) + "…")
        row = page.table("The last single failures").locator("tbody tr").filter(has=own)
        cells = row.locator("> td")
        assert [cells.nth(n).inner_text() for n in (2, 3, 4)] == [shown(text)] * 3
        row.locator("summary").click()
        expect(row.locator("dd code")).to_have_text(f"{number}{shown(text)}")
        cells = page.rows.filter(has=own).locator("> td")
        assert [cells.nth(n).inner_text() for n in (3, 4, 5)] == [shown(text)] * 3
        expect(page.page.locator(_MARKUP)).to_have_count(0)


def test_a_hostile_text_is_chosen_searched_and_linked_as_text(open_jobs: OpenJobs) -> None:
    page = open_jobs()
    page.open_choices("Tenant")
    for text in PAYLOADS:
        option = page.page.get_by_role("option", name=shown(text), exact=True)
        expect(option).to_have_text(shown(text))
        expect(option.locator(":is(img, script, svg, a, em, strong)")).to_have_count(0)
    page.page.get_by_role("option", name=IMAGE, exact=True).click()
    expect(page.count).to_have_text("1 job")
    assert page.address["tenant"] == IMAGE
    page.find(SCRIPT)
    expect(page.count).to_have_text("0 jobs")
    link = page.page.get_by_role("link", name="Download CSV")
    assert "<" not in str(link.get_attribute("href"))
    linked = open_jobs(f"?{page.page.url.partition('?')[2]}")
    expect(linked.count).to_have_text("0 jobs")
    expect(linked.page.get_by_label("Find", exact=True)).to_have_value(SCRIPT)


def test_a_name_with_hidden_characters_is_chosen_by_its_visible_form(open_jobs: OpenJobs) -> None:
    """The filters of the history and of its file use the exact name."""
    page = open_jobs()
    page.choose("Worker", shown(TURNED))
    expect(page.count).to_have_text("1 job")
    expect(page.page.get_by_role("combobox", name="Worker", exact=False)).to_have_value(
        shown(TURNED)
    )
    link = page.page.get_by_role("link", name="Download CSV")
    asked = parse_qs(urlsplit(str(link.get_attribute("href"))).query)
    assert asked["worker"] == [TURNED]
    for query in (page.page.url.partition("?")[2], urlencode({"worker": TURNED})):
        linked = open_jobs(f"?{query}")
        expect(linked.count).to_have_text("1 job")
        field = linked.page.get_by_role("combobox", name="Worker", exact=False)
        expect(field).to_have_value(shown(TURNED))
        assert "\u202e" not in linked.page.locator("body").inner_text()


@pytest.mark.parametrize(
    "query",
    [
        "?status=nonsense&time=soon&failures=never&order=up",
        pytest.param(
            "?page=older~nan~x&group=%3Cscript%3E&from=yesterday&to=9999-12-31T23:59:59Z",
            marks=pytest.mark.long,
        ),
        "?find=%00%0a%F0%9F%92%A9&worker=%ED%A0%80",
        pytest.param("?tenant=" + "x" * 5000, marks=pytest.mark.long),
        pytest.param("?from=0001-01-01T00:00:00%2B14:00&time=custom", marks=pytest.mark.long),
    ],
    ids=["words", "places", "bytes", "very long", "first year"],
)
def test_an_invalid_address_breaks_nothing(
    query: str, tab: Page, dashboard: DashboardProcess
) -> None:
    """If the filter in the address is invalid, the page says why."""
    page = JobsPage(tab, dashboard.url)
    tab.goto(f"{dashboard.url}/jobs{query}", wait_until="domcontentloaded")
    expect(
        page.part("history").or_(tab.get_by_text("The address has an invalid filter"))
    ).to_be_visible(timeout=WAIT_MS)
    expect(page.groups.first).to_be_visible()
    expect(tab.get_by_text("Traceback")).to_have_count(0)
    expect(tab.get_by_test_id("stException")).to_have_count(0)
    assert page.complaints == []


def test_every_text_has_enough_contrast_and_nothing_is_wider_than_the_screen(
    tab: Page, open_jobs: OpenJobs
) -> None:
    page = open_jobs()
    page.groups.last.get_by_role("button").click()
    expect(page.card).to_be_visible(timeout=WAIT_MS)
    for theme in THEMES:
        turn_to(tab, theme)
        measured = tab.evaluate(CONTRASTS, ".qs-sheet")
        assert len(measured) > 100
        assert [one for one in measured if one[0] < 4.5] == []
    for width in (390, 320, 768, 1440):
        tab.set_viewport_size({"width": width, "height": 844})
        tab.wait_for_function(FITS, timeout=WAIT_MS)


def test_groups_and_pages_are_reached_with_the_keyboard(open_jobs: OpenJobs) -> None:
    page = open_jobs()
    page.groups.first.get_by_role("button").focus()
    page.page.keyboard.press("Enter")
    expect(page.card).to_be_visible(timeout=WAIT_MS)
    # A refresh leaves the focus where it was.
    page.page.wait_for_function("document.activeElement.dataset.of === 'group'", timeout=WAIT_MS)
    outline = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.table("The last single failures").get_by_role("checkbox").first.focus()
    page.page.keyboard.press("Space")
    expect(page.button("Retry 1 chosen").first).to_be_visible(timeout=WAIT_MS)
