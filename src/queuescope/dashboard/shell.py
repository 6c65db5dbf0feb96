"""Streamlit's index page with ours in it, so that the charts are drawn while Streamlit boots.

The page's skeleton, style, script and, where one is at hand, its snapshot stand in the document
itself, ahead of Streamlit's module script. On the dashboard's own address they are drawn at once
in a holder over Streamlit's root; the component adopts the drawn nodes when it mounts.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from string import Template

from queuescope.dashboard.assets import STATIC, Assets
from queuescope.panels import Dashboard

_EARLY = '<div id="queuescope-early"></div>'


class Shell:
    """Streamlit's ``index.html``, split where the parts of Queuescope go in."""

    def __init__(
        self,
        index: Path,
        assets: Assets,
        dashboard: Dashboard,
        *,
        default_range: str,
        refresh_seconds: int,
    ) -> None:
        page = STATIC / "page"
        chart = Template((page / "chart.html").read_text("utf-8"))
        defaults = {
            "range": default_range,
            "refresh": refresh_seconds,
            "breakdowns": list(dashboard.breakdowns),
            "base": "",
        }
        options = "".join(
            f'<option value="{name}">{name}</option>' for name in ("none", *dashboard.breakdowns)
        )
        section = Template((page / "shell.html").read_text("utf-8")).substitute(
            defaults=escape(json.dumps(defaults)),
            breakdowns=options,
            charts="".join(
                chart.substitute(id=panel.id, title=escape(panel.title))
                for panel in dashboard.panels
            ),
        )
        template = f'<template id="queuescope-shell">{section}</template>'
        html = index.read_text("utf-8").replace("<title>Streamlit</title>", _title(assets))
        # The browser opens few connections to one host: what draws the charts goes first.
        html = html.replace('rel="modulepreload"', 'rel="modulepreload" fetchpriority="low"')
        head, self._tail = html.split("</head>", 1)
        charset = '<meta charset="UTF-8" />'
        first = (
            f'{charset}<link rel="preload" as="script" href="{assets.plotly}" fetchpriority="high">'
            f'<link rel="preload" as="script" href="{assets.script}" fetchpriority="high">'
        )
        self._head = f"{head.replace(charset, first)}<style>{assets.style}</style></head>"
        body, self._tail = self._tail.split("<body>", 1)
        self._head += f"{body}<body>{template}"
        self._scripts = (
            f'<script src="{assets.plotly}"></script><script src="{assets.script}"></script>'
        )

    def document(self, *, early: bool, snapshot: bytes | None) -> bytes:
        """The whole page; ``snapshot`` (JSON) is drawn without asking for it."""
        parts = [self._head]
        if early:
            parts.append(_EARLY)
            if snapshot is not None:
                # `<` cannot end the element early; JSON reads the escape as the same character.
                safe = snapshot.decode("utf-8").replace("<", "\\u003c")
                parts.append(
                    f'<script type="application/json" id="queuescope-snapshot">{safe}</script>'
                )
        parts += [self._scripts, self._tail]
        return "".join(parts).encode("utf-8")


def _title(assets: Assets) -> str:
    return f'<title>Queuescope</title><link rel="icon" type="image/svg+xml" href="{assets.icon}">'
