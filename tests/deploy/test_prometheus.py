"""The project's Prometheus configuration and rules, checked by Prometheus' own tools."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import promql_parser
import pytest
from tests.metric_names import series_names

DIRECTORY = Path(__file__).parents[2] / "deploy" / "prometheus"
RULE_FILES = sorted((DIRECTORY / "rules").glob("*.rules.yml"))
TEST_FILES = sorted((DIRECTORY / "tests").glob("*.test.yml"))
# What Prometheus itself writes for each target.
OWN = {"up"}

RULES = "\n".join(file.read_text("utf-8") for file in RULE_FILES)
TESTS = "\n".join(file.read_text("utf-8") for file in TEST_FILES)
ALERTS = re.findall(r"^ *- alert: (\w+)$", RULES, re.MULTILINE)
RECORDED = set(re.findall(r"^ *- record: (\S+)$", RULES, re.MULTILINE))
# One line, or a block of lines that are indented deeper.
EXPRESSIONS = re.findall(r"^        expr: (?:\|\n((?: {10}.*\n)+)|(.+)$)", RULES, re.MULTILINE)


def promtool(*arguments: object) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def names_in(expression: str) -> set[str]:
    """Every metric name in an expression."""
    text = str(promql_parser.parse(expression))
    without_strings = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    return set(re.findall(r"(?<![\w:])(?:\w+:)?(?:ai_agents_|up\b)[\w:]*", without_strings))


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    copied = tmp_path / "prometheus"
    shutil.copytree(DIRECTORY, copied)
    promtool("check", "config", copied / "prometheus.yml")


@pytest.mark.parametrize("file", RULE_FILES, ids=lambda file: file.name)
def test_the_rules_are_valid(file: Path) -> None:
    promtool("check", "rules", file)


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.name)
def test_the_rules_do_what_their_tests_say(file: Path) -> None:
    promtool("test", "rules", file)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_shown_to_fire_and_to_stay_quiet(alert: str) -> None:
    quiet = rf"alertname: {alert}, exp_alerts: \[\]"
    fires = rf"alertname: {alert}\n +exp_alerts:\n +- exp_labels"
    assert re.search(quiet, TESTS), f"{alert} is never shown to stay quiet"
    assert re.search(fires, TESTS), f"{alert} is never shown to fire"


def test_every_rule_has_been_read() -> None:
    assert len(EXPRESSIONS) == len(ALERTS) + len(RECORDED) > 0


@pytest.mark.parametrize(("block", "line"), EXPRESSIONS)
def test_rules_ask_only_for_what_something_exports(block: str, line: str) -> None:
    names = names_in(block or line)
    assert names
    assert names <= series_names() | RECORDED | OWN


def test_the_scrape_interval_is_what_the_page_counts_on() -> None:
    configuration = (DIRECTORY / "prometheus.yml").read_text("utf-8")
    assert "scrape_interval: 15s" in configuration
    assert "evaluation_interval: 15s" in configuration
