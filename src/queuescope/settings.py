"""One table of settings: environment over file over default.

Only the composition roots (dashboard, command line, demo) read it; every other part takes plain
arguments. Workers and the exporter read theirs through ``environment``, which needs no package.
``docs/reference/settings.md`` is generated from this module.
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from rapidfuzz import fuzz, process

from queuescope.environment import (
    CONFIG,
    DEFAULT_BROKER_URL,
    config_file,
    names_in,
    place_of,
    read_file,
)
from queuescope.errors import ConfigurationError

RefreshSeconds = Literal[0, 10, 30, 60, 300]
REFRESH_CHOICES: tuple[int, ...] = get_args(RefreshSeconds)
Range = Literal["1h", "6h", "24h", "7d"]
Authentication = Literal["none", "public", "proxy", "oidc"]


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "queuescope"


# The dashboard’s own addresses begin so.
_OWN_PATHS = frozenset(
    {
        *("jobs", "workers", "operations", "queuescope", "healthz", "readyz", "metrics"),
        *("_stcore", "static", "media", "auth", "oauth2callback"),
    }
)


class Settings(BaseSettings):
    """Everything that can be set, with its default and what it does."""

    model_config = SettingsConfigDict(
        env_prefix="QUEUESCOPE_", extra="forbid", populate_by_name=True, frozen=True
    )

    prometheus_url: Annotated[
        str,
        Field(
            default="http://127.0.0.1:9090",
            validation_alias=AliasChoices("PROMETHEUS_URL", "QUEUESCOPE_PROMETHEUS_URL"),
            description="Address of Prometheus or of a server with its HTTP API; may have a path.",
        ),
    ]
    prometheus_username: str | None = Field(
        default=None, description="User for Prometheus (basic authentication)."
    )
    prometheus_password: SecretStr | None = Field(
        default=None, description="Password of that user."
    )
    prometheus_token: SecretStr | None = Field(
        default=None, description="Bearer token for Prometheus."
    )
    prometheus_token_file: Path | None = Field(
        default=None,
        description="File with the bearer token; it is read again for each request.",
    )
    prometheus_headers: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default_factory=dict,
        description="Headers for Prometheus, such as `X-Scope-OrgID=blue`, separated by commas; in "
        "the file also a table.",
    )
    prometheus_parameters: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default_factory=dict,
        description="Parameters in the address of every request to Prometheus, such as "
        "`namespace=blue` for a proxy that requires it, separated by commas; in the file also a "
        "table. They may also be in the query string of `prometheus_url`.",
    )
    prometheus_ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authorities that are trusted for the certificate of "
        "Prometheus, instead of those of the system.",
    )
    prometheus_client_cert: Path | None = Field(
        default=None, description="PEM file of the client certificate for Prometheus."
    )
    prometheus_client_key: Path | None = Field(
        default=None, description="PEM file of that certificate's key, without a password."
    )
    prometheus_timeout_seconds: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="Time limit for one query to Prometheus, including retries.",
    )
    preset: str = Field(
        default="ai-agents", description="Name of a built-in preset, or the path of a panel file."
    )
    selector: str = Field(
        default="",
        description='Label matchers added to every query, such as `env="prod",team=~"a|b"`.',
    )
    replica_labels: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Labels that distinguish the Prometheus servers that scrape the same targets "
        "(an HA pair, a federation), such as `replica`, separated by commas. Series that differ "
        "only in them are counted once.",
    )
    alert_selector: str = Field(
        default="",
        description="Label matchers that select the alerts for these queues, such as "
        '`team="agents"`; without them, all alerts except those with severity `none`.',
    )
    scrape_interval_seconds: int = Field(
        default=0, ge=0, le=3600, description="Scrape interval of the metrics; 0 measures it."
    )
    range: Range = Field(default="24h", description="The initial range of the page.")
    refresh_seconds: RefreshSeconds = Field(
        default=60, description="How often the page refreshes: 10, 30, 60 or 300; 0 is off."
    )
    breakdown_limit: int = Field(
        default=8,
        ge=1,
        le=50,
        description="How many series a breakdown shows; the others are counted as “M more”.",
    )
    late_sample_horizon_seconds: int = Field(
        default=300,
        ge=0,
        le=86_400,
        description="Samples that arrive with up to this delay still correct the cached history.",
    )
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Directory for all state (cache, operations, demo).",
    )
    host: str = Field(default="127.0.0.1", description="Address that the dashboard listens on.")
    port: int = Field(default=8501, ge=0, le=65_535, description="Port of the dashboard.")
    allowed_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Host names that requests may use, besides the loopback ones, separated by "
        "commas; `*` is any.",
    )
    base_path: str = Field(
        default="",
        description="Path below which a proxy serves the dashboard, such as `/queues`; the proxy "
        "may keep or strip it.",
    )
    frame_ancestors: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Origins whose pages may show the dashboard in a frame, such as "
        "`https://portal.example.com`, separated by commas.",
    )
    job_store_url: SecretStr = Field(
        default=SecretStr(""),
        description="Database of the job history that the workers write. The dashboard reads it "
        "only if it is set.",
    )
    operations_store_url: SecretStr = Field(
        default=SecretStr(""),
        description="Database of the audit and of the desired state; without it, SQLite in the "
        "data directory. Replicas of the dashboard share one in PostgreSQL.",
    )
    authentication: Authentication = Field(
        default="none",
        description="How visitors are identified: `none` (not at all; only this machine has "
        "access: to view, and with the operator’s key to act), `public` (not at all; everybody "
        "may view, and operations are off), `proxy` (by a header from `trusted_proxies`), `oidc` "
        "(by Streamlit’s login).",
    )
    trusted_proxies: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Addresses or networks, such as `10.0.0.7,192.168.4.0/24`, whose header is "
        "trusted.",
    )
    proxy_user_header: str = Field(
        default="X-Forwarded-User", description="The header in which the proxy names the user."
    )
    proxy_groups_header: str = Field(
        default="",
        description="The header in which the proxy names the user’s groups, separated by commas; "
        "empty reads none.",
    )
    oidc_user_claim: str = Field(
        default="email", description="The claim of the login that names the user."
    )
    oidc_groups_claim: str = Field(
        default="groups", description="The claim of the login that names the user’s groups."
    )
    viewers: Annotated[list[str], NoDecode] = Field(
        default=["*"],
        description="Who may view: users, `group:` with the name of a group, `*` for everybody who "
        "is logged in; separated by commas.",
    )
    operators: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Who may also pause and resume a queue, retry, and revoke.",
    )
    admins: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Who may also purge, restore, pause all queues, end jobs and scale.",
    )
    broker_url: SecretStr = Field(
        default=SecretStr(DEFAULT_BROKER_URL),
        description="The Celery broker. The dashboard uses it only if it is set. For one that is "
        "slow to answer, append `?socket_timeout=10`: it then has 10 seconds instead of 3, and "
        "workers 10 instead of 5 to answer a command.",
    )
    broker_key_prefix: str = Field(
        default="", description="The project’s `global_keyprefix` in the broker, if it has one."
    )
    broker_transport_options: dict[str, Any] = Field(
        default_factory=dict,
        description="The project’s `broker_transport_options`, as JSON, if they affect the "
        'connection or the messages: `{"master_name": "queues"}` for Sentinels, '
        '`{"sep": ":"}` for priorities.',
    )
    queues: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Queues to show besides those that running workers serve, separated by commas. "
        "The exporter reports these; without them, `celery`.",
    )
    metrics_port: int | str | None = Field(
        default=None,
        description="Port of a worker’s metrics, or a range such as `9600-9609`, of which it takes "
        "the first free port. Without it, 9540 and 9542 to 9549.",
    )
    metrics_host: str | None = Field(
        default=None,
        description="Address on which a worker serves its metrics. Without it, all addresses.",
    )

    @field_validator("prometheus_url")
    @classmethod
    def _is_an_http_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(
                "must be an http:// or https:// address, such as http://prometheus:9090"
            )
        if parts.username or parts.password:
            raise ValueError("must not contain a user or password; set prometheus_username instead")
        return value.rstrip("/")

    @field_validator("prometheus_headers", mode="before")
    @classmethod
    def _are_headers(cls, value: object) -> object:
        return _paired(
            value, "must be different headers with their values, such as X-Scope-OrgID=blue"
        )

    @field_validator("prometheus_parameters", mode="before")
    @classmethod
    def _are_parameters(cls, value: object) -> object:
        return _paired(
            value, "must be different parameters with their values, such as namespace=blue"
        )

    @field_validator("replica_labels", mode="before")
    @classmethod
    def _are_labels(cls, value: object) -> object:
        names = names_in(value, "must be names of labels, such as replica")
        if any("{" in name or "=" in name for name in names):
            raise ValueError("must be names of labels without values, such as replica")
        return names

    @field_validator("queues", mode="before")
    @classmethod
    def _are_queues(cls, value: object) -> object:
        return names_in(value, "must be names of queues, such as default,priority")

    @field_validator("viewers", "operators", "admins", mode="before")
    @classmethod
    def _are_names(cls, value: object) -> object:
        return names_in(value, "must be names, such as ada@example.com,group:ops")

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _are_networks(cls, value: object) -> object:
        names = names_in(value, "must be addresses or networks, such as 10.0.0.7,192.168.4.0/24")
        for name in names:
            try:
                ip_network(name)
            except ValueError:
                raise ValueError(
                    f"{name!r} must be an address or a network, such as 192.168.4.0/24"
                ) from None
        return names

    @field_validator("proxy_user_header", "proxy_groups_header")
    @classmethod
    def _is_a_header(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9-]+", value):
            raise ValueError("must be a header of letters, digits and -, such as X-Forwarded-User")
        return value

    @field_validator("refresh_seconds", mode="before")
    @classmethod
    def _is_read_from_text(cls, value: object) -> object:
        # The environment holds text, and a literal number is not read from text by itself.
        if not isinstance(value, str):
            return value
        return 0 if value == "off" else int(value) if value.isdecimal() else value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _are_host_names(cls, value: object) -> object:
        names = names_in(value, "must be host names, such as queuescope.example.com")
        for name in names:
            if "/" in name or ":" in name:
                raise ValueError(f"{name!r} must be a host name alone, without scheme and port")
        return names

    @field_validator("base_path")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        path = value.rstrip("/")
        if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
            raise ValueError(
                "must be a path of letters, digits, ., _, ~ and -, such as /queues, "
                "without the scheme and the host"
            )
        first = path.partition("/")[2].partition("/")[0]
        if first in _OWN_PATHS or set(path.split("/")) & {".", ".."}:
            raise ValueError(f"{value!r} is a path of the dashboard’s own; take another")
        return path

    @field_validator("frame_ancestors", mode="before")
    @classmethod
    def _are_origins(cls, value: object) -> object:
        names = names_in(value, "must be origins, such as https://portal.example.com")
        for name in names:
            # It becomes part of a policy, where a space or a semicolon would begin another.
            if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", name):
                raise ValueError(
                    f"{name!r} must be an origin with its scheme and without a path, "
                    "such as https://portal.example.com"
                )
        return names

    @classmethod
    def settings_customise_sources(  # the signature is pydantic-settings' own
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (env_settings, init_settings)


def load_settings(path: Path | None = None) -> Settings:
    """Read the environment and, below it, a TOML file.

    ``path`` defaults to ``$QUEUESCOPE_CONFIG``. Raises ``ConfigurationError`` that names the
    setting, where it stands and the nearest known name, and never what a secret holds.
    """
    path = path or config_file()
    from_file = read_file(path)
    for name in from_file:
        if name not in Settings.model_fields:
            raise ConfigurationError(f"{path}: unknown setting {name!r}{_nearest(name)}")
    _refuse_unknown_environment()
    try:
        return Settings(**from_file)
    except ValidationError as exc:
        # Not chained: what pydantic says of an error holds the value, which may be a secret.
        first = exc.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]).lower().removeprefix("queuescope_")
        said = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{place_of(name, path)}: {said}") from None


def operations_store_address(settings: Settings) -> str:
    """Where the audit is: what is set, or SQLite in the data directory."""
    return (
        settings.operations_store_url.get_secret_value()
        or f"sqlite:///{settings.data_dir.absolute() / 'operations.db'}"
    )


def _paired(value: object, otherwise: str) -> object:
    """The texts in ``value`` by their names, of ``name=text`` separated by commas, or a table
    already; raises ``ValueError`` with ``otherwise``.
    """
    if isinstance(value, dict):
        return value
    found: dict[str, str] = {}
    for pair in str(value).split(","):
        name, has_text, text = pair.partition("=")
        if not pair.strip():
            continue
        # The text itself is not shown: what stands before a forgotten “=” may be secret.
        if not has_text or not name.strip() or name.strip() in found:
            raise ValueError(otherwise)
        found[name.strip()] = text.strip()
    return found


def _refuse_unknown_environment() -> None:
    known = {f"QUEUESCOPE_{name.upper()}" for name in Settings.model_fields}
    known.add(CONFIG)
    for name in os.environ:
        if name.startswith("QUEUESCOPE_") and name not in known:
            setting = name.removeprefix("QUEUESCOPE_").lower()
            raise ConfigurationError(
                f"environment: unknown setting {name}{_nearest(setting, name)}"
            )


def _nearest(name: str, shown: str = "") -> str:
    found = process.extractOne(
        name.lower(), list(Settings.model_fields), scorer=fuzz.ratio, score_cutoff=60
    )
    if found is None:
        return "; `queuescope settings` lists them"
    best = f"QUEUESCOPE_{found[0].upper()}" if shown else found[0]
    return f", did you mean {best!r}?"
