"""The present values that a page shows, each with its query template."""

from __future__ import annotations

import re
from dataclasses import dataclass

from queuescope.panels import Dashboard, EndedJobs, Measure, Panel, PanelRole
from queuescope.panels.native import classic_part

COMPLETION = "flow:completion"
"""The name of the completion rate: jobs per second."""

_FROM_ENDED = (PanelRole.SUCCESS, PanelRole.THROUGHPUT)
_MATCHERS = re.compile(r"\$\{?matchers\b")


@dataclass(frozen=True, slots=True)
class PresentQuery:
    """A query ``template`` by ``name``: the id of a panel, or a name with a colon, which no id has.
    ``panel`` interprets the answer; None: it is a single number. With ``ended`` the value is
    computed from the count of ended jobs, if there is one.
    """

    name: str
    panel: Panel | None
    template: str
    ended: EndedJobs | None = None

    @property
    def is_of_buckets(self) -> bool:
        """Whether the answer consists of histogram buckets that one more matcher can select: with
        several selectors the matcher could narrow the wrong one. Such a matcher excludes native
        histograms, which are not needed where classic buckets exist.
        """
        is_histogram = self.panel is not None and bool(self.panel.quantiles)
        return is_histogram and len(_MATCHERS.findall(classic_part(self.template))) == 1


def present_name(measure: Measure) -> str:
    """The name of the measure's value: that of its chart if the chart is on the page."""
    return measure.panel.id if measure.on_page else f"card:{measure.id}"


def beside_name(measure: Measure) -> str:
    """The name of the second figure on the card."""
    return f"card:{measure.id}:beside"


def figure_queries(dashboard: Dashboard) -> tuple[PresentQuery, ...]:
    """The present values of charts and cards, each once, without the shares of a day."""
    found = {panel.id: _present_query(dashboard, panel, panel.id) for panel in dashboard.panels}
    for measure in dashboard.measures:
        query = present_query(dashboard, measure)
        found.setdefault(query.name, query)
        if measure.has_beside and measure.share is None:
            found[beside_name(measure)] = beside_query(measure)
    return tuple(found.values())


def present_query(dashboard: Dashboard, measure: Measure) -> PresentQuery:
    """The query for the measure's present value."""
    return _present_query(dashboard, measure.panel, present_name(measure))


def _present_query(dashboard: Dashboard, panel: Panel, name: str) -> PresentQuery:
    ended = dashboard.ended if panel.role in _FROM_ENDED else None
    return PresentQuery(name, panel, panel.now, ended)


def beside_query(measure: Measure) -> PresentQuery:
    """The query for the second figure on the card."""
    return PresentQuery(beside_name(measure), measure.panel, measure.now)


def flow_queries(dashboard: Dashboard) -> tuple[PresentQuery, ...]:
    """The query for the completion rate, if the panel file has one."""
    flow = dashboard.flow
    if flow is None:
        return ()
    return (PresentQuery(COMPLETION, None, flow.completion),)
