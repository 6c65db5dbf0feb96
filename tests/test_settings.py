"""Settings: environment over file over default, and errors that name the thing and the place."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest
from celery import Celery

from queuescope.environment import environment_name, read_setting
from queuescope.errors import ConfigurationError
from queuescope.instrument import instrument
from queuescope.instrument.exporter import options
from queuescope.settings import (
    REFRESH_CHOICES,
    Settings,
    load_settings,
)

CANARY = "c4n4ry-w0rd"


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("QUEUESCOPE_") or name == "PROMETHEUS_URL":
            monkeypatch.delenv(name)


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "queuescope.toml"
    path.write_text(text, "utf-8")
    return path


def _refused(path: Path | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    return str(caught.value)


def test_the_defaults_are_those_of_the_page() -> None:
    settings = load_settings()
    assert settings.prometheus_url == "http://127.0.0.1:9090"
    assert (settings.range, settings.refresh_seconds, settings.port) == ("24h", 60, 8501)
    assert (settings.host, settings.allowed_hosts) == ("127.0.0.1", [])
    assert REFRESH_CHOICES == (0, 10, 30, 60, 300)


def test_the_file_wins_over_the_default(tmp_path: Path) -> None:
    path = _file(tmp_path, 'port = 9000\nrange = "7d"\nallowed_hosts = ["a.example"]\n')
    settings = load_settings(path)
    assert (settings.port, settings.range, settings.allowed_hosts) == (9000, "7d", ["a.example"])


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(
        tmp_path, 'port = 9000\nprometheus_url = "http://file:1"\nallowed_hosts = ["file"]\n'
    )
    monkeypatch.setenv("QUEUESCOPE_PORT", "9001")
    monkeypatch.setenv("PROMETHEUS_URL", "http://environment:1")
    monkeypatch.setenv("QUEUESCOPE_ALLOWED_HOSTS", "environment")
    settings = load_settings(path)
    assert settings.port == 9001
    assert settings.prometheus_url == "http://environment:1"
    assert settings.allowed_hosts == ["environment"]


@pytest.mark.parametrize("name", ["PROMETHEUS_URL", "QUEUESCOPE_PROMETHEUS_URL"])
def test_the_address_of_prometheus_has_two_names_in_the_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "https://metrics.example/prometheus/")
    settings = load_settings(_file(tmp_path, 'prometheus_url = "http://file:1"'))
    assert settings.prometheus_url == "https://metrics.example/prometheus"


@pytest.mark.parametrize("seconds", REFRESH_CHOICES)
def test_every_refresh_interval_can_stand_in_the_environment(
    seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUESCOPE_REFRESH_SECONDS", str(seconds))
    assert load_settings().refresh_seconds == seconds


def test_the_refresh_can_be_switched_off_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUESCOPE_REFRESH_SECONDS", "off")
    assert load_settings().refresh_seconds == 0


def test_the_file_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUESCOPE_CONFIG", str(_file(tmp_path, "port = 9002")))
    assert load_settings().port == 9002


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.example", ["a.example"]),
        (" a.example , b.example,", ["a.example", "b.example"]),
        ("*", ["*"]),
        ("", []),
    ],
)
def test_host_names_in_the_environment_are_separated_by_commas(
    text: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUESCOPE_ALLOWED_HOSTS", text)
    assert load_settings().allowed_hosts == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("QUEUESCOPE_PROT", ", did you mean 'QUEUESCOPE_PORT'?"),
        ("QUEUESCOPE_REFRESH", ", did you mean 'QUEUESCOPE_REFRESH_SECONDS'?"),
        ("QUEUESCOPE_XYZZY", "; `queuescope settings` lists them"),
    ],
)
def test_an_unknown_name_in_the_environment_is_refused(
    name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert _refused() == f"environment: unknown setting {name}{expected}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("refresh_second", ", did you mean 'refresh_seconds'?"),
        ("PROMETHEUS_URL", ", did you mean 'prometheus_url'?"),
        ("xyzzy", "; `queuescope settings` lists them"),
    ],
)
def test_an_unknown_name_in_the_file_is_refused(name: str, expected: str, tmp_path: Path) -> None:
    path = _file(tmp_path, f"{name} = 1")
    assert _refused(path) == f"{path}: unknown setting {name!r}{expected}"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("QUEUESCOPE_PORT", "65536", "less than or equal to 65535"),
        ("QUEUESCOPE_PORT", "", "valid integer"),
        ("QUEUESCOPE_RANGE", "2h", "'1h', '6h', '24h' or '7d'"),
        ("QUEUESCOPE_REFRESH_SECONDS", "7", "0, 10, 30, 60 or 300"),
        ("QUEUESCOPE_PROMETHEUS_TIMEOUT_SECONDS", "nan", "less than or equal to 60"),
        ("QUEUESCOPE_ALLOWED_HOSTS", "http://a.example", "without scheme and port"),
        ("PROMETHEUS_URL", "localhost:9090", "must be an http:// or https:// address"),
        ("PROMETHEUS_URL", "ftp://x", "must be an http:// or https:// address"),
        ("PROMETHEUS_URL", "http://", "must be an http:// or https:// address"),
        ("PROMETHEUS_URL", "http://x:99999", "Port out of range"),
        ("QUEUESCOPE_PROMETHEUS_URL", "http://u:p@x", "set prometheus_username instead"),
    ],
)
def test_a_bad_value_is_told_with_its_name_and_place(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    message = _refused()
    assert message.startswith(f"environment: {name}: ")
    assert expected in message


def test_a_bad_value_in_the_file_is_told_with_the_files_path(tmp_path: Path) -> None:
    path = _file(tmp_path, 'port = "many"')
    assert _refused(path).startswith(f"{path}: port: ")


@pytest.mark.parametrize("content", [b"port = ", b"title = '\xff'"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "queuescope.toml"
    path.write_bytes(content)
    assert _refused(path).startswith(f"{path} is not valid TOML: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert _refused(tmp_path / "absent.toml") == (
        f"cannot read {tmp_path / 'absent.toml'}: No such file or directory"
    )


SECRETS = {
    "prometheus_password": CANARY,
    "prometheus_token": CANARY,
    "broker_url": f"redis://:{CANARY}@broker/0",
    "job_store_url": f"postgresql://queuescope:{CANARY}@db/jobs",
}


def test_secrets_do_not_show_in_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(environment_name(name), value)
    monkeypatch.setenv("QUEUESCOPE_PROMETHEUS_HEADERS", f"X-Api-Key={CANARY}")
    settings = load_settings()
    for shown in (repr(settings), str(settings), settings.model_dump_json(), f"{settings!r:s}"):
        assert CANARY not in shown
    for name, value in SECRETS.items():
        assert getattr(settings, name).get_secret_value() == value


@pytest.mark.parametrize("broken", [{"port": "x"}, {"prometheus_url": f"http://u:{CANARY}@x"}])
def test_secrets_do_not_show_in_errors(
    broken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SECRETS, **broken}.items():
        monkeypatch.setenv(environment_name(name), value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_every_setting_says_what_it_does() -> None:
    for name, setting in Settings.model_fields.items():
        assert setting.description, name
        assert setting.description.endswith("."), name


@pytest.mark.parametrize(("given", "kept"), [("", ""), ("/queues/", "/queues"), ("/a/b", "/a/b")])
def test_a_base_path_is_kept_without_its_last_slash(
    monkeypatch: pytest.MonkeyPatch, given: str, kept: str
) -> None:
    monkeypatch.setenv("QUEUESCOPE_BASE_PATH", given)
    assert load_settings().base_path == kept


@pytest.mark.parametrize(
    "given", ["queues", "https://a/b", "/a b", "/a//b", "/jobs", "/static/x", "/../x", "//host"]
)
def test_a_base_path_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("QUEUESCOPE_BASE_PATH", given)
    with pytest.raises(ConfigurationError, match="QUEUESCOPE_BASE_PATH"):
        load_settings()


def test_a_worker_reads_the_same_file_and_the_environment_wins_there_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "jobs.db"
    path = _file(tmp_path, f'metrics_port = "9600-9601"\njob_store_url = "sqlite:///{store}"\n')
    monkeypatch.setenv("QUEUESCOPE_CONFIG", str(path))
    assert read_setting("metrics_port") == load_settings().metrics_port == "9600-9601"
    assert read_setting("job_store_url") == f"sqlite:///{store}"
    monkeypatch.setenv("QUEUESCOPE_METRICS_PORT", "0")
    assert read_setting("metrics_port") == load_settings().metrics_port == "0"
    assert read_setting("metrics_host") is load_settings().metrics_host is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('metrics_port = "9609-9600"', "metrics_port is 9609-9600; a port is between"),
        ('job_store_url = "mysql://h/d"', "job_store_url names 'mysql'"),
    ],
)
def test_what_a_worker_cannot_use_is_told_with_its_place(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path, text)
    monkeypatch.setenv("QUEUESCOPE_CONFIG", str(path))
    with pytest.raises(ConfigurationError) as caught:
        instrument(Celery("shop", set_as_current=False))
    assert expected in str(caught.value)


def test_the_exporters_options_default_to_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert options().parse_args([]).queues == "celery"
    path = _file(
        tmp_path,
        'broker_url = "redis://file:1"\nqueues = ["a", "b"]\nbroker_key_prefix = "shop:"\n'
        'broker_transport_options = { master_name = "queues" }\n',
    )
    monkeypatch.setenv("QUEUESCOPE_CONFIG", str(path))
    found = options().parse_args([])
    assert (found.broker_url, found.queues) == ("redis://file:1", "a,b")
    assert (found.key_prefix, found.transport_options) == ("shop:", '{"master_name": "queues"}')
    monkeypatch.setenv("QUEUESCOPE_BROKER_URL", "redis://environment:1")
    monkeypatch.setenv("QUEUESCOPE_QUEUES", " c , d")
    monkeypatch.setenv("QUEUESCOPE_BROKER_TRANSPORT_OPTIONS", '{"sep": ":"}')
    found = options().parse_args(["--queues", "e"])
    assert (found.broker_url, found.queues) == ("redis://environment:1", "e")
    assert options().parse_args([]).queues == "c,d"
    assert found.transport_options == '{"sep": ":"}'
