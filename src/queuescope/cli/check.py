"""``queuescope check``: whether Prometheus has the data for the panels."""

# ruff: noqa: PLC0415 - imported when the command runs, so that --help answers at once

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from queuescope.cli.options import override, prometheus_option, say


@click.command()
@prometheus_option
def check(prometheus_url: str | None) -> None:
    """Check whether Prometheus has the data for the panels.

    Exit status: 0 each chart has its data, 1 something is missing or counted twice, 2 Prometheus
    cannot be queried.
    """
    override(prometheus_url=prometheus_url)
    from queuescope.settings import load_settings

    settings = load_settings()
    sys.exit(0 if asyncio.run(_check(settings)) else 1)


async def _check(settings: Any) -> bool:
    from queuescope.connect import connect
    from queuescope.panels import count_once, load_dashboard
    from queuescope.prometheus.matchers import parse_matchers
    from queuescope.prometheus.promql import render_matchers
    from queuescope.view.source.check import SourceCheck

    dashboard = count_once(load_dashboard(settings.preset), settings.replica_labels)
    matchers = render_matchers(parse_matchers(settings.selector))
    async with connect(settings) as client:
        check = SourceCheck(client, dashboard, matchers)
        async for line in check.lines():
            say(line)
    return check.is_good
