"""The dashboard's first page: the present state and its history.

Streamlit only mounts what ``static/boot.js`` has built and drawn. The page requests its data
itself, so that a refresh costs the server one read from memory and no run of the script.
"""

from __future__ import annotations

import streamlit as st

_component = st.components.v2.component(
    "queuescope_overview",
    html="<div class='qs-slot'></div>",
    js="""
    export default function ({ parentElement }) {
      return window.queuescope.adopt(parentElement.querySelector(".qs-slot"));
    }
    """,
    isolate_styles=False,
)


def show_overview() -> None:
    """Verdict, cards and charts, their controls and their state."""
    _component(key="overview")
