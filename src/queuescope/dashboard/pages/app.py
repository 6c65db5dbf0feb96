"""The Streamlit script: the pages and their order."""

from __future__ import annotations

import streamlit as st

from queuescope.dashboard.assets import STATIC
from queuescope.dashboard.pages import show_trends

st.set_page_config(page_title="Queuescope", layout="wide")
st.logo(str(STATIC / "wordmark.svg"), size="medium")
st.navigation([st.Page(show_trends, title="Dashboard", default=True)], position="top").run()
