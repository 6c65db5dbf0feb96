"""Parses the addresses that Celery accepts for a Redis or Valkey broker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
from redis.sentinel import Sentinel

from queuescope.errors import ConfigurationError

_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "redis+socket": "unix",
    "unix": "unix",
}
SCHEMES = frozenset({*_SCHEMES, "sentinel"})
"""The schemes that are supported."""
_SENTINEL_PORT = 26379


class RedisAddress:
    """The address of a broker, from which clients are made; connects to nothing by itself.

    Of several addresses separated by ``;``, Sentinels are asked for the primary named
    ``master_name`` in ``transport_options`` (Celery's ``broker_transport_options``); otherwise the
    first address is used.
    """

    def __init__(self, url: str, transport_options: Mapping[str, Any] | None = None) -> None:
        """Raises ``ConfigurationError``, whose message does not contain the address."""
        options = transport_options or {}
        self.for_celery = ";".join(_for_celery(part) for part in url.split(";"))
        """The address without redis-py's options, which Celery refuses."""
        self.timeout_seconds = 0.0
        """The ``socket_timeout`` of the address, which overrides that of a client; 0 without."""
        self._sentinels: list[tuple[str, int]] = []
        self._shared: dict[str, Any] = {}
        first, *_ = addresses = [part.strip() for part in url.split(";") if part.strip()] or [""]
        scheme = first.partition("://")[0]
        if scheme == "sentinel":
            self._master = str(options.get("master_name") or "")
            self._sentinel_options = dict(options.get("sentinel_kwargs") or {})
            if not self._master:
                raise ConfigurationError(
                    "broker_url names Sentinels, which need the name of the primary: set "
                    'broker_transport_options to {"master_name": "…"}, as in the project'
                )
            self._read_sentinels(addresses)
            return
        if scheme not in _SCHEMES:
            raise ConfigurationError(
                "broker_url is not the address of a Redis or Valkey server; use redis://host:6379/0"
            )
        self._url = _plain(first, _SCHEMES[scheme])
        # Redis-py checks an address only when it makes a client.
        made = self.client().connection_pool.connection_kwargs
        self.timeout_seconds = made.get("socket_timeout") or 0.0

    def client(self, **options: Any) -> redis.Redis:
        """A new client with these options of redis-py."""
        if self._sentinels:
            found = Sentinel(  # type: ignore[no-untyped-call]
                self._sentinels,
                sentinel_kwargs={**_timeouts(options), **self._sentinel_options},
                **self._shared,
                **options,
            )
            primary: redis.Redis = found.master_for(  # type: ignore[no-untyped-call]
                self._master, redis.Redis
            )
            return primary
        try:
            return redis.Redis.from_url(self._url, **options)
        except (ValueError, TypeError) as exc:
            raise ConfigurationError(
                "broker_url cannot be read as the address of a Redis or Valkey server; "
                "use redis://host:6379/0"
            ) from exc

    def _read_sentinels(self, addresses: list[str]) -> None:
        for address in addresses:
            try:
                parts = urlsplit(address)
                host, port = parts.hostname, parts.port or _SENTINEL_PORT
            except ValueError:
                host, port = None, 0
            if host is None or parts.scheme != "sentinel":
                raise ConfigurationError(
                    "broker_url names Sentinels; write each as sentinel://host:26379/0, "
                    "separated by semicolons"
                )
            self._sentinels.append((host, port))
            if parts.username:
                self._shared["username"] = unquote(parts.username)
            if parts.password:
                self._shared["password"] = unquote(parts.password)
            number = parts.path.strip("/")
            self._shared["db"] = int(number) if number.isdecimal() else 0


def _plain(address: str, scheme: str) -> str:
    """``address`` as redis-py reads it: Celery also writes ``ssl_cert_reqs`` in capitals."""
    where, _, query = address.partition("://")[2].partition("?")
    options = [
        (name, value.removeprefix("CERT_").lower() if name == "ssl_cert_reqs" else value)
        for name, value in parse_qsl(query, keep_blank_values=True)
    ]
    return f"{scheme}://{where}{'?' if options else ''}{urlencode(options)}"


def _for_celery(address: str) -> str:
    """``address`` with the options that Celery reads: of TLS, and the database of a socket."""
    where, _, query = address.partition("?")
    kept = [part for part in query.split("&") if part.startswith(("ssl_", "virtual_host="))]
    return f"{where}{'?' if kept else ''}{'&'.join(kept)}"


def _timeouts(options: Mapping[str, Any]) -> dict[str, Any]:
    names = ("socket_timeout", "socket_connect_timeout")
    return {name: options[name] for name in names if name in options}
