"""The dashboard's first page: what is going on, and how it got there."""

from __future__ import annotations

from queuescope.dashboard.overview.live_chart import live_trends


def show_trends() -> None:
    """Performance Trends: the charts, their controls and their state."""
    live_trends(key="trends")
