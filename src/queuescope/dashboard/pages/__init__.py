"""The pages. Each is a function that Streamlit's navigation calls."""

from queuescope.dashboard.pages.trends import show_trends

__all__ = ["show_trends"]
