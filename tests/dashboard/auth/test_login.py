"""Streamlit's login with a real OpenID provider, and the effect of its cookie on every route."""

from __future__ import annotations

import math
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from streamlit import config
from streamlit.runtime.secrets import secrets_singleton
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from tests.dashboard.conftest import RunningDashboard
from tests.dashboard.page_socket import elements, seen
from tests.dashboard.reader import Reader
from tests.openid_provider import OpenIDProvider
from tests.ports import free_port
from tests.real_prometheus import RealPrometheus
from websockets.exceptions import ConnectionClosed

from queuescope.dashboard.auth.login import check_login_setup, providers
from queuescope.errors import ConfigurationError

USER = "_streamlit_user"
SECRET = "a-secret-of-the-tests-that-is-long-enough"
USERS: dict[str, Mapping[str, Any]] = {
    "ada": {"email": "ada@example.com", "email_verified": True},
    "oz": {"email": "oz@example.com", "groups": ["ops", "staff"]},
    "vera": {"email": "vera@example.com", "groups": "staff"},
    "eve": {"email": "eve@example.com", "groups": ["visitors"]},
    "mallory": {"email": "ada@example.com", "email_verified": False, "groups": ["staff"]},
    "star": {"email": "*", "groups": ["*", "group:staff"]},
    "nameless": {"groups": ["staff", "ops"]},
    "grace": {
        "email": "grace@example.com",
        # Cookies are compressed, and these cannot be.
        "groups": [secrets.token_hex(45) for _ in range(80)] + ["ops"],
    },
}
ROLES = {"ada": "admin", "oz": "operator", "vera": "viewer", "grace": "operator"}
Start = Callable[..., RunningDashboard]


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIDProvider]:
    with OpenIDProvider(USERS) as running:
        yield running


@pytest.fixture(scope="module")
def start(
    prometheus: RealPrometheus,
    provider: OpenIDProvider,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Start]:
    """Starts a dashboard on which people log in."""
    with ExitStack() as running:

        def one() -> RunningDashboard:
            directory = tmp_path_factory.mktemp("oidc")
            port = free_port()
            provider.configure(directory, f"http://127.0.0.1:{port}", SECRET)
            dashboard = RunningDashboard(
                directory,
                prometheus.url,
                port=port,
                server="queuescope",
                prometheus_timeout_seconds="30",
                authentication="oidc",
                viewers="group:staff",
                operators="group:ops",
                admins="ada@example.com",
            )
            running.callback(dashboard.close)
            return dashboard

        yield one


@pytest.fixture(scope="module")
def guarded(start: Start) -> Iterator[RunningDashboard]:
    dashboard = start()
    yield dashboard
    assert "Traceback" not in dashboard.log, dashboard.log


@pytest.fixture
def reader(guarded: RunningDashboard) -> Iterator[Reader]:
    with Reader(guarded.port) as one:
        yield one


def assert_sees_nothing(reader: Reader, said: str = "You are not logged in.") -> None:
    """On no route, not in the page, and not over its websocket."""
    for path in (
        *("/queuescope/view", "/queuescope/overview", "/queuescope/chart.csv?panel=queue_depth"),
        *("/media/a.csv", "/_stcore/metrics"),
    ):
        answer = reader.ask(path)
        assert answer.status_code in (401, 403)
        assert answer.json()["error"] == said
        assert answer.json()["refused"] == ("login" if answer.status_code == 401 else "role")
    page = reader.ask("/?range=1h", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert 'id="queuescope-snapshot"' not in page.text
    assert 'id="queuescope-early"' not in page.text
    with reader.page() as socket:
        drawn = socket.run()
    assert elements(drawn, "bidi_component") == []
    assert "qs-visitor" not in "".join(element.body for element in elements(drawn, "html"))


def test_visitors_without_a_login_see_only_the_login(reader: Reader) -> None:
    assert_sees_nothing(reader)
    with reader.page() as page:
        drawn = page.run()
    assert [button.label for button in elements(drawn, "button")] == ["Log in"]
    (html,) = elements(drawn, "html")
    assert "Log in to Queuescope" in html.body


@pytest.mark.parametrize(
    ("user", "role"),
    [
        # Grace is an operator by a group too.
        pytest.param(*given, marks=pytest.mark.long if given[0] == "oz" else ())
        for given in ROLES.items()
    ],
)
def test_claims_and_groups_give_the_role(reader: Reader, user: str, role: str) -> None:
    """Also the claims that do not fit into one cookie."""
    reader.log_in(user)
    assert (f"{USER}_1" in reader.cookies) == (user == "grace")
    # The page holds the data of its range if they are not too old.
    assert reader.ask("/queuescope/view?age=1").json()["panels"]
    assert 'id="queuescope-snapshot"' in reader.ask("/", headers={"Accept": "text/html"}).text
    with reader.page() as page:
        shown = seen(page)
    assert f'<span class="qs-name">{user}@example.com</span>' in shown
    assert f'<span class="qs-role">{role}</span>' in shown
    assert 'href="auth/logout"' in shown


NOT_A_VIEWER = "You may not view this dashboard; an administrator can add you to its viewers."


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("eve", NOT_A_VIEWER),
        pytest.param("star", NOT_A_VIEWER, marks=pytest.mark.long),
        ("mallory", "The login provider has not verified this address."),
        ("nameless", "The login names no user; an administrator sets oidc_user_claim."),
    ],
)
def test_a_login_that_is_not_enough_sees_nothing(reader: Reader, user: str, said: str) -> None:
    reader.log_in(user)
    assert_sees_nothing(reader, said)


