"""The ports on which a worker may serve its metrics."""

from __future__ import annotations

from queuescope.environment import place_of, read_setting
from queuescope.errors import ConfigurationError

METRICS_PORTS = (9540, *range(9542, 9550))
"""The default ports of a worker's metrics; it takes the first free one. The exporter uses the port
that is left out.
"""
_LAST_PORT = 65_535


def ports_of(wanted: int | str | None) -> tuple[int, ...]:
    """The ports to try, in this order. Raises ``ConfigurationError``."""
    name = "metrics_port"
    if wanted is None:
        wanted = read_setting("metrics_port")
        if wanted is None:
            return METRICS_PORTS
        name = place_of("metrics_port")
    first, dash, last = str(wanted).replace(" ", "").partition("-")
    last = last if dash else first
    if not all(text.isascii() and text.isdecimal() for text in (first, last)):
        raise ConfigurationError(
            f"{name} is {wanted!r}, not a port number or a range of them such as 9600-9609"
        )
    ports = range(int(first), int(last) + 1)
    if not ports or int(last) > _LAST_PORT or (dash and not int(first)):
        raise ConfigurationError(
            f"{name} is {wanted}; a port is between 0 and 65535, and a range goes up from 1"
        )
    return tuple(ports)


def port_range(ports: tuple[int, ...]) -> str:
    return str(ports[0]) if len(ports) == 1 else f"{ports[0]}-{ports[-1]}"
