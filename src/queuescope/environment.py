"""Where settings stand: in the environment or, below it, in the file that ``$QUEUESCOPE_CONFIG``
names.

Workers and the exporter read theirs here, with nothing but Python; ``settings`` reads all of them
for the dashboard, and says of each what it is.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from queuescope.errors import ConfigurationError

CONFIG = "QUEUESCOPE_CONFIG"
DEFAULT_BROKER_URL = "redis://127.0.0.1:6379/0"


def environment_name(setting: str) -> str:
    """The environment variable that sets ``setting``."""
    return "PROMETHEUS_URL" if setting == "prometheus_url" else f"QUEUESCOPE_{setting.upper()}"


def config_file() -> Path | None:
    """The file of settings, if there is one."""
    return Path(name) if (name := os.environ.get(CONFIG)) else None


def read_file(path: Path | None) -> dict[str, Any]:
    """The settings in that file. Raises ``ConfigurationError`` for one that cannot be read."""
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"cannot read {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path} is not valid TOML: {exc}") from exc


def read_setting(name: str) -> Any:
    """The text in the environment, else what the file holds, else ``None``; not checked.

    Raises ``ConfigurationError`` for a file that cannot be read.
    """
    text = os.environ.get(environment_name(name))
    return text if text is not None else read_file(config_file()).get(name)


def place_of(setting: str, path: Path | None = None) -> str:
    """Where ``setting`` stands, for an error: a variable, or its name in the file."""
    for variable in (environment_name(setting), f"QUEUESCOPE_{setting.upper()}"):
        if variable in os.environ:
            return f"environment: {variable}"
    return f"{path or config_file()}: {setting}"


def names_in(value: object, otherwise: str) -> list[str]:
    """The names in ``value``, which are separated by commas or a list already; raises
    ``ValueError`` with ``otherwise``.
    """
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(otherwise)
    return [name.strip() for name in names if name.strip()]
