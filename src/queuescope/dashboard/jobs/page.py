"""The page of jobs: recent failures, and the history of each job."""

from __future__ import annotations

import streamlit as st

from queuescope.dashboard.services import services
from queuescope.dashboard.ui.widgets import element, notice, show

_TICK_SECONDS = 30.0


def show_jobs() -> None:
    """Recent failures, grouped, and the job history with its filters."""
    show(element("h1", "Jobs"))
    if services().jobs is None:
        show(notice(services().without_jobs))
        return
    from queuescope.dashboard.jobs.failures import show_failures  # noqa: PLC0415
    from queuescope.dashboard.jobs.history import show_history  # noqa: PLC0415

    st.fragment(show_failures, run_every=_TICK_SECONDS)()
    st.fragment(show_history)()
