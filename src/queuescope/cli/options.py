"""Options and output that several commands share."""

from __future__ import annotations

import os
from pathlib import Path

import click

from queuescope.environment import environment_name

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for all state.  [setting: data_dir]",
)
port_option = click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port of the dashboard; 0 takes any free port.  [setting: port]",
)
prometheus_option = click.option(
    "--prometheus-url", metavar="URL", help="Address of Prometheus.  [setting: prometheus_url]"
)


def override(**options: object) -> None:
    """Write options to the environment, from which settings and child processes are read."""
    for name, value in options.items():
        if value is not None:
            os.environ[environment_name(name)] = str(value)
            if name == "prometheus_url":
                os.environ.pop("QUEUESCOPE_PROMETHEUS_URL", None)


def say(line: str) -> None:
    # A closed terminal must not end the program.
    try:
        print(line, flush=True)
    except OSError:
        return
