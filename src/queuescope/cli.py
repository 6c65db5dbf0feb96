"""The command line: one small program around parts that do the work.

What a command needs is imported when it runs, so that ``--help`` and ``settings`` answer at once.
"""

# ruff: noqa: PLC0415 - imports inside commands are the point, see above

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from queuescope import __version__
from queuescope.errors import QueuescopeError
from queuescope.loop_watchdog import LoopWatchdog
from queuescope.ports import listen, port_of, raise_descriptor_limit, reachable_host
from queuescope.words import counted, to_install


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


# The bare package has what workers and the exporter need.
_EXTRAS = {"demo": "demo"}


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="queuescope")
def main() -> None:
    """One page that answers how a job queue is doing, from the Prometheus that already runs."""


_data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where all state is kept.  [setting: data_dir]",
)
_port_option = click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port of the dashboard; 0 is any free one.  [setting: port]",
)
_prometheus_option = click.option(
    "--prometheus-url", metavar="URL", help="Where Prometheus answers.  [setting: prometheus_url]"
)


@main.command()
@_data_dir_option
@_port_option
@click.option(
    "--history-days",
    type=click.IntRange(0, 90),
    default=14,
    show_default=True,
    help="Days of history that the first start makes.",
)
@click.option("--broker-url", metavar="URL", help="Use this Redis or Valkey, and start none.")
def demo(
    data_dir: Path | None, port: int | None, history_days: int, broker_url: str | None
) -> None:
    """Start a whole platform on this machine, with its dashboard."""
    _override(data_dir=data_dir, port=port)
    from queuescope.settings import load_settings

    settings = load_settings()
    _demand_guarded(settings)
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
        asks_for_key=settings.authentication == "none",
        base_path=settings.base_path,
    )
    run_stack(options, _say)


