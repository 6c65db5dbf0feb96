"""``queuescope settings``: lists each setting with its default and description."""

# ruff: noqa: PLC0415 - imported when the command runs, so that --help answers at once

from __future__ import annotations

from collections.abc import Iterable

import click


@click.command()
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

Set each setting in the environment, or in the TOML file that `QUEUESCOPE_CONFIG` names. The
environment overrides the file, and the file overrides the default. An unknown name is rejected.
`queuescope settings --markdown` prints this page.
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


# Defaults that depend on the machine have fixed text in the documentation.
_DEFAULT_WORDS = {"data_dir": "~/.local/state/queuescope"}


def _file_name(environment: str) -> str:
    return environment.removeprefix("QUEUESCOPE_").lower()


def _cell(default: str) -> str:
    return "none" if default == "none" else f"`{default}`"
