"""Streamlit's index page with ours in it, so that the charts are drawn while Streamlit starts.

The page's skeleton, style, script and, if there is one, its snapshot are in the document itself,
before Streamlit's module script. On the overview's address they are drawn at once in a holder over
Streamlit's root; the component adopts the drawn nodes when it mounts.

There Streamlit's own scripts wait in a template until the charts are drawn: sixty files that would
otherwise compete for bandwidth and CPU with the one that draws.
"""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from string import Template

from queuescope.dashboard.assets import STATIC, Assets
from queuescope.figures import common_layout
from queuescope.panels import Dashboard, load_dashboard

_EARLY = '<div id="queuescope-early"></div>'
_STREAMLIT = re.compile(
    r'<script type="module"[^>]*></script>|<link\s[^>]*rel="(?:module)?preload"[^>]*>'
)
_OWN_PRESET = "ai-agents"
_LATEST_START_MS = 2_000
"""When Streamlit starts at the latest, whether or not the charts are drawn."""
_START = Template("""
  window.queuescopeStartStreamlit = () => {
    const waiting = document.getElementById("queuescope-streamlit");
    if (!waiting) return;
    waiting.remove();
    document.head.append(waiting.content);
  };
  setTimeout(window.queuescopeStartStreamlit, $latest);
""")


class Shell:
    """Streamlit's ``index.html``, split where the parts of Queuescope are inserted."""

    def __init__(
        self,
        index: Path,
        assets: Assets,
        dashboard: Dashboard,
        *,
        default_range: str,
        refresh_seconds: int,
        base_path: str = "",
        has_jobs: bool = False,
    ) -> None:
        """``has_jobs`` says whether there is a job history to show failures from."""
        page = STATIC / "overview"
        chart = Template((STATIC / "charts" / "chart.html").read_text("utf-8"))
        charts = {
            panel.id: chart.substitute(id=panel.id, title=escape(panel.title))
            for panel in dashboard.panels
        }
        card = Template((page / "card.html").read_text("utf-8"))
        overview = Template((page / "overview.html").read_text("utf-8")).substitute(
            cards="".join(
                card.substitute(
                    id=m.id, title=escape(m.title), note=escape("" if m.has_beside else m.note)
                )
                for m in dashboard.measures
            )
        )
        defaults = {
            "range": default_range,
            "refresh": refresh_seconds,
            "breakdowns": list(dashboard.breakdowns),
            "base": base_path,
            "layout": common_layout(),
        }
        options = "".join(
            f'<option value="{name}">{name}</option>' for name in ("none", *dashboard.breakdowns)
        )
        section = Template((page / "page.html").read_text("utf-8")).substitute(
            defaults=escape(json.dumps(defaults)),
            breakdowns=options,
            overview=overview if dashboard.measures else "",
            instrument=(page / "instrument.html").read_text("utf-8")
            if _reads_worker_metrics(dashboard)
            else "",
            failures=(page / "failures.html").read_text("utf-8") if has_jobs else "",
            charts="".join(
                f'<div class="qs-row">{"".join(charts[panel] for panel in row)}</div>'
                for row in dashboard.rows
            ),
        )
        template = f'<template id="queuescope-shell">{section}</template>'
        html = index.read_text("utf-8").replace("<title>Streamlit</title>", _title(assets))
        head, rest = html.split("</head>", 1)
        waiting = "".join(_STREAMLIT.findall(head))
        charset = '<meta charset="UTF-8" />'
        first = (
            f'{charset}<link rel="preload" as="script" href="{assets.plotly}" fetchpriority="high">'
            f'<link rel="preload" as="script" href="{assets.script}" fetchpriority="high">'
        )
        end = f"<style>{assets.style}</style></head>"
        between, self._tail = rest.split("<body>", 1)
        end += f"{between}<body>{template}"
        # On other pages Streamlit draws first; the shared files still have priority.
        low = head.replace('rel="modulepreload"', 'rel="modulepreload" fetchpriority="low"')
        self._head = low.replace(charset, first) + end
        self._early_head = (
            f"{_STREAMLIT.sub('', head).replace(charset, first)}{end}"
            f'<template id="queuescope-streamlit">{waiting}</template>'
            f"<script>{_START.substitute(latest=_LATEST_START_MS)}</script>{_EARLY}"
        )
        self._scripts = (
            f'<script src="{assets.plotly}"></script><script src="{assets.script}"></script>'
        )

    def document(
        self, *, early: bool, snapshot: bytes | None, address: bytes | None = None
    ) -> bytes:
        """The whole page. ``snapshot`` (JSON) is drawn without a request; ``address`` (JSON) is the
        parsed address of the page.
        """
        parts = [self._early_head if early else self._head]
        for name, content in (("address", address), ("snapshot", snapshot)):
            if early and content is not None:
                # `<` cannot end the element early; JSON reads the escape as the same character.
                safe = content.decode("utf-8").replace("<", "\\u003c")
                parts.append(
                    f'<script type="application/json" id="queuescope-{name}">{safe}</script>'
                )
        parts += [self._scripts, self._tail]
        return "".join(parts).encode("utf-8")


def _reads_worker_metrics(dashboard: Dashboard) -> bool:
    """Whether a chart reads a metric of instrumented workers, which are those of the preset."""
    metrics = {metric for panel in load_dashboard(_OWN_PRESET).panels for metric in panel.metrics}
    return any(metric in metrics for panel in dashboard.panels for metric in panel.metrics)


def _title(assets: Assets) -> str:
    return f'<title>Queuescope</title><link rel="icon" type="image/svg+xml" href="{assets.icon}">'
