"""``queuescope exporter``: exports the state of the broker to Prometheus."""

# ruff: noqa: PLC0415 - imported when the command runs, so that --help answers at once

from __future__ import annotations

import sys

import click


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
def exporter(ctx: click.Context) -> None:
    """Serve queue depth, oldest age and live workers to Prometheus."""
    from queuescope.instrument.exporter import main as run

    sys.exit(run(ctx.args))
