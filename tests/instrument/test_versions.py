"""A worker's bare installation, with the oldest and the newest Celery that are supported."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.environments import PROJECT, build_wheel, installed, make_environment
from tests.instrument.conftest import Shop, until

from queuescope.broker.redis.broker import RedisBroker
from queuescope.broker.reports import DesiredState

# What Celery 5.3 was released with; the others are the least that pyproject.toml allows.
_OF_THEN = ("kombu==5.3.0", "redis==4.5.2")


def _oldest() -> tuple[str, ...]:
    with (PROJECT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    bounds = (re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line) for line in wanted)
    return (*(f"{bound[1]}=={bound[2]}" for bound in bounds if bound), *_OF_THEN)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=["oldest", "newest"])
def environment(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("environment") / "venv"
    make_environment(folder, wheel, versions=_oldest() if request.param == "oldest" else ())
    return folder


@pytest.fixture(scope="module")
def shop(
    environment: Path, broker_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("shop"), broker_url, str(environment / "bin/python"))
    yield made
    made.close()


def test_every_dependency_of_a_worker_has_a_least_version() -> None:
    assert [line.split("==")[0] for line in _oldest()[:2]] == ["celery", "click"]
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in _oldest())
    assert len(_oldest()) == 6 + len(_OF_THEN)


def test_a_worker_brings_nothing_of_the_page(environment: Path) -> None:
    names = set(installed(environment))
    assert {"celery", "redis", "queuescope"} <= names
    assert names.isdisjoint({"streamlit", "pyarrow", "pandas", "numpy", "plotly"})


def test_a_worker_tells_and_obeys(shop: Shop, broker_url: str, tmp_path: Path) -> None:
    worker = shop.start_worker("-c", "2")
    ended = [shop.send("nap", tenant="acme"), shop.send("fail", tenant="acme")]

    seen = worker.ended(2)
    name = "ai_agents_enhancement_jobs_total"
    assert seen.sum(name, tenant="acme", outcome="succeeded") == 1
    assert seen.sum(name, tenant="acme", outcome="failed") == 1
    rows = until(
        lambda: {job_id: worker.store.get(job_id) for job_id in ended},
        lambda rows: all(row is not None and row.finished_at is not None for row in rows.values()),
    )
    assert [str(row.status) for row in rows.values() if row is not None] == ["succeeded", "failed"]

    broker = RedisBroker(broker_url)
    until(lambda: broker.workers().reports, lambda reports: len(reports) == 1)
    revision = broker.desired().revision + 1
    broker.publish(DesiredState(revision=revision, paused=("orders",)))
    until(broker.workers, lambda known: known.reports[0].revision == revision)
    evidence = tmp_path / "evidence"
    shop.send("mark", path=str(evidence), word="resumed")
    until(lambda: broker.read(["orders"])[0].depth, lambda depth: depth == 1)
    assert not evidence.exists()
    broker.publish(DesiredState(revision=revision + 1))
    until(evidence.exists, bool)
    broker.drop_workers()
    broker.close()
