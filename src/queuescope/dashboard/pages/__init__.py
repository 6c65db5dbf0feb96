"""The pages. Each is a function that Streamlit's navigation calls."""

from queuescope.dashboard.pages.entrance import show_entrance, show_visitor
from queuescope.dashboard.pages.jobs import show_jobs
from queuescope.dashboard.pages.operations import show_operations
from queuescope.dashboard.pages.trends import show_trends
from queuescope.dashboard.pages.workers import show_workers

__all__ = [
    "show_entrance",
    "show_jobs",
    "show_operations",
    "show_trends",
    "show_visitor",
    "show_workers",
]
