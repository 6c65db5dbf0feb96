"""Identifies the visitor: turns a request and its login into an ``Actor``, or a reason why not.

Only facts that a visitor cannot forge are used: the address of the connection, a header that a
configured proxy has set, and the claims that Streamlit has verified. Roles are assigned by
``queuescope.operations.access``.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from queuescope.errors import ConfigurationError
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operator_key import operator_key
from queuescope.settings import Settings

_NAME_LIMIT = 200
_GROUPS_LIMIT = 200
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# A local proxy makes every visitor look like this machine; these headers reveal the proxy.
_FORWARDED = frozenset({"forwarded", "via"})
_FORWARDED_PREFIXES = ("xforwarded", "xreal", "xoriginal", "xclient", "cfconnecting")


class IdentityProblem(StrEnum):
    """Why a visitor could not be identified; the strings may be shown and logged."""

    NOT_LOGGED_IN = "You are not logged in."
    EXPIRED = "Your login has expired; log in again."
    NO_EXPIRY = "The login provider does not say when the login ends, so no one can be admitted."
    NO_NAME = "The login names no user; an administrator sets oidc_user_claim."
    NOT_VERIFIED = "The login provider has not verified this address."
    NOT_THIS_MACHINE = "This dashboard is open to its own machine only."
    NOT_FROM_PROXY = "This request did not come through a trusted proxy."
    NO_HEADER = "The proxy named no user."
    AMBIGUOUS_HEADER = "The request names its user more than once, or in an invalid form."


@dataclass(frozen=True, slots=True)
class Unidentified:
    """A visitor who could not be identified, and may not view anything."""

    problem: IdentityProblem


def identify(
    settings: Settings,
    *,
    headers: Sequence[tuple[str, str]],
    peer: str | None,
    claims: Mapping[str, object],
    now: float,
) -> Actor | Unidentified:
    """The actor behind a request, or why there is none.

    ``headers`` are all headers of the request, including duplicates; ``peer`` is the address at the
    other end of the connection, not taken from a header; ``claims`` are those of Streamlit's login
    (``st.user``); ``now`` is in epoch seconds.
    """
    match settings.authentication:
        case "none":
            if _is_this_machine(headers, peer) and operator_key(settings.data_dir).is_held(headers):
                return Actor("local", Origin.LOOPBACK)
            address = _address(peer)
            if address is not None and not address.is_loopback:
                # The server listens on other addresses than the settings say.
                return Unidentified(IdentityProblem.NOT_THIS_MACHINE)
            # A connection from this machine may come from far away through a forwarded port.
            return Actor("public", Origin.WITHOUT_KEY)
        case "public":
            return Actor("public", Origin.PUBLIC)
        case "proxy":
            return _from_proxy(settings, headers, peer)
        case "oidc":
            return _from_claims(settings, claims, now)


def access_of(settings: Settings) -> Access:
    """The roles that the settings assign."""
    return Access(viewers=settings.viewers, operators=settings.operators, admins=settings.admins)


def check_exposure(settings: Settings) -> None:
    """Raises ``ConfigurationError`` if strangers could reach a dashboard that does not identify
    visitors, or if no visitor could ever be identified.
    """
    if settings.authentication == "none" and not _is_loopback(settings.host):
        raise ConfigurationError(
            f"host {settings.host!r} can be reached from other machines, and authentication is "
            "“none”: set authentication to “proxy” or “oidc”, or to “public”, which lets "
            "everyone view and no one run operations (QUEUESCOPE_AUTHENTICATION=public), or set "
            "host to "
            "127.0.0.1"
        )
    if settings.authentication == "proxy" and not settings.trusted_proxies:
        raise ConfigurationError(
            "authentication is “proxy”, and no proxy is trusted: set trusted_proxies to its address"
        )
    for network in settings.trusted_proxies:
        if ipaddress.ip_network(network).prefixlen == 0:
            raise ConfigurationError(
                f"trusted_proxies holds {network}, which is every address: anyone could "
                "claim any name; set it to the address of the proxy"
            )
    if settings.authentication == "proxy" and not settings.proxy_user_header:
        raise ConfigurationError("authentication is “proxy”: set proxy_user_header")


def _from_proxy(
    settings: Settings, headers: Sequence[tuple[str, str]], peer: str | None
) -> Actor | Unidentified:
    address = _address(peer)
    networks = [ipaddress.ip_network(network) for network in settings.trusted_proxies]
    if address is None or not any(address in network for network in networks):
        return Unidentified(IdentityProblem.NOT_FROM_PROXY)
    name = _only_value(headers, settings.proxy_user_header)
    if name is None or name == "":
        return Unidentified(
            IdentityProblem.AMBIGUOUS_HEADER if name is None else IdentityProblem.NO_HEADER
        )
    if "," in name or not _is_plain(name):
        return Unidentified(IdentityProblem.AMBIGUOUS_HEADER)
    groups: frozenset[str] = frozenset()
    if settings.proxy_groups_header:
        text = _only_value(headers, settings.proxy_groups_header)
        if text is None:
            return Unidentified(IdentityProblem.AMBIGUOUS_HEADER)
        groups = _groups(text.split(","))
    return Actor(name, Origin.PROXY, groups)


def _only_value(headers: Sequence[tuple[str, str]], wanted: str) -> str | None:
    """The only value of a header, empty without it; ``None`` if the header is there twice, also in
    another spelling that some servers treat as equal.
    """
    found = [(name, value) for name, value in headers if _folded(name) == _folded(wanted)]
    if not found:
        return ""
    if len(found) > 1 or found[0][0].lower() != wanted.lower():
        return None
    return found[0][1].strip(" \t")


def _from_claims(
    settings: Settings, claims: Mapping[str, object], now: float
) -> Actor | Unidentified:
    if claims.get("is_logged_in") is not True:
        return Unidentified(IdentityProblem.NOT_LOGGED_IN)
    expires_at = claims.get("exp")
    # Streamlit's cookie is valid for weeks; the login ends when its token expires.
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        return Unidentified(IdentityProblem.NO_EXPIRY)
    if not math.isfinite(expires_at):
        return Unidentified(IdentityProblem.NO_EXPIRY)
    if now >= expires_at:
        return Unidentified(IdentityProblem.EXPIRED)
    name = claims.get(settings.oidc_user_claim)
    if not isinstance(name, str) or not _is_plain(name):
        return Unidentified(IdentityProblem.NO_NAME)
    if settings.oidc_user_claim == "email" and claims.get("email_verified", True) is not True:
        return Unidentified(IdentityProblem.NOT_VERIFIED)
    said = claims.get(settings.oidc_groups_claim, ())
    groups = _groups([said] if isinstance(said, str) else said)
    return Actor(name, Origin.OIDC, groups, float(expires_at))


def _groups(said: object) -> frozenset[str]:
    if not isinstance(said, list | tuple):
        return frozenset()
    names = [name.strip() for name in said[:_GROUPS_LIMIT] if isinstance(name, str)]
    return frozenset(name for name in names if _is_plain(name))


def _is_plain(name: str) -> bool:
    return 0 < len(name) <= _NAME_LIMIT and name.isprintable() and name == name.strip()


def _is_this_machine(headers: Sequence[tuple[str, str]], peer: str | None) -> bool:
    address = _address(peer)
    if address is None or not address.is_loopback:
        return False
    for name, _ in headers:
        folded = _folded(name)
        if folded in _FORWARDED or folded.startswith(_FORWARDED_PREFIXES):
            return False
    hosts = [value for name, value in headers if name.lower() == "host"]
    return len(hosts) == 1 and _is_loopback(_without_port(hosts[0]))


def _without_port(host: str) -> str:
    host = host.strip().lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.strip("[]").lower() in _LOOPBACK_NAMES:
        return True
    address = _address(host.strip("[]"))
    return address is not None and address.is_loopback


def _address(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The parsed address. An IPv4-mapped IPv6 address, as a dual-stack socket reports it, becomes
    the IPv4 address.
    """
    try:
        address = ipaddress.ip_address(text or "")
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if isinstance(mapped, ipaddress.IPv4Address) else address


def _folded(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
