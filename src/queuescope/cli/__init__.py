"""The command line: a module for each command.

A command imports what it needs when it runs, so that ``--help`` and ``settings`` are fast.
"""

from __future__ import annotations

from typing import Any, NoReturn

import click

from queuescope import __version__
from queuescope.cli.audit import audit
from queuescope.cli.check import check
from queuescope.cli.demo import demo
from queuescope.cli.exporter import exporter
from queuescope.cli.serve import serve
from queuescope.cli.settings import settings
from queuescope.errors import QueuescopeError
from queuescope.words import to_install


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except QueuescopeError as error:
            return _refuse(ctx, str(error))
        except ModuleNotFoundError as error:
            if (error.name or "queuescope").startswith("queuescope"):
                raise
            extra = _EXTRAS.get(ctx.invoked_subcommand or "", "dashboard")
            return _refuse(
                ctx,
                f"{ctx.invoked_subcommand} needs {error.name}, which is not installed; "
                f"{to_install(extra)}",
            )


def _refuse(ctx: click.Context, cause: str) -> NoReturn:
    click.echo(f"queuescope: {cause}", err=True)
    ctx.exit(2)


# The package without extras contains what workers and the exporter need.
_EXTRAS = {"demo": "demo"}


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="queuescope")
def main() -> None:
    """One page that shows how a job queue is doing, from the Prometheus that already runs."""


for command in (demo, serve, check, settings, exporter, audit):
    main.add_command(command)
