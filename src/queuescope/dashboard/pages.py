"""The pages. Each is a function that Streamlit's navigation calls."""

from __future__ import annotations

from queuescope.dashboard.live_chart import live_trends


def show_trends() -> None:
    """Performance Trends: the charts, their controls and their state."""
    live_trends(key="trends")
