"""The page as most people would write it: pandas, five range queries and ``st.plotly_chart``."""

from __future__ import annotations

import os
import time

import pandas as pd
import plotly.graph_objects as go
import requests
import streamlit as st

PROMETHEUS_URL = os.environ["PROMETHEUS_URL"]
REFRESH_SECONDS = float(os.environ.get("REFRESH_SECONDS", "60"))
POINTS = 1000
RANGES = {"1h": 3_600, "6h": 6 * 3_600, "24h": 24 * 3_600, "7d": 7 * 86_400}
BUCKETS = "sum by (le) (rate(ai_agents_enhancement_latency_seconds_bucket[5m]))"


def query_range(query: str, span_seconds: int) -> pd.DataFrame:
    end = time.time()
    response = requests.get(
        f"{PROMETHEUS_URL}/api/v1/query_range",
        params={
            "query": query,
            "start": str(end - span_seconds),
            "end": str(end),
            "step": str(span_seconds // POINTS),
        },
        timeout=5,
    )
    response.raise_for_status()
    values = response.json()["data"]["result"][0]["values"]
    frame = pd.DataFrame(values, columns=["time", "value"])
    frame["time"] = pd.to_datetime(frame["time"], unit="s")
    frame["value"] = frame["value"].astype(float)
    return frame


def chart(title: str, unit: str, curves: dict[str, pd.DataFrame]) -> go.Figure:
    figure = go.Figure()
    for name, frame in curves.items():
        figure.add_trace(go.Scatter(x=frame["time"], y=frame["value"], mode="lines", name=name))
    figure.update_layout(
        title=title, yaxis_title=unit, hovermode="x unified", height=320, uirevision="constant"
    )
    return figure


st.set_page_config(page_title="Performance Trends", layout="wide")
st.title("Performance Trends")
chosen = st.radio("Range", list(RANGES), index=2, horizontal=True)
span = RANGES[chosen]


@st.fragment(run_every=REFRESH_SECONDS)
def trends() -> None:
    depth = query_range("sum(ai_agents_queue_depth)", span)
    success = query_range("avg(ai_agents_enhancement_success_rate)", span)
    p50 = query_range(f"histogram_quantile(0.5, {BUCKETS}) * 1000", span)
    p95 = query_range(f"histogram_quantile(0.95, {BUCKETS}) * 1000", span)
    p99 = query_range(f"histogram_quantile(0.99, {BUCKETS}) * 1000", span)
    left, middle, right = st.columns(3)
    with left:
        st.plotly_chart(chart("Queue depth", "jobs", {"Queue depth": depth}), key="depth")
    with middle:
        st.plotly_chart(chart("Success rate", "%", {"Success rate": success}), key="success")
    with right:
        st.plotly_chart(chart("Latency", "ms", {"P50": p50, "P95": p95, "P99": p99}), key="latency")
    st.caption(f"Updated {time.strftime('%H:%M:%S')}")


trends()
