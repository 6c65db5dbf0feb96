"""Ask Prometheus, or a server with its HTTP API."""

from queuescope.prometheus.client import PrometheusClient
from queuescope.prometheus.wire import InstantAnswer, InstantSample

__all__ = ["InstantAnswer", "InstantSample", "PrometheusClient"]
