"""Streamlit's login: its setup, and the content of its cookie.

Streamlit reads its signed cookie only for the websocket; Queuescope's own routes must read the same
cookie. The functions for that are private: all use of them is in this module, and
``tests/dashboard/auth/test_login.py`` fails when they change.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from streamlit import auth_util
from streamlit.web.server.starlette import starlette_websocket
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from queuescope.errors import ConfigurationError
from queuescope.words import to_install

CALLBACK = "/oauth2callback"
UNNAMED = "default"
"""Streamlit's name for the provider that is configured in ``[auth]`` itself."""

_SHORTEST_SECRET = 32
_NEEDED = ("client_id", "client_secret", "server_metadata_url")
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_PLACE = "[auth] in .streamlit/secrets.toml"


@dataclass(frozen=True, slots=True)
class Login:
    """The claims in a cookie, and a key that identifies this login; both are empty
    without a login.
    """

    claims: Mapping[str, object] = field(default_factory=dict)
    key: str = ""


def check_login_setup(base_path: str = "") -> None:
    """``base_path`` is the path at which a proxy shows the dashboard.

    Raises ``ConfigurationError`` if no one could log in, or anyone could forge a login.
    """
    if find_spec("authlib") is None or not auth_util.is_authlib_installed():
        raise ConfigurationError(
            f"authentication is “oidc”, and Authlib is not installed; {to_install('auth')}"
        )
    section = auth_util.get_secrets_auth_section()
    if not section:
        raise ConfigurationError(
            f"authentication is “oidc”, and {_PLACE} is missing or cannot be read"
        )
    if len(str(section.get("cookie_secret", ""))) < _SHORTEST_SECRET:
        # Anyone who guesses it can sign logins.
        raise ConfigurationError(
            f"{_PLACE}: cookie_secret must have at least {_SHORTEST_SECRET} random characters"
        )
    address = urlsplit(auth_util.get_redirect_uri(section) or "")
    # Browsers normalise addresses like this, and the comparison is exact.
    is_plain = address.netloc == address.netloc.lower() and not address.netloc.endswith(
        {"https": ":443", "http": ":80"}.get(address.scheme, ":")
    )
    callback = f"{base_path}{CALLBACK}"
    if address.path != callback or not address.hostname or not is_plain:
        raise ConfigurationError(
            f"{_PLACE}: redirect_uri must be the dashboard’s own address with {callback}, "
            "in lower case and without a usual port, such as "
            f"https://queuescope.example.com{callback}"
        )
    if address.scheme != "https" and address.hostname not in _LOCAL:
        raise ConfigurationError(f"{_PLACE}: redirect_uri must begin with https://")
    names = providers()
    for name in names:
        found = section if name == UNNAMED else section[name]
        missing = [key for key in _NEEDED if not found.get(key)]
        if missing:
            place = _PLACE if name == UNNAMED else _PLACE.replace("auth", f"auth.{name}")
            raise ConfigurationError(f"{place}: {', '.join(missing)} must be set")
    if not names:
        raise ConfigurationError(f"{_PLACE} names no provider: client_id must be set")


def providers() -> list[str]:
    """The provider names that ``st.login`` accepts."""
    section = auth_util.get_secrets_auth_section()
    unnamed = [UNNAMED] if any(key in section for key in _NEEDED) else []
    return unnamed + [
        name
        for name, value in section.items()
        if isinstance(value, Mapping) and any(key in value for key in _NEEDED)
    ]


def own_origin() -> str:
    """Scheme and host at which visitors log in; empty if no login is set up."""
    return auth_util.get_origin_from_redirect_uri() or ""


def own_host() -> str:
    """The host name at which visitors log in, without its port."""
    return urlsplit(own_origin()).hostname or ""


def read_login(connection: HTTPConnection) -> Login:
    """The login in a request's cookie, if it is signed, was made for this origin, is sent from this
    origin, and has not been ended.
    """
    origin = own_origin()
    if not origin or connection.headers.getlist("host") != [urlsplit(origin).netloc]:
        return Login()
    if connection.headers.getlist("origin") not in ([], [origin]):
        return Login()
    cookie = starlette_websocket._get_signed_cookie_with_chunks(  # noqa: SLF001 - see above
        connection.cookies, USER_COOKIE_NAME
    )
    if not cookie:
        return Login()
    key = hashlib.sha256(cookie).hexdigest()
    if ended.has(key):
        return Login()
    claims = starlette_websocket._parse_decoded_user_cookie(cookie, origin)  # noqa: SLF001
    return Login(claims, key) if claims else Login()


class EndedLogins:
    """The logins that were ended here: copies of their cookies may still exist elsewhere, with a
    valid signature.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, login: Login, now: float) -> None:
        """End this login; ``now`` is in epoch seconds."""
        until = login.claims.get("exp")
        if not login.key or not isinstance(until, int | float):
            return
        with self._lock:
            # Expired logins are refused anyway, and need not be remembered.
            self._until = {key: end for key, end in self._until.items() if end > now}
            self._until[login.key] = float(until)

    def has(self, key: str) -> bool:
        return key in self._until


ended = EndedLogins()
"""One for the process, since nothing can be passed to Streamlit's scripts."""
