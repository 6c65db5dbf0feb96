"""What to show: dashboards as validated data."""

from queuescope.panels.histogram import bucket_quantiles
from queuescope.panels.loader import load_dashboard, parse_dashboard
from queuescope.panels.model import (
    RANKED_QUANTILE,
    Dashboard,
    EndedJobs,
    Flow,
    Kind,
    Measure,
    Panel,
    PanelRole,
    PerWorker,
    Share,
    Threshold,
)
from queuescope.panels.replicas import count_once
from queuescope.panels.template import Resolution, render

__all__ = [
    "RANKED_QUANTILE",
    "Dashboard",
    "EndedJobs",
    "Flow",
    "Kind",
    "Measure",
    "Panel",
    "PanelRole",
    "PerWorker",
    "Resolution",
    "Share",
    "Threshold",
    "bucket_quantiles",
    "count_once",
    "load_dashboard",
    "parse_dashboard",
    "render",
]
