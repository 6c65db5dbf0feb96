"""Tables and notices of the pages, as HTML in which every foreign text is escaped.

Streamlit's own elements read Markdown, LaTeX, colours and icons into the texts they are given; a
job's error must stand on the page as it was written. So foreign text goes through ``escaped`` and
nowhere else: whatever is not ``Markup`` is escaped when it is put into a table or an element.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from html import escape
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from queuescope.figures.words import duration_words
from queuescope.shown_text import shown


class Markup(str):
    """HTML in which all foreign text is escaped. What is made of it by other means than those of
    this module is plain text again, and escaped once more.
    """

    __slots__ = ()


Cell = Markup | str | int | float | None
"""Content: text and numbers are escaped; None is not known, and shown as “–”."""

UNKNOWN = Markup('<span class="qs-none" title="not known">–</span>')
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}")
_VOID = frozenset({"br", "input"})


class Align(StrEnum):
    """How the cells of a column stand: figures end in line, texts begin in line."""

    TEXT = "text"
    FIGURE = "figure"


class Tone(StrEnum):
    """What a state means to its reader. Each has a shape of its own beside its colour."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    BUSY = "busy"
    IDLE = "idle"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; one that is ``wide`` takes the room that the others leave, and breaks its lines."""

    title: str
    align: Align = Align.TEXT
    wide: bool = False


def escaped(text: str, *, in_lines: bool = False) -> Markup:
    """``text`` as text: no markup, and nothing that would turn or hide what stands beside it; see
    ``shown`` for that and for ``in_lines``.
    """
    return Markup(escape(shown(text, in_lines=in_lines)))


def element(name: str, *content: Cell, **attributes: str | bool) -> Markup:
    """An element of our own ``name``. In the names of attributes, ours too, an underscore stands
    for a hyphen, and one at the end for nothing: ``class_``, ``data_key``.
    """
    written = "".join(
        f" {_attribute(key)}" + ("" if value is True else f'="{escaped(str(value))}"')
        for key, value in attributes.items()
        if value is not False
    )
    end = "" if name in _VOID else f"</{name}>"
    return Markup(f"<{name}{written}>{joined(*content)}{end}")


def joined(*content: Cell) -> Markup:
    """One after the other."""
    return Markup("".join(map(_markup, content)))


def figure(value: float | None, unit: str = "", *, digits: int = 0) -> Markup:
    """A number with its unit: ``1,234``, ``98.2 %``; one that is not known or no number is “–”."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = f"{value:,.{digits}f}" + (f" {unit}" if unit else "")
    return element("span", text, class_="qs-figures")


def span(seconds: float | None) -> Markup:
    """A duration: ``840 ms``, ``3.2 s``, ``2 min 5 s``."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        words = f"{seconds * 1000:.0f} ms"
    elif seconds < 59.95:
        words = f"{seconds:.1f} s"
    else:
        words = duration_words(seconds)
    return element("span", words, class_="qs-figures")


def moment(at: float | None, zone: tzinfo, now: float) -> Markup:
    """A time of day in ``zone``, with its date unless that is today's. ``at`` and ``now`` are in
    epoch seconds.
    """
    when = _when(at, zone)
    today = _when(now, zone)
    if when is None or today is None:
        return UNKNOWN
    words = f"{when:%H:%M:%S}"
    if when.date() != today.date():
        year = "" if when.year == today.year else f" {when.year}"
        words = f"{when.day} {when:%b}{year}, {words}"
    iso = when.isoformat(timespec="seconds")
    return element("time", words, class_="qs-figures", datetime=iso, title=iso)


def viewer_zone() -> tzinfo:
    """The zone that the reader's browser tells, UTC where it tells none that we know."""
    name = st.context.timezone
    if not name or not _ZONE.fullmatch(name):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def _when(at: float | None, zone: tzinfo) -> datetime | None:
    if at is None:
        return None
    try:
        return datetime.fromtimestamp(at, zone)
    except (ValueError, OverflowError, OSError):
        return None


def mark(word: str, tone: Tone) -> Markup:
    """A state, told by its word and by the shape and colour of its tone."""
    shape = element("i", class_="qs-shape", aria_hidden="true")
    return element("span", shape, word, class_="qs-told", data_tone=tone)


def code(text: str) -> Markup:
    """Text of a machine, such as an id."""
    return element("code", text, class_="qs-code")


def foreign(text: str) -> Markup:
    """Text of others at full length, such as an error: as it was written, line by line."""
    lines = escaped(text, in_lines=True)
    return element("pre", lines, class_="qs-foreign", tabindex="0")


def choice(content: Cell, value: str, *, of: str = "row", label: str = "") -> Markup:
    """A button; ``Live.chosen`` tells ``(of, value)`` when it was pressed."""
    names = {"aria_label": label} if label else {}
    return element(
        "button",
        content,
        type="button",
        class_="qs-choice",
        data_of=of,
        data_value=value,
        **names,
    )


def action_button(content: Cell, value: str, *, of: str, label: str, refusal: str = "") -> Markup:
    """A button for what changes something, told as that of a ``choice``. With a ``refusal``, the
    sentence that says why not, it cannot be pressed.
    """
    return element(
        "button",
        content,
        type="button",
        class_="qs-action",
        aria_label=label,
        data_of=of,
        data_value=value,
        disabled=bool(refusal),
        title=refusal or False,
    )


