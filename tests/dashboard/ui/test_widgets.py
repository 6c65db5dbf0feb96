"""Tables and notices of the pages: what goes in as text comes out as that text, as no markup."""

from __future__ import annotations

import re
from datetime import UTC, timedelta, timezone
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuescope.dashboard.assets import Assets
from queuescope.dashboard.ui.widgets import (
    UNKNOWN,
    Align,
    Column,
    Markup,
    Tone,
    action_button,
    choice,
    code,
    details,
    element,
    escaped,
    facts,
    figure,
    foreign,
    heading,
    joined,
    mark,
    moment,
    notice,
    span,
    table,
    tick,
)
from queuescope.shown_text import is_fully_visible

T0 = 1_790_000_000.0  # 21 Sep 2026, 14:13:20 UTC
HOSTILE = "</td></table><script>alert(1)</script>&amp;\"'`$x$ :red[a] **b** <img src=x onerror=y>"
COLUMNS = (Column("What", wide=True), Column("Count", Align.FIGURE))


class Reader(HTMLParser):
    """What a browser would make of it: elements with their attributes, and the text between."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def whole(text: str) -> Markup:
    """Every builder, with ``text`` wherever one takes text."""
    return element(
        "section",
        heading(text, text),
        notice(text, tone=Tone.BAD, detail=text),
        table(
            (Column(text), Column(text, wide=True)),
            [
                (text, mark(text, Tone.BAD)),
                (choice(text, text, of=text, label=text), tick(text, label=text)),
                (code(text), joined(text, foreign(text))),
                (figure(3, text), details(text, text, key=text)),
            ],
            caption=text,
            chosen=1,
        ),
        table((Column(text),), [], caption=text, empty=text),
        facts([(text, text)]),
        data_text=text,
    )


@given(st.text(min_size=1))
def test_no_text_becomes_markup(text: str) -> None:
    seen, harmless = Reader(whole(text)), Reader(whole("x"))
    assert [name for name, _ in seen.elements] == [name for name, _ in harmless.elements]
    assert [list(a) for _, a in seen.elements] == [list(a) for _, a in harmless.elements]
    assert seen.open == []


@given(st.text(st.characters(codec="utf-8")).filter(is_fully_visible))
def test_text_is_read_as_it_was_written(text: str) -> None:
    assert Reader(escaped(text)).text == text
    read = dict(Reader(element("p", data_text=text)).elements[0][1])
    assert read["data-text"] == text


def test_characters_that_reverse_or_hide_text_are_shown_by_number() -> None:
    assert escaped("a\u202eb\x00c\ud800\u2028") == "a\\u202eb\\u0000c\\ud800\\u2028"
    assert escaped("\U000e0001") == "\\U000e0001"
    # A name with a line break is not the one with a space; where lines are seen, they stay.
    assert escaped("ac\nme\u200b") == "ac\\u000ame\\u200b"
    assert Reader(foreign("line\n\tindented\u00a0\u200b")).text == "line\n\tindented\u00a0\\u200b"
    assert escaped("👩\u200d🔧") == "👩\u200d🔧"


def test_markup_built_by_hand_is_escaped_again() -> None:
    assert joined(Markup("<b>") + "x") == "&lt;b&gt;x"
    assert joined(Markup("<b>{}</b>").format("<i>")) == "&lt;b&gt;&lt;i&gt;&lt;/b&gt;"
    assert joined(Markup("<b></b>"), "<", 3, None) == "<b></b>&lt;3" + UNKNOWN


def test_a_table_has_a_caption_and_aligned_columns() -> None:
    seen = Reader(table(COLUMNS, [("a", 1), ("b", None)], caption="Failures", chosen=1))
    assert seen.text == "FailuresWhatCounta1b–"
    names = [name for name, _ in seen.elements]
    assert names[:4] == ["div", "table", "caption", "thead"]
    frame = seen.elements[0][1]
    assert (frame["role"], frame["aria-label"], frame["tabindex"]) == ("region", "Failures", "0")
    assert [a.get("aria-current") for n, a in seen.elements if n == "tr"] == [None, None, "true"]
    assert [a["data-align"] for n, a in seen.elements if n == "td"] == ["text", "figure"] * 2


def test_a_table_without_rows_says_so() -> None:
    seen = Reader(table(COLUMNS, [], caption="Failures", empty="No job failed."))
    assert seen.text.endswith("No job failed.")
    assert [a["colspan"] for n, a in seen.elements if "colspan" in a] == ["2"]


def test_an_opened_part_is_below_its_row() -> None:
    below = element("p", "all of it")
    rows = [("a", 1), ("b", 2)]
    seen = Reader(table(COLUMNS, rows, caption="Failures", chosen=0, below=below))
    assert seen.text == "FailuresWhatCounta1all of itb2"
    assert [a["colspan"] for n, a in seen.elements if "colspan" in a] == ["2"]
    assert Reader(table(COLUMNS, rows, caption="Failures", below=below)).text.endswith("a1b2")


def test_a_row_that_does_not_fit_its_columns_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        table(COLUMNS, [("only one",)], caption="Failures")


def test_a_state_is_shown_by_word_and_shape_and_not_by_colour_alone() -> None:
    seen = Reader(mark("lost", Tone.BAD))
    assert seen.text == "lost"
    assert [(n, a.get("data-tone")) for n, a in seen.elements] == [("span", "bad"), ("i", None)]


def test_bad_news_are_read_aloud_at_once() -> None:
    roles = [Reader(notice("x", tone=tone)).elements[0][1]["role"] for tone in Tone]
    assert roles == ["status", "status", "alert", "status", "status", "status"]


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (figure(1234.0), "1,234"),
        (figure(98.24, "%", digits=1), "98.2 %"),
        (figure(None), "–"),
        (figure(float("nan")), "–"),
        (span(0.84), "840 ms"),
        (span(0.9999), "1.0 s"),
        (span(59.96), "1 min"),
        (span(125), "2 min 5 s"),
        (span(None), "–"),
        (span(float("inf")), "–"),
        (moment(T0, UTC, T0 + 60), "14:13:20"),
        (moment(T0, UTC, T0 + 86_400), "21 Sep, 14:13:20"),
        (moment(T0, UTC, T0 + 400 * 86_400), "21 Sep 2026, 14:13:20"),
        (moment(T0, timezone(timedelta(hours=10)), T0), "00:13:20"),
        (moment(None, UTC, T0), "–"),
        (moment(1e300, UTC, T0), "–"),
    ],
)
def test_figures_durations_and_times_are_shown_with_their_unit(shown: Markup, text: str) -> None:
    assert Reader(shown).text == text


def test_a_button_that_cannot_be_pressed_says_why() -> None:
    (free,) = Reader(action_button("Purge", HOSTILE, of="purge", label=f"Purge {HOSTILE}")).elements
    (held,) = Reader(
        action_button("Purge", "q", of="purge", label="Purge q", refusal=HOSTILE)
    ).elements
    assert free[1]["data-value"] == HOSTILE
    assert free[1]["aria-label"] == f"Purge {HOSTILE}"
    assert not {"disabled", "title"} & set(free[1])
    assert "disabled" in held[1]
    assert held[1]["title"] == HOSTILE


def test_a_time_is_machine_readable_with_its_offset() -> None:
    attributes = Reader(moment(T0, UTC, T0)).elements[0][1]
    assert attributes["datetime"] == "2026-09-21T14:13:20+00:00"


def test_the_colours_are_those_of_the_first_page_in_both_themes() -> None:
    style = Assets().style
    sheet = style[: style.index("}")]
    light = style[style.index(".qs-page, #queuescope-early {") :].partition("}")[0]
    dark = style[style.index('.qs-page[data-theme="dark"]') :].partition("}")[0]
    pairs = re.findall(r"(--qs-[\w-]+):light-dark\((.*?),(.*?)\);", sheet)
    assert len(pairs) > 15
    for name, by_day, by_night in pairs:
        assert f"{name}: {by_day};" in light
        assert f"{name}: {by_night};" in dark
    used = set(re.findall(r"var\((--qs-[\w-]+)\)", style[style.index("/* Tables") :]))
    assert used <= {name for name, _, _ in pairs} | {"--qs-font", "--qs-mono"}
