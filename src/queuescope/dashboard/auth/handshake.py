"""The handshake of a connection: its headers, peer and login.

Streamlit has no public function for the peer's address (it omits that of this machine), nor for all
headers as they were sent. All use of its private parts for that is in this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import streamlit as st
from starlette.requests import HTTPConnection
from starlette.types import Scope
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from queuescope.dashboard.auth.login import Login, read_login
from queuescope.settings import Settings


@dataclass(frozen=True, slots=True)
class Handshake:
    """All headers including duplicates, the address at the other end of the connection, and the
    claims of Streamlit's login. Unknown parts are empty or ``None``.
    """

    headers: tuple[tuple[str, str], ...] = ()
    peer: str | None = None
    claims: Mapping[str, object] = field(default_factory=dict)


def scope_handshake(scope: Scope, settings: Settings) -> Handshake:
    """The handshake of an ASGI request or websocket."""
    connection = HTTPConnection(scope)
    peer = None if connection.client is None else connection.client.host
    login = read_login(connection) if settings.authentication == "oidc" else Login()
    return Handshake(tuple(connection.headers.items()), peer, login.claims)


def session_handshake(settings: Settings) -> Handshake:
    """The handshake of the websocket that the running script serves; an empty one outside a script,
    or when the page is gone.
    """
    context = get_script_run_ctx(suppress_warning=True)
    if context is None or not runtime.exists():
        return Handshake()
    client = runtime.get_instance().get_client(context.session_id)
    connection = None if client is None else client.client_context
    if connection is None:
        return Handshake()
    headers = tuple(connection.headers)
    found = scope_handshake(_scope(headers, connection.remote_ip), settings)
    # Streamlit accepts a cookie only with its anti-forgery token, and drops it when the session
    # logs out; it does not know about a login that was ended elsewhere.
    agreed = st.user.to_dict() if found.claims else {}
    return Handshake(headers, found.peer, agreed)


def _scope(headers: Iterable[tuple[str, str]], peer: str | None) -> Scope:
    return {
        "type": "websocket",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": None if peer is None else (peer, 0),
    }