@main.command()
@click.option("--host", help="Address to listen on.  [setting: host]")
@_port_option
@_prometheus_option
@_data_dir_option
def serve(
    host: str | None, port: int | None, prometheus_url: str | None, data_dir: Path | None
) -> None:
    """Serve the dashboard on a Prometheus that already runs."""
    _override(host=host, port=port, prometheus_url=prometheus_url, data_dir=data_dir)
    from queuescope.settings import load_settings

    settings = load_settings()
    _demand_guarded(settings)
    _demand_key(settings)
    may_move = "port" not in settings.model_fields_set
    with listen(settings.host, settings.port, may_move=may_move) as listener:
        found = port_of(listener)
        if settings.port not in (0, found):
            click.echo(f"Port {settings.port} is busy: the dashboard moves to port {found}.")
        _override(port=found)
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
                    _say(f"Dashboard: {address}{settings.base_path}")
                    if settings.authentication == "none":
                        _say(_way_to_act(settings, address, shows_key=sys.stdout.isatty()))

        from queuescope.dashboard.routes import create_app

        descriptors = raise_descriptor_limit()
        config = uvicorn.Config(
            create_app(load_settings(), knows_peer=True),
            log_level="warning",
            access_log=False,
            http=BoundedHttp,
            # Who is at the other end decides what may be done: no header may say otherwise.
            proxy_headers=False,
            # Whoever comes beyond that is told so; sources and files need descriptors, too.
            limit_concurrency=max(50, (descriptors - _OWN_DESCRIPTORS) // _VIEWER_DESCRIPTORS),
            # Pages keep their connection open for as long as they are looked at.
            timeout_graceful_shutdown=2,
            # A page that refreshes every minute finds its connection still there.
            timeout_keep_alive=75,
        )
        server = Server(config)
        server.run(sockets=[listener])
        if not server.started:
            raise QueuescopeError("the dashboard could not start; the lines above say why")


@main.command()
@_prometheus_option
def check(prometheus_url: str | None) -> None:
    """Ask Prometheus whether it has what the panels need.

    Exit status: 0 each chart has its data, 1 something is missing or counted twice, 2 Prometheus
    cannot be asked.
    """
    _override(prometheus_url=prometheus_url)
    from queuescope.settings import load_settings

    settings = load_settings()
    sys.exit(0 if asyncio.run(_check(settings)) else 1)


async def _check(settings: Any) -> bool:
    from queuescope.connect import connect
    from queuescope.panels import count_once, load_dashboard
    from queuescope.prometheus.matchers import parse_matchers
    from queuescope.prometheus.promql import render_matchers
    from queuescope.view.source.check import SourceCheck

    dashboard = count_once(load_dashboard(settings.preset), settings.replica_labels)
    matchers = render_matchers(parse_matchers(settings.selector))
    async with connect(settings) as client:
        check = SourceCheck(client, dashboard, matchers)
        async for line in check.lines():
            _say(line)
    return check.is_good


# What sources, databases and files take, and what Streamlit opens for each viewer.
_OWN_DESCRIPTORS = 250
_VIEWER_DESCRIPTORS = 4


@main.command()
@click.option("--markdown", is_flag=True, help="Print docs/reference/settings.md.")
def settings(markdown: bool) -> None:
    """List every setting with its default and what it does."""
    rows = list(_setting_rows())
    if not markdown:
        for name, default, description in rows:
            click.echo(f"{name}  [{default}]\n    {description}")
        return
    click.echo(_SETTINGS_HEAD)
    click.echo("| environment variable | in the file | default | what it does |")
    click.echo("| --- | --- | --- | --- |")
    for name, default, description in rows:
        in_file = _file_name(name)
        described = description.replace("|", "\\|")
        click.echo(f"| `{name}` | `{in_file}` | {_cell(default)} | {described} |")


_SETTINGS_HEAD = """\
# Settings

Each setting can stand in the environment or, below it, in a TOML file that `QUEUESCOPE_CONFIG`
names. The environment wins over the file, the file over the default. An unknown name is refused.
This page is printed by `queuescope settings --markdown`.
"""


def _setting_rows() -> Iterable[tuple[str, str, str]]:
    from queuescope.environment import environment_name
    from queuescope.settings import Settings

    for name, setting in Settings.model_fields.items():
        default = _DEFAULT_WORDS.get(name)
        if default is None:
            value = setting.get_default(call_default_factory=True, validated_data={})
            value = getattr(value, "get_secret_value", lambda v=value: v)()
            default = "none" if value in (None, "", [], {}) else str(value)
        yield environment_name(name), default, setting.description or ""


# What the machine decides reads the same in every copy of the documentation.
_DEFAULT_WORDS = {"data_dir": "~/.local/state/queuescope"}


def _file_name(environment: str) -> str:
    return environment.removeprefix("QUEUESCOPE_").lower()


def _cell(default: str) -> str:
    return "none" if default == "none" else f"`{default}`"


@main.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
def exporter(ctx: click.Context) -> None:
    """Serve queue depth, oldest age and live workers to Prometheus."""
    from queuescope.instrument.exporter import main as run

    sys.exit(run(ctx.args))


@main.group()
def audit() -> None:
    """Read the record of what operators did, and prove that it is whole."""


@audit.command("verify")
@click.option("--head", metavar="SEQ:HASH", default="", help="A head that was noted before.")
def audit_verify(head: str) -> None:
    """Walk the whole chain, and say where it was changed.

    Prints the head; noted elsewhere, it proves later that no entry before it was exchanged. Exit
    status: 0 whole, 1 changed, 2 it cannot be read.
    """
    with _store() as store:
        found = store.verify(expected_head=head)
    if found.fault:
        click.echo(f"The audit was changed: {found.fault}.", err=True)
        sys.exit(1)
    if not found.entries:
        click.echo("The audit is empty: nothing was done yet, or this is another database.")
        return
    click.echo(f"{counted(found.entries, 'entry', 'entries')}, all in place.\nhead {found.head}")


_search_options = [
    click.option("--text", default="", help="Words in any column."),
    click.option("--target", default="", help="Words of the target, such as a queue's name."),
    click.option("--operation", default="", help="Such as pause or purge."),
    click.option("--actor", default="", help="Who did it."),
    click.option("--result", default="", help="done, refused, failed, unknown or pending."),
]


def _searching(command: Any) -> Any:
    for option in reversed(_search_options):
        command = option(command)
    return command


@audit.command("list")
@_searching
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
def audit_list(limit: int, **search: Any) -> None:
    """Print the newest entries, newest first."""
    from queuescope.operations.audit import Search
    from queuescope.shown_text import shown

    with _store() as store:
        for entry in store.find(Search(**search), limit=limit):
            event = entry.event
            # Whoever may write to the database could otherwise give orders to the terminal.
            click.echo(
                shown(
                    f"{entry.seq}  {_utc(event.at_ms)}  {event.actor} ({event.role})  "
                    f"{event.operation} {event.target}  {event.phase}: {event.result}  "
                    f"{event.detail}"
                )
            )


def _utc(at_ms: float) -> str:
    """ISO 8601; of what is no time of this calendar, the milliseconds."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1000))
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"


@audit.command("export")
@_searching
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; without it, standard output.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl"]),
    default="csv",
    show_default=True,
    help="CSV in which no cell begins a formula, or a line of JSON for each entry.",
)
def audit_export(output: Path | None, kind: str, **search: Any) -> None:
    """Write the entries to a file, oldest first."""
    from queuescope.operations.audit import Search

    with _store() as store:
        wanted = Search(**search)
        lines = store.export_csv(wanted) if kind == "csv" else store.export_json(wanted)
        if output is None:
            for line in lines:
                click.echo(line, nl=False)
            return
        try:
            with output.open("w", encoding="utf-8", newline="") as file:
                file.writelines(lines)
        except OSError as exc:
            raise QueuescopeError(f"cannot write {output}: {exc.strerror}") from exc


@contextmanager
def _store() -> Iterator[Any]:
    from queuescope.operations.store import OperationsStore
    from queuescope.settings import load_settings, operations_store_address

    settings = load_settings()
    with closing(OperationsStore(operations_store_address(settings))) as store:
        yield store


def _demand_guarded(settings: Any) -> None:
    from queuescope.dashboard.auth.identity import check_exposure

    check_exposure(settings)


def _way_to_act(settings: Any, address: str, *, shows_key: bool) -> str:
    """How a browser comes by the operator's key. It goes to a terminal, and to no log."""
    from queuescope.operator_key import PARAMETER, operator_key

    key = operator_key(settings.data_dir)
    if shows_key or not key.path.exists():
        return f"To act: {key.link(address + settings.base_path)}"
    return f"To act: the address with /?{PARAMETER}= and what {key.path} holds"


def _demand_key(settings: Any) -> None:
    """Raises ``ConfigurationError`` where a key is asked for and its file holds none."""
    from queuescope.operator_key import operator_key

    if settings.authentication == "none":
        _ = operator_key(settings.data_dir).value


def _override(**options: object) -> None:
    """Options win over the environment; settings, and every process we start, read that."""
    from queuescope.environment import environment_name

    for name, value in options.items():
        if value is not None:
            os.environ[environment_name(name)] = str(value)
            if name == "prometheus_url":
                os.environ.pop("QUEUESCOPE_PROMETHEUS_URL", None)


def _say(line: str) -> None:
    # A terminal that has gone must not end what runs.
    try:
        print(line, flush=True)
    except OSError:
        return


if __name__ == "__main__":
    main(prog_name="queuescope")
