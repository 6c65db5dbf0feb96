"""Pairs of the same operation at the same moment: one effect each, the other is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from queuescope.errors import RefusalReason, RefusedError
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.audit import Outcome, Phase, Result, Search
from queuescope.operations.control import Operations
from queuescope.operations.request import Operation, Request
from queuescope.operations.store import OperationsStore

ACCESS = Access(admins=["ada", "bob"])


@pytest.fixture
def pairs(request: pytest.FixtureRequest) -> int:
    return 1000 if request.config.getoption("--long") else 16


class Effects:
    """Counts its effects by target."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()

    def count(self, request: Request) -> int:
        return 1

    def carry_out(self, request: Request, act: str) -> Outcome:
        self.done[request.target] += 1
        return Outcome(Result.DONE, "done", 1)


def test_of_two_threads_one_carries_out_the_operation(tmp_path: Path, pairs: int) -> None:
    effects = Effects()
    store = OperationsStore(f"sqlite:///{tmp_path / 'operations.db'}", timeout_seconds=30)
    operations = Operations(store, ACCESS, {Operation.PAUSE: effects})
    actors = [Actor(name, Origin.OIDC) for name in ("ada", "bob")]
    refused: list[tuple[str, RefusalReason, str]] = []
    barrier = threading.Barrier(2)

    def run(actor: Actor) -> None:
        for number in range(pairs):
            # Every other pair meets at a target that was moved before.
            request = Request.pause(f"q{number // 2}")
            plan = operations.plan(actor, request)
            barrier.wait(60)
            try:
                operations.carry_out(actor, request, plan.token)
            except RefusedError as exc:
                refused.append((actor.name, exc.reason, str(exc)))
            barrier.wait(60)

    threads = [threading.Thread(target=run, args=(actor,)) for actor in actors]
    with closing(store):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(effects.done.values()) == {2}
        assert len(effects.done) == pairs // 2
        assert len(refused) == pairs
        for name, reason, sentence in refused:
            assert reason is RefusalReason.OVERTAKEN
            other = "bob" if name == "ada" else "ada"
            assert sentence.startswith(f"{other} started to pause queue q")
        assert whole(store) == {"done": pairs, "pending": pairs}


def whole(store: OperationsStore) -> dict[str, int]:
    """The results of the entries, refusals aside; every outcome has its intent before it."""
    assert not store.audit.verify().fault
    intents: set[str] = set()
    results: Counter[str] = Counter()
    for entry in reversed(store.audit.find(Search(), limit=100_000)):
        if entry.event.result is Result.REFUSED:
            continue
        results[str(entry.event.result)] += 1
        if entry.event.phase is Phase.INTENT:
            intents.add(entry.event.act)
        else:
            assert entry.event.act in intents
    return dict(results)


OPERATOR = """
import json, sys, time
from pathlib import Path
from queuescope.errors import RefusedError
from queuescope.operations.access import Access, Actor, Origin
from queuescope.operations.audit import Outcome, Result
from queuescope.operations.control import Operations
from queuescope.operations.store import OperationsStore
from queuescope.operations.request import Operation, Request

url, name, pairs, meeting = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])

class Effects:
    def count(self, request): return 1
    def carry_out(self, request, act):
        done.append(request.target)
        return Outcome(Result.DONE, "done", 1)

done, refused = [], []
actor = Actor(name, Origin.OIDC)
store = OperationsStore(url, timeout_seconds=30)
operations = Operations(store, Access(admins=["ada", "bob"]), {Operation.PAUSE: Effects()})
for number in range(pairs):
    request = Request.pause(f"q{number // 2}")
    plan = operations.plan(actor, request)
    print("planned", flush=True)
    sys.stdin.readline()
    try:
        operations.carry_out(actor, request, plan.token)
    except RefusedError as exc:
        refused.append([exc.reason, str(exc)])
    print("acted", flush=True)
    sys.stdin.readline()
print(json.dumps({"done": done, "refused": refused}), flush=True)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.timeout(600)
def test_of_two_processes_one_carries_out_the_operation(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest, pairs: int
) -> None:
    url = f"sqlite:///{tmp_path / 'operations.db'}"
    if kind == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    operators = [
        subprocess.Popen(
            [sys.executable, "-c", OPERATOR, url, name, str(pairs), str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("ada", "bob")
    ]
    for _ in range(2 * pairs):
        for operator in operators:
            assert operator.stdout is not None
            assert operator.stdout.readline().strip() in ("planned", "acted")
        for operator in operators:
            assert operator.stdin is not None
            operator.stdin.write("\n")
            operator.stdin.flush()
    refused, effects = [], Counter[str]()
    for operator in operators:
        said, _ = operator.communicate()
        answer = json.loads(said)
        effects.update(answer["done"])
        refused += answer["refused"]
    assert set(effects.values()) == {2}
    assert len(effects) == pairs // 2
    assert len(refused) == pairs
    assert {reason for reason, _ in refused} == {"overtaken"}
    assert all(words.startswith(("ada started to", "bob started to")) for _, words in refused)
    with closing(OperationsStore(url)) as store:
        assert whole(store) == {"done": pairs, "pending": pairs}
