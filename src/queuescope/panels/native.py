"""Native histograms, exponential or of custom buckets, beside the classic ones of a panel.

A native histogram is one series without ``le``, under the metric's name without ``_bucket``. Only
the source can compute its quantiles; they come as series with a label ``quantile``. A panel that
sums classic buckets asks for both, and the source answers with what it has.
"""

from __future__ import annotations

from collections.abc import Sequence

from queuescope.prometheus.promql import union

QUANTILE = "quantile"
"""The label of a series that is a quantile itself."""

_BEGIN = " or label_replace((histogram_quantile("
_BUCKET = "_bucket"


def with_native(template: str, quantiles: Sequence[float]) -> str:
    """``template``, which gives classic buckets, and beside them the quantiles of native ones; as
    it was where it is not known how to ask for these.
    """
    if "$le_by" not in template or native_form(template) == template.replace("$le_by", "$by"):
        return template
    native = native_form(template)
    asked = {f"{q:g}": f"histogram_quantile({q:g}, {native})" for q in quantiles}
    return f"{template} or {union(QUANTILE, asked)}" if asked else template


def classic_part(template: str) -> str:
    """What of ``template`` gives classic buckets."""
    return template.partition(_BEGIN)[0]


def native_form(template: str) -> str:
    """The same rates of native histograms."""
    named = classic_part(template).replace(f"{_BUCKET}{{", "{").replace(f'{_BUCKET}"', '"')
    return named.replace("$le_by", "$by")


def native_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """What the native histograms are called whose classic buckets are among ``metrics``."""
    return tuple(m.removesuffix(_BUCKET) for m in metrics if m.endswith(_BUCKET))
