"""Every bad response of Prometheus, with and without earlier good data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet
from tests.faults.cells import live_through
from tests.faults.conftest import Lab
from tests.faults.troubles import TROUBLES, Scope, Trouble

pytestmark = pytest.mark.anyio


def _cells() -> Iterator[ParameterSet]:
    """Each trouble in each scope, cold and warm; without ``--long`` one cell of each kind."""
    kinds: dict[tuple[str, str], int] = {}
    for trouble in TROUBLES:
        is_new = (trouble.row, trouble.kind) not in kinds
        number = kinds.setdefault((trouble.row, trouble.kind), len(kinds))
        cells = [(scope, warm) for scope in trouble.scopes for warm in (False, True)]
        for cell in cells:
            is_in_part = is_new and cell == cells[number % len(cells)]
            yield pytest.param(
                *(trouble, *cell),
                id=f"{trouble.name}-{cell[0]}-{'warm' if cell[1] else 'cold'}",
                marks=() if is_in_part else pytest.mark.long,
            )


@pytest.mark.parametrize(("trouble", "scope", "warm"), list(_cells()))
async def test_a_bad_response_is_reported_and_never_cached(
    trouble: Trouble, scope: Scope, warm: bool, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    async def begin() -> None:
        lab.proxy.spoil(trouble.spoil, scope.concerns)

    async def end() -> None:
        """The proxy passes everything on again."""

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
