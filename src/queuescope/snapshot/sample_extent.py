"""When the samples of a selector begin and end, found without walking through all of them."""

from __future__ import annotations

from queuescope.prometheus import PrometheusClient

_WINDOW_SECONDS = 6 * 3_600
_LOOKED_AT = "4m"
"""Below the five minutes for which a server lets a sample stand."""


async def newest_sample(
    client: PrometheusClient, selector: str, now: float, days: int
) -> float | None:
    """When the newest sample of the last ``days`` days was taken; None without one.

    Raises ``SourceError``.
    """
    found = await client.query(f"max(timestamp({selector}))", at=now)
    if found.samples:
        return found.samples[0].value
    return await _searched(client, "max", selector, now, days)


async def oldest_sample(
    client: PrometheusClient, selector: str, now: float, days: int
) -> float | None:
    """When the oldest sample of the last ``days`` days was taken; None without one.

    Raises ``SourceError``.
    """
    return await _searched(client, "min", selector, now, days)


async def _searched(
    client: PrometheusClient, which: str, selector: str, now: float, days: int
) -> float | None:
    """First the window that holds the sample, then the sample within it."""
    ends = -int(-now // _WINDOW_SECONDS) * _WINDOW_SECONDS
    held = f"time() * group(present_over_time({selector}[{_WINDOW_SECONDS}s]))"
    window = await client.query(
        f"{which}_over_time(({held})[{days * 86_400}s:{_WINDOW_SECONDS}s])", at=ends
    )
    if not window.samples:
        return None
    within = f"timestamp({selector})[{_WINDOW_SECONDS}s:{_LOOKED_AT}]"
    end = window.samples[0].value
    found = await client.query(f"{which}({which}_over_time({within}))", at=end)
    return found.samples[0].value if found.samples else end