def _swapped(reader: Reader) -> dict[str, str]:
    return {**reader.cookies, USER: reader.cookies["_streamlit_user_tokens"]}


def _cut(reader: Reader) -> dict[str, str]:
    return {**reader.cookies, USER: reader.cookies[USER][:-1]}


def _altered(reader: Reader) -> dict[str, str]:
    value = reader.cookies[USER]
    middle = len(value) // 3
    other = "A" if value[middle] != "A" else "B"
    return {**reader.cookies, USER: value[:middle] + other + value[middle + 1 :]}


def _other_secret(reader: Reader) -> dict[str, str]:
    claims = f'{{"is_logged_in": true, "origin": "{reader.origin}", "email": "ada@example.com"}}'
    signed = create_signed_value("another-secret-that-is-long-enough-too", USER, claims)
    return {**reader.cookies, USER: signed.decode()}


def _unsigned(reader: Reader) -> dict[str, str]:
    return {**reader.cookies, USER: '{"is_logged_in": true, "email": "ada@example.com"}'}


@pytest.mark.parametrize(
    "forge",
    [
        *(_altered, _other_secret, _unsigned),
        *(pytest.param(forge, marks=pytest.mark.long) for forge in (_swapped, _cut)),
    ],
)
def test_a_forged_cookie_is_no_login(
    reader: Reader, forge: Callable[[Reader], dict[str, str]]
) -> None:
    forged = forge(reader.log_in("oz"))
    reader.client.cookies.clear()
    for name, value in forged.items():
        reader.client.cookies.set(name, value, domain="127.0.0.1")
    assert_sees_nothing(reader)


def test_a_chunk_less_is_no_login(reader: Reader) -> None:
    reader.log_in("grace")
    kept = {name: value for name, value in reader.cookies.items() if name != f"{USER}_2"}
    assert len(kept) == len(reader.cookies) - 1
    reader.client.cookies.clear()
    for name, value in kept.items():
        reader.client.cookies.set(name, value, domain="127.0.0.1")
    assert_sees_nothing(reader)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("", "The login provider does not say when the login ends, so no one can be admitted."),
        (', "exp": 1', "Your login has expired; log in again."),
        (', "exp": "9999999999"', "The login provider does not say"),
        (', "exp": true', "The login provider does not say"),
        (', "exp": 1e999', "The login provider does not say"),
        (', "is_logged_in": "yes", "exp": 9999999999', "You are not logged in."),
    ],
)
def test_a_login_that_is_well_signed_must_say_when_it_ends(
    reader: Reader, extra: str, said: str
) -> None:
    claims = (
        f'{{"is_logged_in": true, "origin": "{reader.origin}", "email": "ada@example.com"{extra}}}'
    )
    signed = create_signed_value(SECRET, USER, claims).decode()
    reader.client.cookies.set(USER, signed, domain="127.0.0.1")
    answer = reader.ask()
    assert answer.status_code in (401, 403)
    assert answer.json()["error"].startswith(said)


