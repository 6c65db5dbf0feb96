"""What a connection brings with it, as the server sees it: headers, peer and login.

Streamlit has no public way to the peer's address (it leaves out this machine's) nor to every
header as it was sent. All that is asked of its inner parts for that is asked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx


@dataclass(frozen=True, slots=True)
class Handshake:
    """Each header with its duplicates, the address at the other end of the connection, and the
    claims of Streamlit's login. What is not known is empty, or ``None``.
    """

    headers: tuple[tuple[str, str], ...] = ()
    peer: str | None = None
    claims: Mapping[str, object] = field(default_factory=dict)


def session_handshake() -> Handshake:
    """That of the websocket which the running script serves; an empty one outside a script or
    when its page has gone.
    """
    context = get_script_run_ctx(suppress_warning=True)
    if context is None or not runtime.exists():
        return Handshake()
    client = runtime.get_instance().get_client(context.session_id)
    connection = None if client is None else client.client_context
    if connection is None:
        return Handshake()
    return Handshake(tuple(connection.headers), connection.remote_ip, st.user.to_dict())
