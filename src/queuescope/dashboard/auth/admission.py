"""Admission: no data is sent to visitors who may not view it.

Checked for each request, and on a websocket for each frame that the page sends, so that a page does
not outlive the login that opened it. What a visitor may do is checked again where it is done, in
``queuescope.operations.control``.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode

import orjson
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from queuescope.dashboard.auth.handshake import scope_handshake
from queuescope.dashboard.auth.identity import IdentityProblem, Unidentified, access_of, identify
from queuescope.dashboard.auth.login import CALLBACK, ended, read_login
from queuescope.dashboard.page_requests import asks_for_page, page_response
from queuescope.operations.access import Role
from queuescope.operator_key import COOKIE_SECONDS, PARAMETER, OperatorKey, operator_key
from queuescope.settings import Settings

NOT_A_VIEWER = "You may not view this dashboard; an administrator can add you to its viewers."

_LOGOUT = "/auth/logout"
# Paths without data about jobs: probes, the dashboard's own metrics, scripts and styles.
_PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/favicon.png", "/_stcore/health"})
# Further paths that a page needs for a login.
_LOGIN_PATHS = frozenset({"/_stcore/host-config", "/auth/login", _LOGOUT, CALLBACK})
_PUBLIC_PREFIXES = ("/static/", "/queuescope/static/")
_POLICY_VIOLATION = 1008
MUST_LOG_IN = frozenset({IdentityProblem.NOT_LOGGED_IN, IdentityProblem.EXPIRED})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a visitor is not admitted, as a sentence; ``can_log_in`` says whether a login
    may help.
    """

    sentence: str
    can_log_in: bool

    @property
    def status(self) -> int:
        return 401 if self.can_log_in else 403


class AdmissionCheck:
    """Decides whether a connection may view the dashboard now. ``clock`` is in epoch seconds."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._access = access_of(settings)
        self._clock = clock

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why the visitor at the other end may not view the dashboard; ``None`` if they may."""
        handshake = scope_handshake(scope, self._settings)
        found = identify(
            self._settings,
            headers=handshake.headers,
            peer=handshake.peer,
            claims=handshake.claims,
            now=self._clock(),
        )
        if isinstance(found, Unidentified):
            return Refusal(found.problem, found.problem in MUST_LOG_IN)
        if not self._access.role_of(found).covers(Role.VIEWER):
            return Refusal(NOT_A_VIEWER, can_log_in=False)
        return None

    def log_out(self, scope: Scope) -> None:
        """End the login of this connection, also for copies of its cookie."""
        ended.add(read_login(HTTPConnection(scope)), self._clock())


class Admission:
    """ASGI middleware in front of everything that holds data.

    ``login_page`` makes the page for visitors who may log in: Streamlit draws the login in it.
    ``knows_peer`` says that the server reports the true address of its peer. If the server may take
    it from a header, as uvicorn's own command does for local proxies, an address that is also in
    such a header is not trusted.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        login_page: Callable[[], bytes],
        *,
        knows_peer: bool,
    ) -> None:
        self._app = app
        self._check = AdmissionCheck(settings)
        self._login_page = login_page
        # Without a trusted proxy, a forged address gains nothing.
        self._doubts_peer = settings.authentication == "proxy" and not knows_peer
        self._has_login = settings.authentication == "oidc"
        self._key = operator_key(settings.data_dir) if settings.authentication == "none" else None
        self._base_path = settings.base_path
        self._public_paths = _PUBLIC_PATHS | _LOGIN_PATHS if self._has_login else _PUBLIC_PATHS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if self._doubts_peer and _may_be_made_up(scope):
            scope["client"] = None
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        path = str(scope["path"])
        if path == _LOGOUT and self._has_login:
            self._check.log_out(scope)
        if path in self._public_paths or path.startswith(_PUBLIC_PREFIXES):
            await self._app(scope, receive, send)
            return
        refusal = self._check.refusal(scope)
        if refusal is None:
            taken = None if self._key is None else _key_taken(scope, self._key, self._base_path)
            await (self._app if taken is None else taken)(scope, receive, send)
            return
        await self._refuse(scope, refusal)(scope, receive, send)

    def _refuse(self, scope: Scope, refusal: Refusal) -> Response:
        if not asks_for_page(scope):
            body = {"error": refusal.sentence, "refused": "login" if refusal.can_log_in else "role"}
            return Response(
                orjson.dumps(body),
                refusal.status,
                {"Cache-Control": "no-store"},
                media_type="application/json",
            )
        if self._has_login:
            return page_response(self._login_page())
        return page_response(_REFUSED_PAGE % refusal.sentence.encode(), refusal.status)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._check.refusal(scope)
        if refusal is not None:
            if not self._has_login:
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
                return
            # A visitor who has to log in gets a new session: an existing one may hold data.
            _ask_for_new_session(scope)
            await self._app(scope, receive, send)
            return

        async def receive_from_viewer() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and self._check.refusal(scope):
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
                return {"type": "websocket.disconnect", "code": _POLICY_VIOLATION}
            return message

        await self._app(scope, receive_from_viewer, send)


def _key_taken(scope: Scope, key: OperatorKey, base_path: str) -> Response | None:
    """A redirect to the same page without the operator's key, if the request has it: the browser
    keeps the key as a cookie, so it stays out of addresses and the history.

    The cookie is limited to ``base_path``, so other applications on the same host do not get it.
    """
    if not asks_for_page(scope):
        return None
    parameters = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    said = [value for name, value in parameters if name == PARAMETER]
    if not said:
        return None
    rest = urlencode([(name, value) for name, value in parameters if name != PARAMETER])
    # Relative, so that no path can lead to another server.
    page = f"./{quote(str(scope['path']).rpartition('/')[2])}"
    response = Response(
        status_code=303,
        headers={"Location": f"{page}?{rest}" if rest else page, "Cache-Control": "no-store"},
    )
    if any(key.is_same(one) for one in said):
        name, value = key.cookie
        response.set_cookie(
            name,
            value,
            max_age=COOKIE_SECONDS,
            path=base_path or "/",
            httponly=True,
            samesite="strict",
        )
    return response


# Self-contained, since its reader may not load anything of the page.
_REFUSED_PAGE = b"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Queuescope</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center;
  color: light-dark(#17212b, #e8edf2); background: light-dark(#ffffff, #10161c); }
main { max-width: 44ch; padding: 24px; }
h1 { font-size: 20px; font-weight: 650; margin: 0 0 4px; }
p { margin: 0; color: light-dark(#53616e, #a3b0bc); }
</style></head>
<body><main><h1>Queuescope</h1><p>%b</p></main></body></html>
"""


def _may_be_made_up(scope: Scope) -> bool:
    """Whether the peer's address is also in a header, from which the server may have taken it."""
    client = scope.get("client")
    if client is None:
        return False
    for value in Headers(scope=scope).getlist("x-forwarded-for"):
        for named in value.split(","):
            if _plain_address(named) == _plain_address(client[0]):
                return True
    return False


def _plain_address(text: str) -> str:
    """The address without port and brackets, in canonical form."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def _ask_for_new_session(scope: Scope) -> None:
    """Remove the session id from the subprotocols, where Streamlit's page puts it third."""
    wanted = b"sec-websocket-protocol"
    offered = b",".join(value for name, value in scope["headers"] if name == wanted).split(b",")
    others = [(name, value) for name, value in scope["headers"] if name != wanted]
    scope["headers"] = [*others, (wanted, b",".join(offered[:2]))]