def test_a_cookie_of_another_dashboard_is_no_login_here(
    start: Start, guarded: RunningDashboard
) -> None:
    """Even with the same secret, whatever origin and host the request claims."""
    other = start()
    with Reader(other.port) as theirs, Reader(guarded.port) as ours:
        theirs.log_in("ada")
        assert theirs.ask().status_code == 200
        for name, value in theirs.cookies.items():
            ours.client.cookies.set(name, value, domain="127.0.0.1")
        assert_sees_nothing(ours)
        for headers in (
            {"Origin": theirs.origin},
            {"Origin": ours.origin},
            {"Host": f"127.0.0.1:{other.port}"},
            {"Host": f"127.0.0.1:{other.port}", "Origin": theirs.origin},
            {"X-Forwarded-Host": f"127.0.0.1:{other.port}"},
        ):
            assert ours.ask(headers=headers).status_code == 401, headers


def test_another_site_gets_nothing_by_the_cookie_of_its_visitor(reader: Reader) -> None:
    reader.log_in("ada")
    for origin in ("https://evil.example", "http://localhost", "null", reader.origin + "0"):
        assert reader.ask(headers={"Origin": origin}).status_code == 401
    assert reader.ask(headers={"Origin": reader.origin}).status_code == 200


def test_a_websocket_without_the_anti_forgery_token_is_unidentified(reader: Reader) -> None:
    reader.log_in("ada")
    with reader.page(xsrf="none") as page:
        assert [button.label for button in elements(page.run(), "button")] == ["Log in"]


def test_after_a_log_out_the_cookie_is_worth_nothing_anywhere(reader: Reader) -> None:
    reader.log_in("ada")
    before = reader.cookies
    with reader.page() as other_tab:
        assert "qs-visitor" in seen(other_tab)
        reader.client.get("/auth/logout")
        assert USER not in reader.cookies
        assert_sees_nothing(reader)
        for name, value in before.items():
            reader.client.cookies.set(name, value, domain="127.0.0.1")
        assert_sees_nothing(reader)
        with pytest.raises(ConnectionClosed) as closed:
            other_tab.run()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    with reader.page(session=other_tab.session) as again:
        assert [button.label for button in elements(again.run(), "button")] == ["Log in"]
        assert again.session != other_tab.session
    # Another login of the same person is another login.
    reader.client.cookies.clear()
    assert reader.log_in("ada").ask().status_code == 200


def test_an_unsigned_logout_ends_no_login(reader: Reader) -> None:
    reader.log_in("ada")
    with Reader(reader.port) as stranger:
        forged = reader.cookies[USER][:-2]
        stranger.client.cookies.set(USER, forged, domain="127.0.0.1")
        stranger.ask("/auth/logout")
    assert reader.ask().status_code == 200


def test_a_login_ends_when_it_says_also_for_a_page_that_is_open(
    reader: Reader, provider: OpenIDProvider
) -> None:
    began = time.monotonic()
    with Reader(reader.port) as other, other.log_in("oz").page() as page:
        assert "qs-visitor" in seen(page)
    # Long enough that the same time passes once more.
    lifetime_seconds = math.ceil(15 + 4 * (time.monotonic() - began))
    provider.lifetime_seconds = lifetime_seconds
    try:
        reader.log_in("oz")
    finally:
        provider.lifetime_seconds = 3600
    ends_at = time.time() + lifetime_seconds
    with reader.page() as page:
        assert "qs-visitor" in seen(page)
        assert reader.ask().status_code == 200
        time.sleep(max(0.0, ends_at - time.time()) + 1)
        assert_sees_nothing(reader, "Your login has expired; log in again.")
        with pytest.raises(ConnectionClosed):
            page.run()
    with reader.page(session=page.session) as again:
        assert "Your login has expired; log in again." in seen(again)
        assert again.session != page.session


def test_the_host_at_which_people_log_in_is_allowed_and_no_other(
    prometheus: RealPrometheus, provider: OpenIDProvider, tmp_path: Path
) -> None:
    provider.configure(tmp_path, "https://queuescope.example.com", SECRET)
    running = RunningDashboard(tmp_path, prometheus.url, authentication="oidc")
    try:
        for host, status in (("queuescope.example.com", 401), ("evil.example.com", 400)):
            assert running.ask("/queuescope/view", {"Host": host}).status == status
    finally:
        running.close()


