"""The figures of now that a page shows, each with the query template that it is fetched by."""

from __future__ import annotations

import re
from dataclasses import dataclass

from queuescope.panels import Dashboard, EndedJobs, Measure, Panel, PanelRole
from queuescope.panels.native import classic_part

COMPLETION = "flow:completion"
"""The name of what goes through the queue: jobs per second."""

_FROM_ENDED = (PanelRole.SUCCESS, PanelRole.THROUGHPUT)
_MATCHERS = re.compile(r"\$\{?matchers\b")


@dataclass(frozen=True, slots=True)
class PresentQuery:
    """``template`` under ``name``, which is the id of a panel, or has a colon, as no id has;
    ``panel`` reads its answer, None: it is a single number.

    With ``ended`` the figure is read from what jobs come to, where that is known.
    """

    name: str
    panel: Panel | None
    template: str
    ended: EndedJobs | None = None

    @property
    def is_of_buckets(self) -> bool:
        """Whether the answer are the buckets of histograms, and one more matcher would choose among
        them: with several selectors it could narrow another one. A matcher of classic buckets
        leaves native histograms out, which are not read where there are such.
        """
        is_histogram = self.panel is not None and bool(self.panel.quantiles)
        return is_histogram and len(_MATCHERS.findall(classic_part(self.template))) == 1


def present_name(measure: Measure) -> str:
    """The name of the measure's figure, which is the one of the chart that is on the page."""
    return measure.panel.id if measure.on_page else f"card:{measure.id}"


def beside_name(measure: Measure) -> str:
    """The name of the figure that its card shows beside it."""
    return f"card:{measure.id}:beside"


def figure_queries(dashboard: Dashboard) -> tuple[PresentQuery, ...]:
    """What charts and cards show of now, each figure once; shares of a day are not among them."""
    found = {panel.id: _present_query(dashboard, panel, panel.id) for panel in dashboard.panels}
    for measure in dashboard.measures:
        query = present_query(dashboard, measure)
        found.setdefault(query.name, query)
        if measure.has_beside and measure.share is None:
            found[beside_name(measure)] = beside_query(measure)
    return tuple(found.values())


def present_query(dashboard: Dashboard, measure: Measure) -> PresentQuery:
    """The query for the measure's figure of now."""
    return _present_query(dashboard, measure.panel, present_name(measure))


def _present_query(dashboard: Dashboard, panel: Panel, name: str) -> PresentQuery:
    ended = dashboard.ended if panel.role in _FROM_ENDED else None
    return PresentQuery(name, panel, panel.now, ended)


def beside_query(measure: Measure) -> PresentQuery:
    """The query for what its card shows beside it."""
    return PresentQuery(beside_name(measure), measure.panel, measure.now)


def flow_queries(dashboard: Dashboard) -> tuple[PresentQuery, ...]:
    """What goes through the queue."""
    flow = dashboard.flow
    if flow is None:
        return ()
    return (PresentQuery(COMPLETION, None, flow.completion),)
