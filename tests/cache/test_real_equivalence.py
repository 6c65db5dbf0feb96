"""The headline property on real servers: a cached read equals the server's own range query.

The full result is in ``benchmarks/results/cache-property.md``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cache import doctored
from tests.cache.histories import SEED, WrongAnswerError
from tests.cache.real_histories import play

pytestmark = pytest.mark.anyio


async def test_histories_on_real_servers_give_what_the_servers_give(tmp_path: Path) -> None:
    tally = await play(SEED, range(14), tmp_path)
    statuses = {said.partition(",")[0] for said in tally.answers}
    assert statuses == {"hit", "partial_hit", "range_miss", "key_miss", "source_error"}
    assert tally.changes["with points that changed since the last answer"] > 10


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=marks)
        for fault in doctored.FAULTS
        for name, marks in (
            ("another history is not noticed", []),
            ("the newest points are final at once", [pytest.mark.long]),
        )
        if fault.name == name
    ],
    ids=str,
)
async def test_real_servers_show_a_cache_that_is_wrong(
    fault: doctored.Fault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fault.inject(monkeypatch)
    with pytest.raises(WrongAnswerError):
        await play(SEED, range(100), tmp_path)
