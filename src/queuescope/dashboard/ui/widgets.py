"""Tables and notices of the pages, as HTML in which all foreign text is escaped.

Streamlit's own elements interpret Markdown, LaTeX, colours and icons; a job's error must be shown
exactly as it was written. So all foreign text goes through ``escaped``: anything that is not
``Markup`` is escaped when it is put into a table or an element.
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
    """HTML in which all foreign text is escaped. The result of any string operation on it, other
    than those of this module, is plain text again and is escaped once more.
    """

    __slots__ = ()


Cell = Markup | str | int | float | None
"""Content: text and numbers are escaped; None is not known, and shown as “–”."""

UNKNOWN = Markup('<span class="qs-none" title="not known">–</span>')
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}")
_VOID = frozenset({"br", "input"})


class Align(StrEnum):
    """The alignment of a column: figures to the right, texts to the left."""

    TEXT = "text"
    FIGURE = "figure"


class Tone(StrEnum):
    """What a state means to its reader. Each tone has a shape as well as a colour."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    BUSY = "busy"
    IDLE = "idle"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; a ``wide`` one takes the remaining width, and wraps its lines."""

    title: str
    align: Align = Align.TEXT
    wide: bool = False


def escaped(text: str, *, in_lines: bool = False) -> Markup:
    """``text`` as plain text: no markup, and no characters that would reverse or hide the text
    around them; see ``shown`` for these and for ``in_lines``.
    """
    return Markup(escape(shown(text, in_lines=in_lines)))


def element(name: str, *content: Cell, **attributes: str | bool) -> Markup:
    """An element. ``name`` and attribute names are our own, not foreign text. In attribute names an
    underscore becomes a hyphen, and one at the end is dropped: ``class_``, ``data_key``.
    """
    written = "".join(
        f" {_attribute(key)}" + ("" if value is True else f'="{escaped(str(value))}"')
        for key, value in attributes.items()
        if value is not False
    )
    end = "" if name in _VOID else f"</{name}>"
    return Markup(f"<{name}{written}>{joined(*content)}{end}")


def download_link(words: str, path: str, query: str, **attributes: str) -> Markup:
    """A link to the file of the route ``path``, with the parameters in ``query``."""
    # Relative to the page, which may be below any path.
    address = path.removeprefix("/")
    return element(
        "a",
        words,
        class_="qs-action",
        href=f"{address}?{query}" if query else address,
        download=f"queuescope-{path.rpartition('/')[2]}",
        **attributes,
    )


def joined(*content: Cell) -> Markup:
    """The contents, one after the other."""
    return Markup("".join(map(_markup, content)))


def figure(value: float | None, unit: str = "", *, digits: int = 0) -> Markup:
    """A number with its unit: ``1,234``, ``98.2 %``; “–” if it is unknown or not finite."""
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
    """The time zone of the reader's browser; UTC if it reports none that we know."""
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
    """A state: its word, with the shape and colour of its tone."""
    shape = element("i", class_="qs-shape", aria_hidden="true")
    return element("span", shape, word, class_="qs-state", data_tone=tone)


def code(text: str) -> Markup:
    """Text of a machine, such as an id."""
    return element("code", text, class_="qs-code")


def foreign(text: str) -> Markup:
    """Foreign text at full length, such as an error: as it was written, line by line."""
    lines = escaped(text, in_lines=True)
    return element("pre", lines, class_="qs-foreign", tabindex="0")


def choice(content: Cell, value: str, *, of: str = "row", label: str = "") -> Markup:
    """A button; ``Live.chosen`` is ``(of, value)`` after it was pressed."""
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
    """A button for an action, reported like that of a ``choice``. With a ``refusal``, a sentence
    that says why not, it is disabled.
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
    """A checkbox; ``Live.ticked`` holds the values of ticked ones. With a ``refusal``, a sentence
    that says why not, it is disabled.
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
    """A part that can be opened; it stays open over redraws with the same ``key``."""
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
    """A table. ``caption`` is its name for screen readers; ``empty`` is shown without rows;
    ``chosen`` is the index of the row that the reader has opened, and ``below`` is shown below that
    row.

    On a narrow screen it scrolls sideways in its frame; with ``stacks`` its cells are stacked on a
    phone. Raises ``ValueError`` if a row does not have one cell for each column.
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
    """The heading of a part of a page, with a muted note beside it."""
    beside = element("span", note, class_="qs-muted") if note else Markup("")
    return element("header", element("h2", title), beside, class_="qs-part")


def sentence(words: object) -> str:
    """The text of an error as a sentence."""
    text = str(words)
    return f"{text[:1].upper()}{text[1:]}."


def notice(text: str | Markup, *, tone: Tone = Tone.IDLE, detail: str = "") -> Markup:
    """A sentence in a frame; screen readers announce bad news at once. ``detail`` is
    for engineers.
    """
    more = element("p", detail, class_="qs-muted") if detail else Markup("")
    shape = element("i", class_="qs-shape", aria_hidden="true")
    words = element("div", element("p", text), more)
    role = "alert" if tone is Tone.BAD else "status"
    return element("div", shape, words, class_="qs-notice", data_tone=tone, role=role)


def show(*parts: Markup) -> None:
    """Show ``parts`` on the page. Buttons and checkboxes in them do nothing; see ``show_live``."""
    st.html(element("section", *parts, class_="qs-sheet"))


@dataclass(frozen=True, slots=True)
class Live:
    """A reader's input to the parts of ``show_live``. A browser may send anything: compare it with
    what was shown.
    """

    chosen: tuple[str, str] | None
    """The button that was pressed since the last run, as its ``of`` and value."""

    ticked: tuple[str, ...]


# The HTML was escaped above; static/ui/live_html.js shows it. A choice is reported once, ticks
# stay; both are texts.
_live = st.components.v2.component(
    "queuescope_live",
    html="<section class='qs-sheet qs-live'></section>",
    js="export default (live) => window.queuescope.showLive(live);",
    isolate_styles=False,
)


def show_live(*parts: Markup, key: str) -> Live:
    """Show ``parts`` on the page and return the reader's input to their buttons and checkboxes."""
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
