"""From settings to a client: what is set is sent, contradictions are refused, secrets stay."""

from __future__ import annotations

import base64
import traceback
from pathlib import Path

import pytest
from tests.fault_server import FaultServer, http_response

from queuescope.connect import connect
from queuescope.environment import environment_name
from queuescope.errors import ConfigurationError, SourceError
from queuescope.settings import load_settings

pytestmark = pytest.mark.anyio

ANSWER = b'{"status":"success","data":{"resultType":"scalar","result":[1000,"42"]}}'
CANARY = "c4n4ry-w0rd"


def _set(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(environment_name(name), value)


async def _request_of(monkeypatch: pytest.MonkeyPatch, **settings: str) -> str:
    """The head of the request that these settings lead to."""
    async with FaultServer(http_response(ANSWER)) as server:
        _set(monkeypatch, prometheus_url=f"{server.url}/metrics/prometheus", **settings)
        async with connect(load_settings()) as client:
            assert (await client.query("up")).samples[0].value == 42.0
    return server.requests[0].partition(b"\r\n\r\n")[0].decode().lower()


async def test_a_user_and_a_password_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    head = await _request_of(monkeypatch, prometheus_username="ops", prometheus_password=CANARY)
    pair = base64.b64encode(f"ops:{CANARY}".encode()).decode().lower()
    assert head.startswith("post /metrics/prometheus/api/v1/query http/1.1")
    assert f"authorization: basic {pair}" in head


async def test_a_token_and_headers_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = "X-Scope-OrgID=blue|green, X-Empty=,X-Sum=a=b"
    head = await _request_of(monkeypatch, prometheus_token=CANARY, prometheus_headers=headers)
    assert f"authorization: bearer {CANARY}" in head
    assert "x-scope-orgid: blue|green" in head
    assert "x-empty: " in head
    assert "x-sum: a=b" in head


async def test_the_token_of_a_file_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{CANARY}\n", "utf-8")
    head = await _request_of(monkeypatch, prometheus_token_file=str(tmp_path / "token"))
    assert f"authorization: bearer {CANARY}\r\n" in f"{head}\r\n"


async def test_headers_may_be_a_table_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "queuescope.toml"
    path.write_text('[prometheus_headers]\nX-Scope-OrgID = "a, b"\n', "utf-8")
    settings = load_settings(path)
    assert settings.prometheus_headers["X-Scope-OrgID"].get_secret_value() == "a, b"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"prometheus_token": CANARY, "prometheus_username": "u", "prometheus_password": CANARY},
            "prometheus_password and prometheus_token contradict each other",
        ),
        (
            {"prometheus_token": CANARY, "prometheus_token_file": "/dev/null"},
            "prometheus_token and prometheus_token_file contradict each other",
        ),
        (
            {"prometheus_token": CANARY, "prometheus_headers": f"authorization=Key {CANARY}"},
            "prometheus_token and prometheus_headers with Authorization contradict each other",
        ),
        ({"prometheus_username": "u"}, "username and prometheus_password belong together"),
        ({"prometheus_password": CANARY}, "username and prometheus_password belong together"),
        (
            {"prometheus_username": "u:v", "prometheus_password": CANARY},
            "must be plain text without a colon",
        ),
        ({"prometheus_client_cert": "/c.pem"}, "needs both prometheus_client_cert and"),
        ({"prometheus_client_key": "/k.pem"}, "needs both prometheus_client_cert and"),
        ({"prometheus_ca_file": "/ca.pem"}, "needs an https:// address"),
        ({"prometheus_token_file": "/no/such/token"}, "/no/such/token cannot be read: No such"),
        ({"prometheus_token_file": "/dev/null"}, "the token in /dev/null must be ASCII text"),
        ({"prometheus_headers": f"X Y={CANARY}"}, "'X Y' is not the name of a header"),
        ({"prometheus_headers": f"Host={CANARY}"}, "Host is set by Queuescope itself"),
        ({"prometheus_headers": f"X-A={CANARY}\n"}, None),
        ({"prometheus_headers": f"X-A={CANARY}\nX-B: 1"}, "the value of X-A must be plain ASCII"),
        ({"prometheus_headers": f"X-A={CANARY}é"}, "the value of X-A must be plain ASCII"),
        ({"prometheus_headers": "X-A=1,x-a=2"}, "a header is named twice"),
        ({"prometheus_headers": "X-A=1,X-A=2"}, "must be different headers with their values"),
        ({"prometheus_headers": CANARY}, "must be different headers with their values"),
    ],
)
async def test_contradictions_are_refused_without_telling_a_secret(
    settings: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, prometheus_url="http://prometheus:9090", **settings)
    if expected is None:
        await connect(load_settings()).aclose()
        return
    with pytest.raises(ConfigurationError, match=expected) as caught:
        connect(load_settings())
    assert CANARY not in "".join(traceback.format_exception(caught.value))


async def test_parameters_go_with_the_address_of_every_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For any query, by POST and by GET, in addition to those in the address."""
    async with FaultServer(http_response(ANSWER)) as server:
        _set(
            monkeypatch,
            prometheus_url=f"{server.url}/api/?namespace=a%26b&empty=",
            prometheus_parameters=f"key={CANARY}, tenant=blue",
        )
        async with connect(load_settings()) as client:
            assert (await client.query("up")).samples[0].value == 42.0
            with pytest.raises(SourceError):
                await client.label_values("job", ["up"], 0, 1)
            assert await client.alerts() == ()
            identity = client.identity
    assert CANARY not in identity
    assert "?" not in identity
    lines = [request.partition(b"\r\n")[0].decode() for request in server.requests]
    given = f"namespace=a%26b&empty=&key={CANARY}&tenant=blue"
    assert lines[0] == f"POST /api/api/v1/query?{given} HTTP/1.1"
    assert lines[1].startswith(f"GET /api/api/v1/label/job/values?{given}&")
    assert "match%5B%5D=up" in lines[1]
    assert lines[2] == f"GET /api/api/v1/alerts?{given} HTTP/1.1"

    # Another namespace is another source with a separate cache.
    _set(monkeypatch, prometheus_url=f"{server.url}/api/?namespace=other")
    async with connect(load_settings()) as other:
        assert other.identity != identity


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"prometheus_url": "http://p:9090?query=up"}, "the parameter 'query' of the Prometheus"),
        ({"prometheus_parameters": "start=0"}, "the parameter 'start' of the Prometheus URL"),
        ({"prometheus_parameters": CANARY}, "must be different parameters with their values"),
        ({"prometheus_url": "http://p:9090/#a"}, "must not contain a #"),
    ],
)
def test_parameters_that_cannot_be_given_are_refused(
    settings: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, **settings)
    with pytest.raises(ConfigurationError, match=expected) as caught:
        connect(load_settings())
    assert CANARY not in "".join(traceback.format_exception(caught.value))
