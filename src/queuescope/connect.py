"""Makes the Prometheus client from the settings, for the dashboard and the command line."""

from __future__ import annotations

from pydantic import SecretStr

from queuescope.prometheus import PrometheusClient
from queuescope.settings import Settings
from queuescope.telemetry import Telemetry


def connect(settings: Settings, telemetry: Telemetry | None = None) -> PrometheusClient:
    """A client of the configured Prometheus that has not sent a request yet.

    Raises ``ConfigurationError`` for settings that contradict each other and for files that
    cannot be used.
    """
    return PrometheusClient(
        settings.prometheus_url,
        username=settings.prometheus_username,
        password=_revealed(settings.prometheus_password),
        token=_revealed(settings.prometheus_token),
        token_file=settings.prometheus_token_file,
        headers={
            name: value.get_secret_value() for name, value in settings.prometheus_headers.items()
        },
        parameters={
            name: value.get_secret_value() for name, value in settings.prometheus_parameters.items()
        },
        ca_file=settings.prometheus_ca_file,
        client_cert=settings.prometheus_client_cert,
        client_key=settings.prometheus_client_key,
        timeout_seconds=settings.prometheus_timeout_seconds,
        telemetry=telemetry,
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
