"""``queuescope demo``: runs a whole platform on this machine."""

# ruff: noqa: PLC0415 - imported when the command runs, so that --help answers at once

from __future__ import annotations

from pathlib import Path

import click

from queuescope.cli.options import data_dir_option, override, port_option, say


@click.command()
@data_dir_option
@port_option
@click.option(
    "--history-days",
    type=click.FloatRange(0, 90),
    default=14,
    show_default=True,
    help="Days of history that the first start generates.",
)
@click.option(
    "--broker-url", metavar="URL", help="Use this Redis or Valkey instead of starting one."
)
def demo(
    data_dir: Path | None, port: int | None, history_days: float, broker_url: str | None
) -> None:
    """Start a whole platform on this machine, with its dashboard."""
    override(data_dir=data_dir, port=port)
    from queuescope.dashboard.auth.identity import check_exposure
    from queuescope.settings import load_settings

    settings = load_settings()
    check_exposure(settings)
    from queuescope.demo.stack import StackOptions, run_stack

    if broker_url is None and "broker_url" in settings.model_fields_set:
        broker_url = settings.broker_url.get_secret_value()
    options = StackOptions(
        data_dir=settings.data_dir,
        host=settings.host,
        port=settings.port,
        port_may_move="port" not in settings.model_fields_set,
        history_days=history_days,
        broker_url=broker_url,
        requires_key=settings.authentication == "none",
        base_path=settings.base_path,
    )
    run_stack(options, say)
