"""A page of two fragments, each of which counts its drawings. When the first has ended and its
drawing is not sent yet, those fragments are requested that the address names.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import streamlit as st
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.runtime import get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from queuescope.dashboard.script_runs import send_each_before_the_next

_LONGEST_SECONDS = 60.0


@st.fragment
def first() -> None:
    wanted = st.query_params.get_all("then")
    if wanted:
        _request_after_this_run(wanted)
    _draw("first")


@st.fragment
def second() -> None:
    _draw("second")


def _draw(name: str) -> None:
    st.session_state[name] = st.session_state.get(name, 0) + 1
    st.text(f"{name} {st.session_state[name]}")


def _request_after_this_run(fragments: list[str]) -> None:
    context = get_script_run_ctx()
    assert context is not None
    session = get_instance().get_app_session(context.session_id)
    assert session is not None
    run = threading.current_thread()

    def request() -> None:
        # Until this returns, the loop sends nothing.
        run.join(_LONGEST_SECONDS)
        for fragment in fragments:
            message = BackMsg()
            message.rerun_script.fragment_id = fragment
            session.handle_backmsg(message)

    session._event_loop.call_soon_threadsafe(request)


def __getattr__(name: str) -> object:
    # `uvicorn …:app` asks for it by name.
    if name == "app":
        if os.environ["SENDS_EACH_BEFORE_THE_NEXT"] == "yes":
            send_each_before_the_next()
        return st.App(Path(__file__))
    raise AttributeError(name)


if __name__ == "__main__":
    first()
    second()
