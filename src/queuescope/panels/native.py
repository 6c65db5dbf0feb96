"""Native histograms, exponential or with custom buckets, beside the classic ones of a panel.

A native histogram is one series without ``le``, named like the metric without ``_bucket``. Only the
source can compute its quantiles, which it returns as series with a label ``quantile``. A panel that
sums classic buckets queries both, and the source answers with those that it has.
"""

from __future__ import annotations

from collections.abc import Sequence

from queuescope.prometheus.promql import union

QUANTILE = "quantile"
"""The label of a series that is a quantile."""

_BEGIN = " or label_replace((histogram_quantile("
_BUCKET = "_bucket"


def with_native(template: str, quantiles: Sequence[float]) -> str:
    """``template``, which returns classic buckets, extended by the quantiles of native histograms;
    unchanged if there is no form for these.
    """
    if "$le_by" not in template or native_form(template) == template.replace("$le_by", "$by"):
        return template
    native = native_form(template)
    asked = {f"{q:g}": f"histogram_quantile({q:g}, {native})" for q in quantiles}
    return f"{template} or {union(QUANTILE, asked)}" if asked else template


def classic_part(template: str) -> str:
    """The part of ``template`` that returns classic buckets."""
    return template.partition(_BEGIN)[0]


def native_form(template: str) -> str:
    """The same rates for native histograms."""
    named = classic_part(template).replace(f"{_BUCKET}{{", "{").replace(f'{_BUCKET}"', '"')
    return named.replace("$le_by", "$by")


def native_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """The names of the native histograms whose classic buckets are among ``metrics``."""
    return tuple(m.removesuffix(_BUCKET) for m in metrics if m.endswith(_BUCKET))
