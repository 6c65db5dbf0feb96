"""A worker's bare installation; and the proofs of `instrument`, on the oldest Celery.

All other tests run on the newest, in the project's own environment. These run once more, in one
that holds the least version of all that `pip install queuescope` brings.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from tests.environments import PROJECT, build_wheel, installed, make_environment
from tests.instrument.conftest import Evidence, Shop

# The same tests, and what they need, with the workers of the fixture `python` below.
from tests.instrument.test_celery import (  # noqa: F401
    day,
    test_a_child_killed_during_a_job_counts_as_failed_once,
    test_a_countdown_is_not_wait_time,
    test_a_job_returned_to_the_broker_ends_once,
    test_a_retry_has_its_own_wait_and_the_latency_of_the_first_attempt,
    test_a_revoked_job_counts_as_revoked_and_leaves_the_rate_alone,
    test_counters_stand_at_zero_before_the_first_job,
    test_each_outcome_is_counted_once_for_its_tenant_and_queue,
    test_histograms_hold_what_the_rows_of_the_history_tell,
    test_messages_of_other_apps_in_the_process_are_left_alone,
    test_nothing_is_in_flight_or_lost_at_the_end,
    test_other_pools_export_the_same,
    test_rows_have_the_error,
    test_success_rate_is_the_share_of_the_jobs_that_were_run,
    test_the_worker_exports_its_processes_and_memory,
    test_the_worker_exports_what_the_catalogue_declares_and_nothing_else,
    test_wait_and_runtime_add_up_to_the_latency_of_a_job_without_retry,
)
from tests.instrument.test_obedience import (
    broker,  # noqa: F401
    own_shop,  # noqa: F401
)
from tests.instrument.test_obedience import (
    test_a_paused_queue_starts_no_job_not_even_fetched_ones_and_resumes_each_once as obeys,
)
from tests.instrument.test_outcomes import (  # noqa: F401
    oddities,
    test_a_job_that_replaces_another_has_its_latency,
    test_a_name_that_no_worker_knows_is_in_the_success_rate,
    test_a_redelivered_message_is_counted,
    test_an_eta_without_a_zone_is_read_as_celery_reads_it,
    test_an_unusual_end_has_the_right_outcome,
)

from queuescope.broker.redis.broker import RedisBroker

# What Celery 5.3 was released with; the others are the least that pyproject.toml allows.
_OF_THEN = {"kombu": "5.3.0", "redis": "4.5.2"}
# What a server of the page needs, and a worker does not.
_OF_THE_PAGE = {
    "streamlit",
    "pyarrow",
    "pandas",
    "numpy",
    "plotly",
    "pydantic",
    "httpx2",
    "uvicorn",
}


def _oldest() -> dict[str, str]:
    with (PROJECT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    bounds = [re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line) for line in wanted]
    assert all(bounds), "every dependency of a worker has a least version"
    return {bound[1]: bound[2] for bound in bounds if bound} | _OF_THEN


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("oldest") / "venv"
    versions = [f"{name}=={version}" for name, version in _oldest().items()]
    return str(make_environment(folder, wheel, versions=versions))


def test_the_environment_holds_the_oldest_versions_and_nothing_of_the_page(python: str) -> None:
    names = installed(Path(python).parents[1])
    release = {name: names[name].split(".") for name in _oldest()}
    assert {name: ".".join(parts) for name, parts in release.items()}.keys() == _oldest().keys()
    for name, version in _oldest().items():
        assert release[name][: len(version.split("."))] == version.split("."), name
    assert _OF_THE_PAGE.isdisjoint(names)


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.long)])
def test_a_worker_follows_a_pause(
    pool: str,
    own_shop: Shop,  # noqa: F811
    broker: RedisBroker,  # noqa: F811
    evidence: Evidence,
) -> None:
    obeys(pool, own_shop, broker, evidence)


def test_the_newest_installation_has_nothing_of_the_page_either(
    wheel: Path, tmp_path: Path
) -> None:
    """And its command line says what each command lacks there."""
    make_environment(tmp_path / "venv", wheel)
    assert _OF_THE_PAGE.isdisjoint(installed(tmp_path / "venv"))
    program = tmp_path / "venv/bin/queuescope"
    helped = subprocess.run([program, "exporter", "--help"], capture_output=True, check=False)
    assert helped.returncode == 0, helped.stderr
    refused = subprocess.run([program, "serve"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "pip install 'queuescope[dashboard]'" in refused.stderr
