"""The visitor for whom the running Streamlit script draws the page."""

from __future__ import annotations

import time

from queuescope.dashboard.auth.handshake import session_handshake
from queuescope.dashboard.auth.identity import Unidentified, access_of, identify
from queuescope.dashboard.services import services
from queuescope.operations.access import Actor, Role


def visitor() -> Actor | Unidentified:
    """The present visitor of this session, for pages, fragments and callbacks.

    Call it at each use and do not keep the result: a login ends, and a session outlives it. Without
    a session, as in a thread, no header or login can identify a visitor.
    """
    settings = services().settings
    handshake = session_handshake(settings)
    return identify(
        settings,
        headers=handshake.headers,
        peer=handshake.peer,
        claims=handshake.claims,
        now=time.time(),
    )


def role_of(found: Actor | Unidentified) -> Role:
    """The role of ``found`` by the settings; only for display, never instead of the check that
    operations make themselves.
    """
    if isinstance(found, Unidentified):
        return Role.NONE
    return access_of(services().settings).role_of(found)
