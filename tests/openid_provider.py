"""A small OpenID provider on this machine: discovery, login page, tokens, keys and log-out."""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from tests.ports import free_port

CLIENT_ID = "queuescope"


@dataclass
class _Grant:
    user: str
    nonce: str
    challenge: str
    redirect_uri: str


@dataclass
class OpenIDProvider:
    """Each of ``users`` (name → claims) can log in by a click on the name.

    ``lifetime_seconds`` is how long a login is valid.
    """

    users: dict[str, Mapping[str, Any]]
    lifetime_seconds: float = 3600.0
    client_secret: str = field(default_factory=lambda: f"client-{secrets.token_hex(16)}")
    redirect_uris: set[str] = field(default_factory=set)
    issued: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._key = RSAKey.generate_key(2048, parameters={"kid": "one", "use": "sig"})
        self._grants: dict[str, _Grant] = {}
        app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/jwks", self._jwks),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/logout", self._logout),
            ]
        )
        config = uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="warning")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def configure(self, directory: Path, origin: str, cookie_secret: str) -> None:
        """Let the dashboard that runs in ``directory`` and is reached at ``origin`` log in here."""
        redirect_uri = f"{origin}/oauth2callback"
        self.redirect_uris.add(redirect_uri)
        file = directory / ".streamlit" / "secrets.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f'[auth]\nredirect_uri = "{redirect_uri}"\ncookie_secret = "{cookie_secret}"\n'
            f'client_id = "{CLIENT_ID}"\nclient_secret = "{self.client_secret}"\n'
            f'server_metadata_url = "{self.url}/.well-known/openid-configuration"\n',
            "utf-8",
        )

    async def _discovery(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
                "end_session_endpoint": f"{self.url}/logout",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
            }
        )

    async def _jwks(self, _request: Request) -> Response:
        return JSONResponse({"keys": [self._key.as_dict(private=False)]})

    async def _authorize(self, request: Request) -> Response:
        """The provider's own login page; a name that was clicked comes back as ``user``."""
        query = request.query_params
        if query["client_id"] != CLIENT_ID or query["redirect_uri"] not in self.redirect_uris:
            return Response("Who asks?", 400)
        user = query.get("user")
        if user is None:
            links = "".join(
                f'<p><a href="?{escape(urlencode([*query.items(), ("user", name)]))}">'
                f"{escape(name)}</a></p>"
                for name in self.users
            )
            return HTMLResponse(f"<!DOCTYPE html><title>Provider</title>{links}")
        code = secrets.token_urlsafe(16)
        self._grants[code] = _Grant(
            user, query.get("nonce", ""), query["code_challenge"], query["redirect_uri"]
        )
        answer = urlencode({"code": code, "state": query["state"]})
        return RedirectResponse(f"{query['redirect_uri']}?{answer}", 302)

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        grant = self._grants.pop(str(form["code"]), None)
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        authorization = request.headers.get("authorization", "").removeprefix("Basic ")
        expected = base64.b64encode(f"{CLIENT_ID}:{self.client_secret}".encode()).decode()
        if (
            grant is None
            or grant.challenge != challenge
            or grant.redirect_uri != form["redirect_uri"]
            or authorization != expected
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "sub": grant.user,
            "iat": now,
            "exp": int(now + self.lifetime_seconds),
            "nonce": grant.nonce,
            **self.users[grant.user],
        }
        access_token = f"access-{secrets.token_urlsafe(16)}"
        self.issued.append(access_token)
        return JSONResponse(
            {
                "access_token": access_token,
                "token_type": "Bearer",
                "expires_in": int(self.lifetime_seconds),
                "id_token": jwt.encode({"alg": "RS256", "kid": "one"}, claims, self._key),
            }
        )

    async def _logout(self, request: Request) -> Response:
        back = request.query_params["post_logout_redirect_uri"]
        return RedirectResponse(back, 302) if back in self.redirect_uris else Response("?", 400)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
