"""A run's drawing reaches the page, also if the next run is requested as it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.dashboard.page_socket import PageSocket, texts
from tests.dashboard.streamlit_app import running_app


@contextmanager
def _page(directory: Path, *, sends_each: str = "yes") -> Iterator[tuple[PageSocket, str, str]]:
    """A page, and the ids of its fragments."""
    settings = {"SENDS_EACH_BEFORE_THE_NEXT": sends_each}
    with (
        running_app("tests.dashboard.script_runs_app:app", directory, settings) as port,
        PageSocket(port) as page,
    ):
        first, second = dict.fromkeys(
            message.delta.fragment_id for message in page.run() if message.delta.fragment_id
        )
        yield page, first, second


def test_what_a_run_has_drawn_is_sent_before_the_next_begins(tmp_path: Path) -> None:
    with _page(tmp_path) as (page, first, second):
        seen = texts(page.run(fragment=first, query=f"then={second}"))
        # The runs may end as one.
        if seen == ["first 2"]:
            seen += texts(page.run_to_its_end())
        assert seen == ["first 2", "second 2"]
        assert texts(page.run(fragment=first)) == ["first 3"]


def test_each_of_several_requests_is_met(tmp_path: Path) -> None:
    with _page(tmp_path) as (page, first, second):
        query = f"then={second}&then={first}&then={second}"
        seen = texts(page.run(fragment=first, query=query))
        # A drawing may be sent in place of an older one of the same fragment.
        while not ("first 3" in seen and {"second 2", "second 3"} & set(seen)):
            seen += texts(page.run_to_its_end())


def test_without_it_streamlit_loses_the_drawing(tmp_path: Path) -> None:
    """If this fails, Streamlit has been mended, and the module is no longer needed."""
    with _page(tmp_path, sends_each="no") as (page, first, second):
        assert texts(page.run(fragment=first, query=f"then={second}")) == ["second 2"]
