from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.conftest import StartPrometheus
from tests.prepared_python import run_python

from queuescope.environment import environment_name
from queuescope.operations.access import Actor, Origin, Role
from queuescope.operations.request import Request
from queuescope.operations.store import OperationsStore
from queuescope.ports import listen, port_of
from queuescope.settings import Settings

PROJECT = Path(__file__).parents[1]


def run_cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_python("queuescope.cli", *arguments, **environment)


@pytest.mark.parametrize("command", ["demo", "serve", "check", "settings", "audit"])
def test_each_command_has_help(command: str) -> None:
    done = run_cli(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: queuescope {command}")


def test_the_exporters_help_is_its_own() -> None:
    assert "--queues" in run_cli("exporter", "--help").stdout


def test_help_does_not_import_what_it_does_not_need() -> None:
    program = (
        "import sys; from queuescope.cli import main; main(['--help'], standalone_mode=False);"
        "print(sorted({'streamlit', 'celery', 'numpy', 'uvicorn', 'httpx2'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_option_is_told_with_the_nearest() -> None:
    done = run_cli("demo", "--prot", "1")
    assert done.returncode == 2
    assert "--port" in done.stderr


def test_a_wrong_setting_is_one_line_without_a_traceback() -> None:
    done = run_cli("check", QUEUESCOPE_PRESETT="flower")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "queuescope: environment: unknown setting QUEUESCOPE_PRESETT, "
        "did you mean 'QUEUESCOPE_PRESET'?\n"
    )


def test_an_option_wins_over_the_environment() -> None:
    done = run_cli("check", "--prometheus-url", "ftp://x", PROMETHEUS_URL="http://127.0.0.1:1")
    assert done.returncode == 2
    assert "must be an http:// or https:// address" in done.stderr


def test_every_setting_is_listed() -> None:
    listed = run_cli("settings").stdout
    for name in Settings.model_fields:
        assert environment_name(name) in listed


def test_the_documentation_of_the_settings_is_current() -> None:
    documented = (PROJECT / "docs" / "reference" / "settings.md").read_text("utf-8")
    printed = run_cli("settings", "--markdown").stdout
    assert documented == printed, "queuescope settings --markdown > docs/reference/settings.md"


def test_secrets_do_not_show_in_the_list_of_settings() -> None:
    listed = run_cli(
        "settings",
        QUEUESCOPE_PROMETHEUS_TOKEN="canary",
        QUEUESCOPE_BROKER_URL="redis://:canary@127.0.0.1:6379/0",
    )
    assert "canary" not in listed.stdout + listed.stderr


def test_check_counts_the_series_of_every_panel(start_prometheus: StartPrometheus) -> None:
    now = int(time.time())
    metrics = [
        "ai_agents_queue_depth",
        "ai_agents_enhancement_success_rate",
        "ai_agents_enhancement_jobs_total",
        "ai_agents_enhancement_latency_seconds_bucket",
    ]
    series = {f'{name}{{queue="{q}"}}': ([now - 60], [1.0]) for name in metrics for q in "ab"}
    done = run_cli("check", "--prometheus-url", start_prometheus(series=series).url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^Prometheus \d+\.\d+", done.stdout)
    for name in metrics:
        assert f"{name}: 2 series" in done.stdout


def test_check_names_what_is_missing(start_prometheus: StartPrometheus) -> None:
    series = {"ai_agents_queue_depth": ([int(time.time()) - 60], [1.0])}
    done = run_cli("check", "--prometheus-url", start_prometheus(series=series).url)
    assert done.returncode == 1
    assert "ai_agents_queue_depth: 1 series" in done.stdout
    assert "ai_agents_enhancement_success_rate: nothing" in done.stdout
    assert "3 of the metrics have no samples" in done.stdout


def test_check_without_a_prometheus_is_one_line() -> None:
    with listen("127.0.0.1", 0, may_move=False) as free:
        url = f"http://127.0.0.1:{port_of(free)}"
    done = run_cli("check", "--prometheus-url", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


class Served:
    """``queuescope serve`` in its own process."""

    def __init__(self, data_dir: Path, *arguments: str, **environment: str) -> None:
        argv = [sys.executable, "-P", "-m", "queuescope.cli", "serve"]
        self.process = subprocess.Popen(
            [*argv, "--data-dir", str(data_dir), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PROMETHEUS_URL": "http://127.0.0.1:1", **environment},
        )
        assert self.process.stdout is not None
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if line.startswith("Dashboard: "):
                break

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return self.process.wait()


@pytest.fixture
def served() -> Iterator[list[Served]]:
    running: list[Served] = []
    yield running
    for server in running:
        server.stop()


def test_serve_answers_where_it_says_and_ends_on_sigterm(
    served: list[Served], tmp_path: Path
) -> None:
    served.append(Served(tmp_path, "--port", "0"))
    url = served[0].lines[-1].removeprefix("Dashboard: ")
    with urllib.request.urlopen(f"{url}/healthz", timeout=60) as response:  # noqa: S310 - ours
        assert response.read().strip() == b"ok"
    # Output that is not a terminal may be a log, which must not contain secrets.
    kept = tmp_path / "operator-key"
    key, stdout = kept.read_text("ascii").strip(), served[0].process.stdout
    assert stdout is not None
    line = stdout.readline()
    assert line.startswith("To act: ")
    assert str(kept) in line
    assert key not in line
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert served.pop().stop() in (0, -signal.SIGTERM)


def test_a_damaged_operator_key_is_said_before_anything_is_served(tmp_path: Path) -> None:
    (tmp_path / "operator-key").write_text("short\n", "ascii")
    done = run_cli("serve", "--data-dir", str(tmp_path), "--prometheus-url", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert "operator-key does not contain a key of 32 to 128 letters" in done.stderr


def test_serve_refuses_a_busy_port_that_was_asked_for(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0, may_move=False) as busy:
        port = port_of(busy)
        done = run_cli("serve", "--data-dir", str(tmp_path), QUEUESCOPE_PORT=str(port))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port} on 127.0.0.1 is busy" in done.stderr


@pytest.mark.parametrize("command", [["check"], ["serve", "--port", "0"]])
def test_credentials_that_contradict_each_other_are_one_line(
    command: list[str], tmp_path: Path
) -> None:
    done = run_cli(
        *command,
        QUEUESCOPE_DATA_DIR=str(tmp_path),
        QUEUESCOPE_PROMETHEUS_TOKEN="canary",
        QUEUESCOPE_PROMETHEUS_USERNAME="ops",
        QUEUESCOPE_PROMETHEUS_PASSWORD="canary",
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "queuescope: prometheus_password and prometheus_token contradict each other; "
        "set one of them\n"
    )


def test_a_setting_that_the_dashboard_refuses_is_one_line(tmp_path: Path) -> None:
    done = run_cli("serve", "--port", "0", "--data-dir", str(tmp_path), QUEUESCOPE_PRESET="flowr")
    assert done.returncode == 2
    assert done.stderr.startswith("queuescope: unknown preset 'flowr'")


@pytest.fixture
def audited(tmp_path: Path) -> str:
    """The address of an audit with two entries, one of which looks like a formula."""
    url = f"sqlite:///{tmp_path / 'operations.db'}"
    with closing(OperationsStore(url)) as store:
        for name, words in (("ada", "too late"), ("bob", "=SUM(A1)")):
            actor = Actor(name, Origin.OIDC)
            store.refuse(actor, Role.VIEWER, Request.pause("default"), words)
    return url


def test_a_whole_audit_is_verified_listed_and_exported(audited: str, tmp_path: Path) -> None:
    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_cli("audit", *arguments, QUEUESCOPE_OPERATIONS_STORE_URL=audited)

    verified = ask("verify")
    assert verified.returncode == 0, verified.stderr
    said, head = verified.stdout.splitlines()
    assert said == "2 entries, all intact."
    assert ask("verify", "--head", head.removeprefix("head ")).returncode == 0
    assert ask("verify", "--head", f"2:{'0' * 64}").returncode == 1
    listed = ask("list", "--actor", "ada").stdout.splitlines()
    assert len(listed) == 1
    assert "ada (viewer)  pause queue default  outcome: refused  too late" in listed[0]
    assert ask("export", "--text", "sum").stdout.count("'=SUM(A1)") == 1
    assert len(ask("list", "--target", "DEFAULT").stdout.splitlines()) == 2
    (line,) = ask("export", "--text", "sum", "--format", "jsonl").stdout.splitlines()
    assert json.loads(line)["detail"] == "=SUM(A1)"
    assert ask("export", "--output", str(tmp_path / "audit.csv")).returncode == 0
    assert len((tmp_path / "audit.csv").read_text("utf-8").splitlines()) == 3
    assert ask("export", "--output", str(tmp_path / "none" / "x")).returncode == 2


def test_a_changed_audit_is_told_by_the_exit_status(audited: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "operations.db")) as forger:
        forger.execute("DROP TRIGGER operations_audit_no_update")
        forger.execute("UPDATE operations_audit SET actor = 'eve' WHERE seq = 2")
        forger.commit()
    done = run_cli("audit", "verify", QUEUESCOPE_OPERATIONS_STORE_URL=audited)
    assert done.returncode == 1
    assert done.stderr == "The audit was changed: entry 2 was changed.\n"


def test_an_audit_that_cannot_be_read_is_no_whole_one() -> None:
    done = run_cli(
        "audit",
        "verify",
        QUEUESCOPE_OPERATIONS_STORE_URL="postgresql://user:c4n4ry@127.0.0.1:9/none",
    )
    assert done.returncode == 2
    assert done.stderr.startswith("queuescope: the audit (PostgreSQL database none at 127.0.0.1:9)")
    assert "c4n4ry" not in done.stderr


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_an_open_address_without_authentication_is_refused(command: str) -> None:
    done = run_cli(command, QUEUESCOPE_HOST="0.0.0.0")
    assert done.returncode == 2
    assert "QUEUESCOPE_AUTHENTICATION=public" in done.stderr
