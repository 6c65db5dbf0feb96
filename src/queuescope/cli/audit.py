"""``queuescope audit``: reads and verifies the audit."""

# ruff: noqa: PLC0415 - imported when the command runs, so that --help answers at once

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click

from queuescope.errors import QueuescopeError
from queuescope.words import counted


@click.group()
def audit() -> None:
    """Read the audit of all operations, and prove that it is intact."""


@audit.command("verify")
@click.option("--head", metavar="SEQ:HASH", default="", help="A head that was printed earlier.")
def audit_verify(head: str) -> None:
    """Verify the whole chain, and print where it was changed.

    Prints the head. Kept elsewhere, it proves later that no entry before it was replaced. Exit
    status: 0 intact, 1 changed, 2 cannot be read.
    """
    with _audit() as audit:
        found = audit.verify(expected_head=head)
    if found.fault:
        click.echo(f"The audit was changed: {found.fault}.", err=True)
        sys.exit(1)
    if not found.entries:
        click.echo("The audit is empty: there were no operations yet, or this is another database.")
        return
    click.echo(f"{counted(found.entries, 'entry', 'entries')}, all intact.\nhead {found.head}")


_search_options = [
    click.option("--text", default="", help="Text in any column."),
    click.option("--target", default="", help="Text in the target, such as a queue's name."),
    click.option("--operation", default="", help="For example pause or purge."),
    click.option("--actor", default="", help="The operator."),
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

    with _audit() as audit:
        for entry in audit.find(Search(**search), limit=limit):
            event = entry.event
            # Text in the database must not contain control sequences for the terminal.
            click.echo(
                shown(
                    f"{entry.seq}  {_utc(event.at_ms)}  {event.actor} ({event.role})  "
                    f"{event.operation} {event.target}  {event.phase}: {event.result}  "
                    f"{event.detail}"
                )
            )


def _utc(at_ms: float) -> str:
    """ISO 8601; for a time outside the calendar, the milliseconds."""
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
    help="CSV without spreadsheet formulas, or one line of JSON per entry.",
)
def audit_export(output: Path | None, kind: str, **search: Any) -> None:
    """Write the entries to a file, oldest first."""
    from queuescope.operations.audit import Search

    with _audit() as audit:
        wanted = Search(**search)
        lines = audit.export_csv(wanted) if kind == "csv" else audit.export_json(wanted)
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
def _audit() -> Iterator[Any]:
    from queuescope.operations.store import OperationsStore
    from queuescope.settings import load_settings, operations_store_address

    settings = load_settings()
    with closing(OperationsStore(operations_store_address(settings))) as store:
        yield store.audit
