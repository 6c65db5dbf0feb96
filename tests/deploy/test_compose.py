"""What can be said of the container files without a container engine: that they agree."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from queuescope.settings import Settings, environment_name

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = (DEPLOY / "compose" / "compose.yaml").read_text("utf-8")
CONTAINERFILE = (DEPLOY / "compose" / "Containerfile").read_text("utf-8")
SERVICES = re.findall(r"^  ([\w-]+):\n    (?:image|<<)", COMPOSE, re.MULTILINE)


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
    brokers = re.findall(r"QUEUESCOPE_BROKER_URL: (\S+)", COMPOSE)
    histories = re.findall(r"QUEUESCOPE_JOB_STORE_URL: sqlite:///(\S+)", COMPOSE)
    assert brokers == ["redis://broker:6379/0"] * 2
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
    # What was compiled here is for another Python.
    assert "**/*.so" in lines


def test_settings_in_the_files_exist() -> None:
    of_workers = {"QUEUESCOPE_METRICS_HOST", "QUEUESCOPE_METRICS_PORT"}
    known = {environment_name(name) for name in Settings.model_fields} | of_workers
    assert set(re.findall(r"QUEUESCOPE_[A-Z_]+", COMPOSE + CONTAINERFILE)) <= known
