"""``queuescope serve``: serves the dashboard for an existing Prometheus."""

# ruff: noqa: PLC0415 - imported when the command runs, so that --help answers at once

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click

from queuescope.cli.options import data_dir_option, override, port_option, prometheus_option, say
from queuescope.errors import QueuescopeError
from queuescope.loop_watchdog import LoopWatchdog
from queuescope.ports import listen, port_of, raise_descriptor_limit, reachable_host

# Descriptors for sources, databases and files, and those that Streamlit opens for each viewer.
_OWN_DESCRIPTORS = 250
_VIEWER_DESCRIPTORS = 4


@click.command()
@click.option("--host", help="Address to listen on.  [setting: host]")
@port_option
@prometheus_option
@data_dir_option
def serve(
    host: str | None, port: int | None, prometheus_url: str | None, data_dir: Path | None
) -> None:
    """Serve the dashboard for an existing Prometheus."""
    override(host=host, port=port, prometheus_url=prometheus_url, data_dir=data_dir)
    from queuescope.dashboard.auth.identity import check_exposure
    from queuescope.settings import load_settings

    settings = load_settings()
    check_exposure(settings)
    _check_key(settings)
    may_move = "port" not in settings.model_fields_set
    with listen(settings.host, settings.port, may_move=may_move) as listener:
        found = port_of(listener)
        if settings.port not in (0, found):
            click.echo(f"Port {settings.port} is busy; the dashboard uses port {found}.")
        import uvicorn

        from queuescope.dashboard.bounded_http import LONGEST_HEAD, BoundedHttp

        # One header may be as long as all of them.
        os.environ.setdefault("WEBSOCKETS_MAX_LINE_LENGTH", str(LONGEST_HEAD))

        class Server(uvicorn.Server):
            async def startup(self, sockets: Any = None) -> None:
                await super().startup(sockets)
                if self.started:
                    LoopWatchdog(asyncio.get_running_loop()).start()
                    address = f"http://{reachable_host(settings.host)}:{found}"
                    say(f"Dashboard: {address}{settings.base_path}")
                    if settings.authentication == "none":
                        say(key_hint(settings, address, shows_key=sys.stdout.isatty()))

        from queuescope.dashboard.routes import create_app

        descriptors = raise_descriptor_limit()
        config = uvicorn.Config(
            create_app(settings, knows_peer=True),
            log_level="warning",
            access_log=False,
            http=BoundedHttp,
            # Rights depend on the peer's address, which no header may change.
            proxy_headers=False,
            # Further requests are refused, since sources and files need descriptors, too.
            limit_concurrency=max(50, (descriptors - _OWN_DESCRIPTORS) // _VIEWER_DESCRIPTORS),
            # Open pages keep their connection.
            timeout_graceful_shutdown=2,
            # Longer than the refresh interval of a minute, so that pages reuse their connection.
            timeout_keep_alive=75,
        )
        server = Server(config)
        server.run(sockets=[listener])
        if not server.started:
            raise QueuescopeError("the dashboard could not start; the lines above say why")


def key_hint(settings: Any, address: str, *, shows_key: bool) -> str:
    """How a browser gets the operator's key. The key is printed on a terminal, but not to a log."""
    from queuescope.operator_key import PARAMETER, operator_key

    key = operator_key(settings.data_dir)
    if shows_key or not key.path.exists():
        return f"To act: {key.link(address + settings.base_path)}"
    return f"To act: the address with /?{PARAMETER}= and the content of {key.path}"


def _check_key(settings: Any) -> None:
    """Raises ``ConfigurationError`` if a key is required and its file contains none."""
    from queuescope.operator_key import operator_key

    if settings.authentication == "none":
        _ = operator_key(settings.data_dir).value