def tick(value: str, *, label: str, checked: bool = False, refusal: str = "") -> Markup:
    """A box to tick; ``Live.ticked`` tells the values of those that are. With a ``refusal``, the
    sentence that says why not, it cannot be.
    """
    return element(
        "input",
        type="checkbox",
        class_="qs-tick",
        aria_label=label,
        data_value=value,
        checked=checked and not refusal,
        disabled=bool(refusal),
        title=refusal or False,
    )


def details(summary: Cell, *content: Cell, key: str) -> Markup:
    """What can be opened; what a reader has opened stays so under the same ``key``."""
    return element(
        "details", element("summary", summary), *content, class_="qs-more-of", data_key=key
    )


def facts(pairs: Iterable[tuple[str, Cell]]) -> Markup:
    """Names and values, one below the other."""
    return element(
        "dl",
        *(joined(element("dt", name), element("dd", value)) for name, value in pairs),
        class_="qs-facts",
    )


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell]],
    *,
    caption: str,
    empty: str = "Nothing to show.",
    chosen: int | None = None,
    below: Markup | None = None,
    stacks: bool = False,
) -> Markup:
    """A table. ``caption`` names it for those who cannot see it; ``empty`` stands there without
    rows; ``chosen`` is the number of the row that the reader has opened, and ``below`` what stands
    below that row.

    It scrolls sideways in its frame where the screen is narrower; one that ``stacks`` has its
    cells below one another on a phone. Raises ``ValueError`` when a row has more or fewer cells
    than there are columns.
    """
    head = (element("th", column.title, scope="col", data_align=column.align) for column in columns)
    body = []
    for number, row in enumerate(rows):
        cells = (
            element(
                "td",
                cell,
                data_align=column.align,
                data_wide=column.wide,
                data_title=column.title if stacks else False,
            )
            for column, cell in zip(columns, row, strict=True)
        )
        body.append(element("tr", *cells, aria_current="true" if number == chosen else False))
        if number == chosen and below is not None:
            all_of_it = element("td", below, colspan=str(len(columns)), class_="qs-below")
            body.append(element("tr", all_of_it, data_key="below"))
    if not body:
        nothing = element("td", empty, colspan=str(len(columns)), class_="qs-empty")
        body.append(element("tr", nothing))
    whole = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
        class_="qs-table qs-stacks" if stacks else "qs-table",
    )
    return element(
        "div", whole, class_="qs-scroll", role="region", aria_label=caption, tabindex="0"
    )


def heading(title: str, note: str = "") -> Markup:
    """The head of a part of a page, with a quiet remark beside it."""
    beside = element("span", note, class_="qs-muted") if note else Markup("")
    return element("header", element("h2", title), beside, class_="qs-part")


def sentence(words: object) -> str:
    """What an error says, as a sentence of its own."""
    text = str(words)
    return f"{text[:1].upper()}{text[1:]}."


def notice(text: str | Markup, *, tone: Tone = Tone.IDLE, detail: str = "") -> Markup:
    """A sentence in a frame: bad news are read aloud at once. ``detail`` is for the engineer."""
    more = element("p", detail, class_="qs-muted") if detail else Markup("")
    shape = element("i", class_="qs-shape", aria_hidden="true")
    words = element("div", element("p", text), more)
    role = "alert" if tone is Tone.BAD else "status"
    return element("div", shape, words, class_="qs-notice", data_tone=tone, role=role)


def show(*parts: Markup) -> None:
    """Place ``parts`` on the page. Buttons and boxes in them do nothing; see ``show_live``."""
    st.html(element("section", *parts, class_="qs-sheet"))


@dataclass(frozen=True, slots=True)
class Live:
    """What a reader did with what ``show_live`` showed. A browser may send whatever it likes:
    compare it with what was shown.
    """

    chosen: tuple[str, str] | None
    """The button that was pressed since the last run: what it is of, and its value."""

    ticked: tuple[str, ...]


# What is put in has been escaped above; static/ui/live_html.js shows it. A choice happens once,
# ticks stay; both are texts.
_live = st.components.v2.component(
    "queuescope_live",
    html="<section class='qs-sheet qs-live'></section>",
    js="export default (live) => window.queuescope.showLive(live);",
    isolate_styles=False,
)


def show_live(*parts: Markup, key: str) -> Live:
    """Place ``parts`` on the page and tell what the reader did with their buttons and boxes."""
    result = _live(
        key=key,
        data={"html": joined(*parts)},
        on_chosen_change=lambda: None,
        on_ticked_change=lambda: None,
    )
    chosen, ticked = result.get("chosen"), result.get("ticked")
    pair = chosen if isinstance(chosen, list | tuple) else ()
    values = ticked if isinstance(ticked, list | tuple) else ()
    return Live(
        (str(pair[0]), str(pair[1])) if len(pair) == 2 else None,
        tuple(str(value) for value in values),
    )


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _markup(content: Cell) -> Markup:
    if content is None:
        return UNKNOWN
    return content if isinstance(content, Markup) else escaped(str(content))
