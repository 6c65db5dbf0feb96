"""The ``/metrics`` of a worker, on the first of its ports that is free."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric as MetricFamily
from prometheus_client.registry import Collector as RegistryCollector

logger = logging.getLogger(__name__)


class _UpToDate(RegistryCollector):
    """The metrics of ``registry``, after ``refresh``."""

    def __init__(self, registry: CollectorRegistry, refresh: Callable[[], None]) -> None:
        self._registry = registry
        self._refresh = refresh

    def collect(self) -> Iterator[MetricFamily]:
        self._refresh()
        yield from self._registry.collect()


class MetricsServer:
    """Serves ``registry``, calling ``refresh`` before each answer.

    If no port is free, the worker runs without metrics.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        refresh: Callable[[], None],
        host: str,
        ports: tuple[int, ...],
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_UpToDate(registry, refresh))
        self._host = host
        self._ports = ports
        self._server: WSGIServer | None = None
        self.refusal = ""
        """Why ``/metrics`` is not served: the operating system's error."""

    @property
    def port(self) -> int | None:
        """The port that serves ``/metrics``, or ``None``."""
        return None if self._server is None else int(self._server.server_port)

    def start(self) -> None:
        for port in self._ports:
            try:
                self._server, _ = start_http_server(port, self._host, self._registry)
            except OSError as exc:
                self.refusal = exc.strerror or str(exc)
                if exc.errno != errno.EADDRINUSE:
                    return
            else:
                self.refusal = ""
                return

    def try_again(self) -> None:
        """Try the ports again, since the worker that had one may have ended; does nothing while
        ``/metrics`` is served.
        """
        if self._server is not None:
            return
        self.start()
        if self.port is not None:
            logger.warning("metrics are served on port %d from now on", self.port)

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def close_in_child(self) -> None:
        """Close the socket that a forked child inherited: it must not hold a dead worker's port."""
        if self._server is not None:
            self._server.socket.close()
