"""Parts of pages with the state of their source: fresh, old with age and cause, or unknown."""

from __future__ import annotations

from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from queuescope.dashboard.ui.widgets import Markup, Tone, element, heading, joined, moment, notice
from queuescope.figures import duration_words

if TYPE_CHECKING:
    from queuescope.known import Known


def as_of(known: Known[Any], zone: tzinfo, now: float) -> Markup:
    """The as-of time; if the source fails, also since when and why."""
    at = moment(known.as_of, zone, now)
    if known.error is None:
        return element("span", "as of ", at, class_="qs-muted")
    since = moment(known.failing_since, zone, now)
    words = joined("old, as of ", at, "; since ", since, f" {known.error}")
    return element("span", words, class_="qs-failing", role="status")


def server_clock_remarks(ahead: float) -> list[Markup]:
    """A remark if this server's clock is off: ``ahead`` is how many seconds it is ahead of the
    broker's, negative if behind.
    """
    if not ahead:
        return []
    side = "ahead of" if ahead > 0 else "behind"
    return [
        notice(
            f"The clock of this server is {duration_words(abs(ahead))} {side} the broker’s. Times "
            "of jobs, workers and operations are the broker’s; only “as of” is this server’s. Let "
            "NTP set the clock of its machine.",
            tone=Tone.WARN,
        )
    ]


def unknown_part(title: str, known: Known[Any]) -> Markup:
    """A part whose source has never been read."""
    if known.error is None:
        said = element("div", "Asking …", class_="qs-asking")
    else:
        said = notice(f"Not known: {known.error}.", tone=Tone.BAD)
    return element("section", heading(title), said, class_="qs-part-of", data_state="unavailable")


def known_part(known: Known[Any], head: Markup, *body: Markup) -> Markup:
    """A part with what was read last, greyed if that is old."""
    state = "fresh" if known.is_fresh else "stale"
    held = element("div", *body, class_="qs-part-body")
    return element("section", head, held, class_="qs-part-of", data_state=state)