def test_no_header_is_trusted_whatever_streamlit_is_configured_to(
    prometheus: RealPrometheus,
    provider: OpenIDProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Streamlit has a setting by which headers override its cookie; ours overrides that."""
    monkeypatch.setenv("STREAMLIT_SERVER_TRUSTED_USER_HEADERS", '{"X-Email": "email"}')
    monkeypatch.setenv("STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION", "false")
    monkeypatch.setenv("STREAMLIT_SERVER_ENABLE_CORS", "false")
    port = free_port()
    provider.configure(tmp_path, f"http://127.0.0.1:{port}", SECRET)
    running = RunningDashboard(
        tmp_path,
        prometheus.url,
        port=port,
        authentication="oidc",
        viewers="group:staff",
        admins="ada@example.com",
    )
    try:
        with Reader(port) as one:
            one.log_in("vera")
            with one.page(headers=[("X-Email", "ada@example.com")]) as page:
                shown = seen(page)
            assert '<span class="qs-name">vera@example.com</span>' in shown
            assert '<span class="qs-role">viewer</span>' in shown
            with one.page(xsrf="none") as page:
                assert "qs-visitor" not in seen(page)
    finally:
        running.close()


@pytest.fixture
def secrets_file(tmp_path: Path) -> Iterator[Path]:
    """Streamlit reads this file for its secrets while the test runs."""
    file = tmp_path / "secrets.toml"
    before = config.get_option("secrets.files")
    config.set_option("secrets.files", [str(file)])
    secrets_singleton._reset()
    yield file
    config.set_option("secrets.files", before)
    secrets_singleton._reset()


WHOLE = {
    "redirect_uri": "https://queuescope.example.com/oauth2callback",
    "cookie_secret": "x" * 32,
    "client_id": "queuescope",
    "client_secret": "hidden",
    "server_metadata_url": "https://login.example.com/.well-known/openid-configuration",
}


def _written(**changes: str) -> str:
    values = {**WHOLE, **changes}
    return "[auth]\n" + "".join(f'{key} = "{value}"\n' for key, value in values.items() if value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is missing or cannot be read"),
        ("[other]\n", "is missing or cannot be read"),
        ("[auth\n", "is missing or cannot be read"),
        (_written(cookie_secret=""), "cookie_secret must have at least 32 random characters"),
        (_written(cookie_secret="x" * 31), "cookie_secret must have at least 32"),
        (_written(redirect_uri=""), "redirect_uri must be the dashboard’s own address"),
        (_written(redirect_uri="https://q.example.com/"), "redirect_uri must be the dashboard’s"),
        (_written(redirect_uri="https://Q.example.com/oauth2callback"), "in lower case"),
        (_written(redirect_uri="https://q.example.com:443/oauth2callback"), "a usual port"),
        (_written(redirect_uri="http://q.example.com/oauth2callback"), "must begin with https://"),
        (_written(client_secret=""), "client_secret must be set"),
        (_written(server_metadata_url=""), "server_metadata_url must be set"),
        (
            _written(client_id="", client_secret="", server_metadata_url=""),
            "names no provider",
        ),
        (_written() + '[auth.work]\nclient_id = "a"\n', "[auth.work] in .streamlit/secrets.toml"),
    ],
)
def test_a_login_that_cannot_work_or_could_be_forged_is_not_served(
    secrets_file: Path, text: str, said: str
) -> None:
    secrets_file.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError) as refused:
        check_login_setup()
    assert said in str(refused.value)
    assert "hidden" not in str(refused.value)
    assert "xxx" not in str(refused.value)


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "https://queuescope.example.com/oauth2callback",
        "https://queuescope.example.com:8443/oauth2callback",
        "http://localhost:8501/oauth2callback",
        "http://[::1]:8501/oauth2callback",
    ],
)
def test_a_login_that_is_set_up_is_served(secrets_file: Path, redirect_uri: str) -> None:
    named = '[auth.work]\nclient_id = "a"\nclient_secret = "b"\nserver_metadata_url = "c"\n'
    secrets_file.write_text(_written(redirect_uri=redirect_uri) + named, "utf-8")
    check_login_setup()
    assert providers() == ["default", "work"]


def test_without_authlib_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "authlib", None)
    with pytest.raises(ConfigurationError, match=r"pip install .queuescope\[auth\]"):
        check_login_setup()
