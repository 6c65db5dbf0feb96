"""Reads settings from the environment or else from the file that ``$QUEUESCOPE_CONFIG`` names.

Workers and the exporter use it, since it needs no other package; ``settings`` reads and describes
all settings for the dashboard.
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
    """The settings in that file. Raises ``ConfigurationError`` if it cannot be read."""
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"cannot read {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path} is not valid TOML: {exc}") from exc


def read_setting(name: str) -> Any:
    """The value in the environment, else in the file, else ``None``; not validated.

    Raises ``ConfigurationError`` if the file cannot be read.
    """
    text = os.environ.get(environment_name(name))
    return text if text is not None else read_file(config_file()).get(name)


def place_of(setting: str, path: Path | None = None) -> str:
    """Where ``setting`` is set, for an error message: a variable, or its name in the file."""
    for variable in (environment_name(setting), f"QUEUESCOPE_{setting.upper()}"):
        if variable in os.environ:
            return f"environment: {variable}"
    return f"{path or config_file()}: {setting}"


def names_in(value: object, otherwise: str) -> list[str]:
    """The names in ``value``, a list or text separated by commas; raises ``ValueError`` with the
    message ``otherwise``.
    """
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(otherwise)
    return [name.strip() for name in names if name.strip()]
