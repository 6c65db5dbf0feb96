"""Who looks at the page that the running Streamlit script draws."""

from __future__ import annotations

import time

from queuescope.dashboard.auth.handshake import session_handshake
from queuescope.dashboard.auth.identity import Unidentified, access_of, identify
from queuescope.dashboard.services import services
from queuescope.operations.access import Actor, Role


def visitor() -> Actor | Unidentified:
    """The visitor of this session as of now, for pages, fragments and callbacks.

    Ask at each use and keep nothing: a login ends, and a session outlives it. Without a session,
    as in a thread of one's own, there is nobody whom a header or a login could name.
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
    """What ``found`` may do by the settings; to be shown, never instead of the check that
    operations make themselves.
    """
    if isinstance(found, Unidentified):
        return Role.NOBODY
    return access_of(services().settings).role_of(found)
