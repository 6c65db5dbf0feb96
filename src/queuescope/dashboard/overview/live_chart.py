"""The Streamlit component that holds the live page.

It only takes in what ``static/boot.js`` has built and drawn; the page asks for its data itself, so
that a refresh costs the server one read from memory and no run of the script.
"""

from __future__ import annotations

import streamlit as st

_component = st.components.v2.component(
    "queuescope_trends",
    html="<div class='qs-slot'></div>",
    js="""
    export default function ({ parentElement }) {
      return window.queuescope.adopt(parentElement.querySelector(".qs-slot"));
    }
    """,
    isolate_styles=False,
)


def live_trends(key: str) -> None:
    """Place the live page here."""
    _component(key=key)
