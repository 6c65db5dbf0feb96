"""A page that says who is seen: by the script, by a callback and by a fragment."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from queuescope.dashboard.services import open_services
from queuescope.dashboard.ui.visitor import role_of, visitor
from queuescope.settings import load_settings

SCRIPT = Path(__file__)


def said() -> str:
    found = visitor()
    return f"{found!r} as {role_of(found)}"


def show() -> None:
    st.text(f"script: {said()}")
    st.button("Ask", on_click=lambda: st.session_state.update(asked=said()))
    st.text(f"callback: {st.session_state.get('asked')}")
    st.fragment(lambda: st.text(f"fragment: {said()}"))()


def __getattr__(name: str) -> object:
    # `uvicorn …:app` asks for it by name, with the settings in its environment.
    if name == "app":
        open_services(load_settings())
        return st.App(SCRIPT)
    raise AttributeError(name)


if __name__ == "__main__":
    show()
