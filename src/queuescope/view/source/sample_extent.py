"""When the samples of a selector begin and end, found without reading all of them."""

from __future__ import annotations

from queuescope.prometheus import PrometheusClient

_WINDOWS_SECONDS = (6 * 3_600, 900, 60)
"""Each is a multiple of the next; the last is below the five minutes for which a plain selector
finds a sample.
"""


async def newest_sample(
    client: PrometheusClient, selector: str, now: float, days: int
) -> float | None:
    """The time of the newest sample in the last ``days`` days; None without one.

    Raises ``SourceError``.
    """
    found = await client.query(f"max(timestamp({selector}))", at=now)
    if found.samples:
        return found.samples[0].value
    return await _searched(client, "max", selector, now, days)


async def oldest_sample(
    client: PrometheusClient, selector: str, now: float, days: int
) -> float | None:
    """The time of the oldest sample in the last ``days`` days; None without one.

    Raises ``SourceError``.
    """
    return await _searched(client, "min", selector, now, days)


async def _searched(
    client: PrometheusClient, which: str, selector: str, now: float, days: int
) -> float | None:
    """Search with long windows first, then with shorter ones inside the window that was found.

    Windows without samples cost almost nothing, and no window is read twice, so this is quick even
    for many series. In the last window the newest sample of each series is compared.
    """
    end: float = -int(-now // _WINDOWS_SECONDS[0]) * _WINDOWS_SECONDS[0]
    span = days * 86_400
    for window in _WINDOWS_SECONDS:
        held = f"time() * group(present_over_time({selector}[{window}s]))"
        found = await client.query(f"{which}_over_time(({held})[{span}s:{window}s])", at=end)
        if not found.samples:
            return None
        end, span = found.samples[0].value, window
    exact = await client.query(f"{which}(timestamp({selector}))", at=end)
    return exact.samples[0].value if exact.samples else end
