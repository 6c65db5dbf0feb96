"""The credentials and headers of every request, and how they are kept secret."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus, urlsplit

import httpx2

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind

_TOKEN_FILE_BYTES = 65_536
_SHORTEST_SECRET = 4
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-encoding", "content-length"),
        *("content-type", "host", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)


_OWN_PARAMETERS = frozenset(
    {
        *("query", "time", "timeout", "start", "end", "step", "match[]", "state", "nocache"),
        *("limit", "lookback_delta"),
    }
)


class Credentials:
    """A user and password, a token, or a file with a token, extra headers, and extra parameters of
    the address.

    A token file is read again for each request, so that a renewed token is used at once. Raises
    ``ConfigurationError`` for values that contradict each other or cannot be sent.
    """

    def __init__(
        self,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        token_file: Path | None = None,
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        self._headers = dict(headers or {})
        self.parameters = tuple((parameters or {}).items())
        refuse_own_parameters(name for name, _ in self.parameters)
        _refuse_contradictions(username, password, token, token_file, self._headers)
        self._token_file = token_file
        self._username = username
        self._authorization: str | None = None
        self._tokens: tuple[str, ...] = ()
        extra = (*self._headers.values(), *(value for _, value in self.parameters))
        self._secrets = [value for value in extra if len(value) >= _SHORTEST_SECRET]
        if username is not None and password is not None:
            pair = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
            self._authorization = f"Basic {pair}"
            self._secrets += [pair, *filter(None, [password])]
        elif token is not None:
            self._use(_checked_token(token, "the Prometheus token"))
        elif token_file is not None:
            self._use(_token_in(token_file))

    def __repr__(self) -> str:
        return "Credentials(…)"

    def headers(self) -> dict[str, str]:
        """The headers of one request now. Raises ``SourceError`` if the token cannot be read."""
        if self._token_file is not None:
            try:
                self._use(_token_in(self._token_file))
            except ConfigurationError as exc:
                raise SourceError(
                    SourceErrorKind.AUTHENTICATION,
                    "The token for Prometheus cannot be read; its file must be checked",
                    detail=str(exc),
                ) from exc
        if self._authorization is None:
            return self._headers
        return {**self._headers, "Authorization": self._authorization}

    def fingerprint(self, in_address: Iterable[tuple[str, str]] = ()) -> str:
        """Differs between credentials that may see different data; empty without user, headers and
        parameters, of which ``in_address`` are those of the address itself.

        Headers and parameters may select a tenant, and tenants must not share cached data. Tokens
        and passwords are left out: they are renewed while the data stay the same.
        """
        parts = sorted((name.lower(), value) for name, value in self._headers.items())
        parts = [pair for pair in parts if pair[0] != "authorization"]
        if self._username is not None:
            parts.append(("user", self._username))
        parts += [(f"?{name}", value) for name, value in sorted((*in_address, *self.parameters))]
        if not parts:
            return ""
        return "#" + hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    def hide(self, text: str) -> str:
        """``text`` with every secret replaced, also if it is escaped or in another case."""
        for secret in (*self._tokens, *self._secrets):
            for form in _written_forms(secret):
                text = re.sub(re.escape(form), "***", text, flags=re.IGNORECASE)
        return text

    def _use(self, token: str) -> None:
        if token not in self._tokens[:1]:
            # A response that is under way may still contain the previous token.
            self._tokens = (token, *self._tokens[:1])
            self._authorization = f"Bearer {token}"


def tls_context(
    url: str, *, ca_file: Path | None, client_cert: Path | None, client_key: Path | None
) -> ssl.SSLContext:
    """A context that verifies with ``ca_file`` or the system's authorities, and may present a
    client certificate. The files are read once. Raises ``ConfigurationError`` that names the file.
    """
    if (client_cert is None) != (client_key is None):
        raise ConfigurationError(
            "a client certificate for Prometheus needs both prometheus_client_cert and "
            "prometheus_client_key; if one file contains both, set it for both"
        )
    if urlsplit(url).scheme != "https":
        if ca_file or client_cert:
            raise ConfigurationError(
                "a CA file or client certificate for Prometheus needs an https:// address"
            )
        # It is not used, and loading the system's authorities takes longer than a request.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file is None:
        context = httpx2.create_ssl_context(trust_env=False)
    else:
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigurationError(f"the CA file {ca_file} {_not_read(exc)}") from exc
    if client_cert is not None:
        try:
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(client_cert, client_key, password="")
        except (OSError, ssl.SSLError, ValueError) as exc:
            raise ConfigurationError(
                f"the client certificate {client_cert} with the key {client_key} {_not_read(exc)}"
            ) from exc
    return context


def _not_read(exc: OSError | ValueError) -> str:
    if isinstance(exc, ssl.SSLError | ValueError):
        return "cannot be used: both must be PEM, belong together and have no password"
    return f"cannot be read: {exc.strerror}"


def _refuse_contradictions(
    username: str | None,
    password: str | None,
    token: str | None,
    token_file: Path | None,
    headers: Mapping[str, str],
) -> None:
    if (username is None) != (password is None):
        raise ConfigurationError(
            "prometheus_username and prometheus_password belong together; set both or none"
        )
    if username is not None and (":" in username or not username.isprintable()):
        raise ConfigurationError("prometheus_username must be plain text without a colon")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigurationError(f"prometheus_headers: {name!a} is not the name of a header")
        if name.lower() in _OWN_HEADERS:
            raise ConfigurationError(f"prometheus_headers: {name} is set by Queuescope itself")
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise ConfigurationError(
                f"prometheus_headers: the value of {name} must be plain ASCII text"
            )
    lower = [name.lower() for name in headers]
    if len(set(lower)) < len(lower):
        raise ConfigurationError("prometheus_headers: a header is named twice")
    given = {
        "prometheus_password": password is not None,
        "prometheus_token": token is not None,
        "prometheus_token_file": token_file is not None,
        "prometheus_headers with Authorization": "authorization" in lower,
    }
    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise ConfigurationError(f"{' and '.join(names)} contradict each other; set one of them")


def refuse_own_parameters(names: Iterable[str]) -> None:
    """Raises ``ConfigurationError`` for a parameter that requests set themselves."""
    for name in names:
        if not name or name in _OWN_PARAMETERS:
            raise ConfigurationError(
                f"the parameter {name!a} of the Prometheus URL is set by Queuescope itself; "
                "only others, such as namespace=blue, can be given"
            )


def _token_in(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_TOKEN_FILE_BYTES)
    except OSError as exc:
        raise ConfigurationError(
            f"the token file {path} cannot be read: {exc.strerror or exc}"
        ) from exc
    return _checked_token(raw.decode("latin-1").strip(), f"the token in {path}")


def _checked_token(token: str, name: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise ConfigurationError(f"{name} must be ASCII text without spaces")
    return token


def _written_forms(secret: str) -> set[str]:
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        html.escape(secret),
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
    }
