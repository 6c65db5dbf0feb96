"""The public names and their arguments. A change here is a breaking change."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys

import pytest
from tests.environments import PROJECT

PUBLIC = {
    "queuescope": {"__version__"},
    "queuescope.instrument": {"WorkerTimings", "instrument"},
    "queuescope.prometheus": {"InstantAnswer", "InstantSample", "PrometheusClient"},
}
ARGUMENTS = {
    ("queuescope.instrument", "instrument"): (
        *("app", "namespace", "subsystem", "metrics_port", "metrics_host", "job_store_url"),
        *("tenant_of", "tenants", "queues", "operations", "retry", "keep_arguments", "redact"),
        "timings",
    ),
    ("queuescope.prometheus", "PrometheusClient"): (
        *("url", "username", "password", "token", "token_file", "headers", "parameters"),
        *("ca_file", "client_cert", "client_key", "timeout_seconds"),
    ),
}


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_module_exports_what_it_did(module: str) -> None:
    found = importlib.import_module(module)
    assert set(found.__all__) == PUBLIC[module]
    for name in PUBLIC[module]:
        assert getattr(found, name) is not None


@pytest.mark.parametrize(("module", "name"), ARGUMENTS)
def test_a_public_call_takes_what_it_did(module: str, name: str) -> None:
    """All but the first by name, and with a default: more may be added behind them."""
    called = getattr(importlib.import_module(module), name)
    assert called.__doc__
    parameters = inspect.signature(called).parameters
    assert set(ARGUMENTS[module, name]) <= set(parameters)
    first, *others = parameters.values()
    assert first.name == ARGUMENTS[module, name][0]
    assert all(one.kind is one.KEYWORD_ONLY for one in others)
    assert all(one.default is not one.empty for one in others)


def test_the_documentation_imports_public_names_alone() -> None:
    files = [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")]
    imported = {
        (module, name.strip())
        for file in files
        for module, names in re.findall(
            r"^from (queuescope[\w.]*) import (.+)$", file.read_text("utf-8"), re.MULTILINE
        )
        for name in names.split(",")
    }
    assert imported
    assert {(m, n) for m, n in imported if n not in PUBLIC.get(m, ())} == set()


def test_a_worker_without_a_history_loads_no_database_and_nothing_of_the_page() -> None:
    lines = (
        "import sys, celery, queuescope.instrument as it",
        "it.instrument(celery.Celery('shop', set_as_current=False))",
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))",
    )
    environment = {"PATH": "/usr/bin:/bin"}
    program = [sys.executable, "-c", "\n".join(lines)]
    loaded = set(subprocess.check_output(program, env=environment, text=True).split())
    assert "kombu" in loaded
    assert loaded.isdisjoint(
        {"sqlalchemy", "streamlit", "pydantic", "numpy", "pandas", "httpx2", "cachetools"}
    )
