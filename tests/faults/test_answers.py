"""Every bad answer of Prometheus, with and without good data from before."""

from __future__ import annotations

import pytest
from tests.faults.cells import live_through
from tests.faults.conftest import Lab
from tests.faults.troubles import TROUBLES, Scope, Trouble

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize(
    ("trouble", "scope"),
    [
        pytest.param(trouble, scope, id=f"{trouble.name}-{scope}")
        for trouble in TROUBLES
        for scope in trouble.scopes
    ],
)
async def test_a_bad_answer_is_told_and_never_kept(
    trouble: Trouble, scope: Scope, warm: bool, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    async def begin() -> None:
        lab.proxy.spoil(trouble.spoil, scope.concerns)

    async def end() -> None:
        """The proxy has been healed."""

    await live_through(
        lab,
        caplog,
        begin=begin,
        end=end,
        warm=warm,
        scope=scope,
        kind=trouble.kind,
        words=trouble.words,
        timeout_seconds=trouble.timeout_seconds,
        most_spoilt=trouble.most_spoilt,
    )
