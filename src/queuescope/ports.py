"""Opens listening ports, and raises the limit of open connections."""

from __future__ import annotations

import socket
from importlib import import_module
from types import ModuleType

from queuescope.errors import ConfigurationError

_LOOPBACK = "127.0.0.1"
_MOST_DESCRIPTORS = 65_536


def _resource() -> ModuleType | None:
    try:
        return import_module("resource")
    except ModuleNotFoundError:  # Windows has no such limits
        return None


def listen(host: str, port: int, *, may_move: bool) -> socket.socket:
    """A TCP socket that listens on ``port`` (0 is any free one).

    If the port is busy, another free one is used with ``may_move``; otherwise a
    ``ConfigurationError`` names it.
    """
    try:
        return _bind(host, port)
    except PermissionError as exc:
        raise ConfigurationError(
            f"port {port} needs more rights than this user has; choose one above 1023 with --port"
        ) from exc
    except OSError as exc:
        if not _is_local(host):
            raise ConfigurationError(
                f"cannot listen on {host}: {exc.strerror or exc}; choose an address of this machine"
            ) from exc
        if may_move:
            return _bind(host, 0)
        raise ConfigurationError(
            f"port {port} on {host} is busy; stop what listens there or choose another with --port"
        ) from exc


def free_port(preferred: int, *, host: str = _LOOPBACK, taken: frozenset[int] = frozenset()) -> int:
    """``preferred`` if nothing listens there and it is not in ``taken``, else a free port."""
    if preferred not in taken:
        try:
            with _bind(host, preferred) as found:
                return port_of(found)
        except OSError:
            pass
    while True:
        with _bind(host, 0) as found:
            if port_of(found) not in taken:
                return port_of(found)


def port_of(bound: socket.socket) -> int:
    """The port of a bound socket."""
    return int(bound.getsockname()[1])


def reachable_host(host: str) -> str:
    """The host with which a browser on this machine reaches a server on ``host``."""
    if host in ("", "0.0.0.0", "::"):
        return _LOOPBACK
    return f"[{host}]" if ":" in host else host


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Lets a restart use the port while old connections time out; a port with a listener is
        # still busy.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        # On Linux two sockets with SO_REUSEADDR may both be bound until one of them listens.
        bound.listen(128)
    except OSError:
        bound.close()
        raise
    return bound


def _is_local(host: str) -> bool:
    try:
        _bind(host, 0).close()
    except OSError:
        return False
    return True


def raise_descriptor_limit() -> int:
    """Raise the limit of open files and connections as far as this process may, to at most 65,536;
    returns the limit. 250 viewers need the usual 1,024.
    """
    resource = _resource()
    if resource is None:
        return _MOST_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited: int = resource.RLIM_INFINITY
    allowed = _MOST_DESCRIPTORS if hard == unlimited else min(int(hard), _MOST_DESCRIPTORS)
    if soft == unlimited or soft >= allowed:
        return allowed
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):  # some systems allow less than the reported limit
        return int(soft)
    return allowed
