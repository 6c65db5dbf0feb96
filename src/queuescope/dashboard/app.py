"""The Streamlit script: admission, and the pages in their order."""

from __future__ import annotations

import streamlit as st

from queuescope.dashboard.assets import STATIC
from queuescope.dashboard.auth.identity import Unidentified
from queuescope.dashboard.jobs.page import show_jobs
from queuescope.dashboard.operations.page import show_operations
from queuescope.dashboard.overview.page import show_overview
from queuescope.dashboard.ui.login_page import show_login_page, show_visitor
from queuescope.dashboard.ui.operation_dialog import show_pending
from queuescope.dashboard.ui.visitor import role_of, visitor
from queuescope.dashboard.workers.page import show_workers
from queuescope.operations.access import Role

st.set_page_config(page_title="Queuescope", layout="wide")
st.logo(str(STATIC / "wordmark.svg"), size="medium")
found = visitor()
may_look = role_of(found).covers(Role.VIEWER)
page = st.navigation(
    [
        st.Page(show_overview, title="Dashboard", default=True),
        st.Page(show_jobs, title="Jobs", url_path="jobs"),
        st.Page(show_workers, title="Workers", url_path="workers"),
        st.Page(show_operations, title="Operations", url_path="operations"),
    ],
    # The page keeps its address, so that Streamlit does not report a page that does not exist.
    position="top" if may_look else "hidden",
)
if isinstance(found, Unidentified) or not may_look:
    show_login_page(found)
else:
    show_visitor(found)
    show_pending()
    page.run()
