"""The headline property: whatever happened before, a cached read equals an uncached one."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cache import doctored
from tests.cache.actions import (
    KEYS,
    MAX_STEPS,
    MAX_STEPS_AGO,
    QUEUES,
    VALUES,
    Action,
    Late,
    Pass,
    Read,
    ReadTogether,
    Restart,
)
from tests.cache.histories import SEED, WrongAnswerError, play
from tests.cache.history import History, ModelServer

READS = st.builds(
    Read,
    st.one_of(st.just(0), st.integers(-2, MAX_STEPS_AGO)),
    st.one_of(st.just(30), st.integers(0, MAX_STEPS)),
    st.one_of(st.just(0), st.integers(0, KEYS - 1)),
    st.sampled_from([None, None, None, 0, 1]),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
)
ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(
        Pass,
        st.one_of(st.integers(1, 30), st.integers(1, 400)),
        st.lists(
            st.tuples(st.sampled_from(QUEUES), st.sampled_from(VALUES)), unique_by=lambda s: s[0]
        ).map(tuple),
    ),
    st.builds(
        Late,
        st.sampled_from(QUEUES),
        st.integers(0, 20),
        st.one_of(st.none(), st.sampled_from(VALUES)),
    ),
    READS,
    st.lists(READS, min_size=2, max_size=4).map(lambda reads: ReadTogether(tuple(reads))),
    st.builds(
        Restart, st.sampled_from(["kept", "killed", "lost", "damaged"]), st.integers(0, 1 << 16)
    ),
)


@given(
    st.lists(ACTIONS, min_size=5, max_size=40),
    st.sampled_from([600, 100_000]),
    st.sampled_from([0.0, 1e9]),
    st.booleans(),
)
def test_any_history_of_reads_gives_what_the_source_gives(
    actions: list[Action], max_points: int, write_seconds: float, knows_epoch: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        history = History(
            {"first": ModelServer()},
            directory=Path(directory),
            max_points=max_points,
            write_seconds=write_seconds,
            knows_epoch=knows_epoch,
        )
        asyncio.run(history.play(actions))


def test_histories_by_chance_with_other_servers_give_what_the_present_one_gives() -> None:
    """A part of the long proof; the full result is in ``benchmarks/results/cache-property.md``."""
    tally = play(SEED, range(90))
    statuses = {said.partition(",")[0] for said in tally.answers}
    assert statuses == {"hit", "partial_hit", "range_miss", "key_miss", "source_error"}
    assert tally.changes["with points that changed since the last answer"] > 100


@pytest.mark.parametrize("fault", doctored.FAULTS, ids=str)
def test_the_property_catches_a_cache_that_is_wrong(
    fault: doctored.Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.inject(monkeypatch)
    with pytest.raises(WrongAnswerError):
        play(SEED, range(fault.within_histories))
