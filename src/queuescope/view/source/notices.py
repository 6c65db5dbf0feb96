"""Notices to the reader about the source's data and clocks."""

from __future__ import annotations

from queuescope.figures import duration_words
from queuescope.view.source.scrapes import Late, late_words
from queuescope.words import listed

_CLOCK_TOLERANCE_SECONDS = 5


def late_notices(late: Late, most_named: int | None = None) -> list[str]:
    """One sentence for each group of late metrics, which names ``most_named`` of them, or all."""

    def named(names: list[str]) -> str:
        return listed(names, len(names) if most_named is None else most_named)

    said = []
    if late.behind_seconds:
        said.append(
            f"Prometheus is {late_words(late.behind_seconds)} behind: samples arrive that"
            " late. Figures and charts are as of that time."
        )
    for seconds in sorted(set(late.by_metric.values())):
        names = [name for name, more in late.by_metric.items() if more == seconds]
        words = late_words(late.behind_seconds + seconds)
        said.append(f"Samples of {named(names)} arrive {words} late.")
    if late.undecided:
        said.append(
            f"The newest samples of {named([*late.undecided])} are old: they arrive late, or have"
            " ended. This will be clear in a moment."
        )
    return said


def clock_notices(prometheus: float, broker: float) -> list[str]:
    """Sentences about three clocks. ``prometheus`` and ``broker`` are how many seconds their clocks
    are ahead of this server's; negative is behind, 0 is equal or unknown.
    """
    found = []
    is_off, broker_is_off = (abs(one) > _CLOCK_TOLERANCE_SECONDS for one in (prometheus, broker))
    agree = abs(prometheus - broker) <= _CLOCK_TOLERANCE_SECONDS
    is_ours = is_off and broker_is_off and agree
    if is_off:
        whose = (
            "clocks of Prometheus and of the broker are" if is_ours else "clock of Prometheus is"
        )
        found.append(
            f"The {whose} {_apart(prometheus)} this server's. "
            "Ranges follow the clock of Prometheus."
        )
    if broker_is_off and not is_ours:
        found.append(
            f"The clock of the broker is {_apart(broker)} this server's. Times of jobs and "
            "operations are corrected by that."
        )
    return found


def _apart(seconds: float) -> str:
    return f"{duration_words(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'}"
