"""Identifying visitors: which facts are trusted, and which claims are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuescope.dashboard.auth.identity import (
    IdentityProblem,
    Unidentified,
    access_of,
    check_exposure,
    identify,
)
from queuescope.errors import ConfigurationError
from queuescope.operations.access import Actor, Origin, Role
from queuescope.operator_key import OperatorKey
from queuescope.settings import Settings

NOW = 1_795_000_000.0


def configured(**settings: Any) -> Settings:
    return Settings.model_validate(settings)


HOST = ("host", "localhost:8501")
LOGIN = {
    "is_logged_in": True,
    "email": "ada@example.com",
    "email_verified": True,
    "groups": ["ops"],
    "exp": int(NOW) + 3600,
}
PROXY = configured(
    authentication="proxy",
    trusted_proxies=["10.0.0.7", "192.168.4.0/24"],
    proxy_groups_header="X-Forwarded-Groups",
    admins=["ada"],
    operators=["group:ops"],
)
OIDC = configured(authentication="oidc", operators=["group:ops"])


def ask(
    settings: Settings,
    *headers: tuple[str, str],
    peer: str | None = "127.0.0.1",
    claims: dict[str, Any] | None = None,
) -> Actor | Unidentified:
    return identify(settings, headers=headers, peer=peer, claims=claims or {}, now=NOW)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost:8501", "127.0.0.1", "[::1]:8501"])
def test_without_authentication_the_key_holder_on_this_machine_may_do_everything(
    peer: str, host: str, tmp_path: Path
) -> None:
    settings = configured(data_dir=tmp_path)
    key = OperatorKey(tmp_path)
    cookie = ("Cookie", "=".join(key.cookie))
    assert ask(settings, ("Host", host), cookie, peer=peer) == Actor("local", Origin.LOOPBACK)
    # Without the key, or with that of another dashboard, a forwarded port looks the same.
    other = ("Cookie", "=".join(OperatorKey(tmp_path / "other").cookie))
    for headers in ([("Host", host)], [("Host", host), other]):
        found = ask(settings, *headers, peer=peer)
        assert found == Actor("public", Origin.WITHOUT_KEY)
        assert access_of(configured(admins=["public"])).role_of(found) is Role.VIEWER


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        (None, [HOST]),
        ("not an address", [HOST]),
        ("127.0.0.1", [HOST, ("X-Forwarded-For", "127.0.0.1")]),
        ("127.0.0.1", [HOST, ("x_forwarded_host", "localhost")]),
        ("127.0.0.1", [HOST, ("Forwarded", "for=127.0.0.1")]),
        ("127.0.0.1", [HOST, ("Via", "1.1 proxy")]),
        ("127.0.0.1", [HOST, ("X-Real-IP", "127.0.0.1")]),
        ("127.0.0.1", [("Host", "queues.example.com")]),
        ("127.0.0.1", [("Host", "127.0.0.1.example.com")]),
        ("127.0.0.1", [HOST, HOST]),
        ("127.0.0.1", []),
    ],
)
def test_without_authentication_everybody_else_may_only_look(
    peer: str | None, headers: list[tuple[str, str]], tmp_path: Path
) -> None:
    """Also a visitor with the key who comes through an unconfigured proxy on this machine."""
    cookie = ("Cookie", "=".join(OperatorKey(tmp_path).cookie))
    found = ask(configured(data_dir=tmp_path), *headers, cookie, peer=peer)
    assert isinstance(found, Actor)
    assert access_of(configured(admins=["public"])).role_of(found) is Role.VIEWER


@pytest.mark.parametrize("peer", ["10.1.2.3", "2001:db8::1", "::ffff:10.1.2.3"])
@pytest.mark.parametrize("header", [HOST, ("X-Forwarded-For", "127.0.0.1")])
def test_without_authentication_other_machines_are_refused(
    peer: str, header: tuple[str, str]
) -> None:
    """Even if the server listens on other addresses than the settings say."""
    assert ask(configured(), HOST, header, peer=peer) == Unidentified(
        IdentityProblem.NOT_THIS_MACHINE
    )


def test_in_public_mode_this_machine_may_only_look_too() -> None:
    found = ask(configured(authentication="public"), HOST)
    assert found == Actor("public", Origin.PUBLIC)


@pytest.mark.parametrize("peer", ["10.0.0.7", "192.168.4.200", "::ffff:10.0.0.7"])
def test_a_trusted_proxy_is_believed(peer: str) -> None:
    headers = [("x-forwarded-user", "bob"), ("X-Forwarded-Groups", "dev, ops")]
    found = ask(PROXY, *headers, peer=peer)
    assert found == Actor("bob", Origin.PROXY, frozenset({"dev", "ops"}))
    assert isinstance(found, Actor)
    assert access_of(PROXY).role_of(found) is Role.OPERATOR


@pytest.mark.parametrize("peer", ["10.0.0.8", "192.168.5.1", "127.0.0.1", "::1", None, "", "x"])
def test_the_header_of_anybody_else_is_not(peer: str | None) -> None:
    found = ask(PROXY, ("X-Forwarded-User", "ada"), ("X-Forwarded-For", "10.0.0.7"), peer=peer)
    assert found == Unidentified(IdentityProblem.NOT_FROM_PROXY)


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Forwarded-User", "bob"), ("X-Forwarded-User", "ada")],
        [("X-Forwarded-User", "bob"), ("x-forwarded-user", "bob")],
        [("X-Forwarded-User", "bob"), ("X_Forwarded_User", "ada")],
        [("X_Forwarded_User", "ada")],
        [("X-Forwarded_User", "ada")],
        [("XForwardedUser", "ada")],
        [("X-Forwarded-User", "bob, ada")],
        [("X-Forwarded-User", "bob\nada")],
        [("X-Forwarded-User", "a\u202eda")],
        [("X-Forwarded-User", "a" * 201)],
        [("X-Forwarded-User", "bob"), ("X-Forwarded-Groups", "a"), ("X_Forwarded_Groups", "ops")],
    ],
)
def test_an_invalid_name_is_unidentified(headers: list[tuple[str, str]]) -> None:
    assert ask(PROXY, *headers, peer="10.0.0.7") == Unidentified(IdentityProblem.AMBIGUOUS_HEADER)


@pytest.mark.parametrize("headers", [[], [("X-Forwarded-User", "")], [("X-Forwarded-User", " ")]])
def test_a_proxy_request_without_a_name_is_unidentified(headers: list[tuple[str, str]]) -> None:
    assert ask(PROXY, *headers, peer="10.0.0.7") == Unidentified(IdentityProblem.NO_HEADER)


def test_a_login_is_believed_until_its_token_ends() -> None:
    found = ask(OIDC, claims=LOGIN)
    assert found == Actor("ada@example.com", Origin.OIDC, frozenset({"ops"}), NOW + 3600)
    assert isinstance(found, Actor)
    assert access_of(OIDC).role_of(found) is Role.OPERATOR


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"is_logged_in": False}, IdentityProblem.NOT_LOGGED_IN),
        ({"is_logged_in": "yes"}, IdentityProblem.NOT_LOGGED_IN),
        ({"exp": NOW}, IdentityProblem.EXPIRED),
        ({"exp": 0}, IdentityProblem.EXPIRED),
        ({"exp": None}, IdentityProblem.NO_EXPIRY),
        ({"exp": "99999999999"}, IdentityProblem.NO_EXPIRY),
        ({"exp": True}, IdentityProblem.NO_EXPIRY),
        ({"exp": float("nan")}, IdentityProblem.NO_EXPIRY),
        ({"exp": float("inf")}, IdentityProblem.NO_EXPIRY),
        ({"email": ""}, IdentityProblem.NO_NAME),
        ({"email": ["ada@example.com"]}, IdentityProblem.NO_NAME),
        ({"email": "ada@example.com\n"}, IdentityProblem.NO_NAME),
        ({"email_verified": False}, IdentityProblem.NOT_VERIFIED),
        ({"email_verified": "true"}, IdentityProblem.NOT_VERIFIED),
    ],
)
def test_an_invalid_login_is_unidentified(change: dict[str, Any], problem: IdentityProblem) -> None:
    assert ask(OIDC, claims={**LOGIN, **change}) == Unidentified(problem)


@pytest.mark.parametrize("groups", ["ops", ["ops"], ("ops",), [{"x": 1}, "ops", 7, ""]])
def test_groups_come_in_several_forms(groups: object) -> None:
    found = ask(OIDC, claims={**LOGIN, "groups": groups})
    assert isinstance(found, Actor)
    assert found.groups == {"ops"}


def test_a_header_means_nothing_to_a_login() -> None:
    headers = [("X-Forwarded-User", "ada@example.com"), HOST]
    assert ask(OIDC, *headers, peer="10.0.0.7") == Unidentified(IdentityProblem.NOT_LOGGED_IN)


def test_a_visitor_in_no_list_may_view_or_not_as_configured() -> None:
    found = ask(OIDC, claims=LOGIN)
    assert isinstance(found, Actor)
    assert access_of(configured(authentication="oidc")).role_of(found) is Role.VIEWER
    closed = configured(authentication="oidc", viewers=["eve@example.com"])
    assert access_of(closed).role_of(found) is Role.NONE


@given(
    headers=st.lists(st.tuples(st.text(), st.text())),
    peer=st.one_of(st.none(), st.text(), st.ip_addresses().map(str)),
    claims=st.dictionaries(st.text(), st.one_of(st.none(), st.text(), st.floats(), st.booleans())),
)
def test_nothing_that_is_said_makes_an_admin_without_proof(
    headers: list[tuple[str, str]], peer: str | None, claims: dict[str, Any]
) -> None:
    for settings in (PROXY, OIDC, configured(authentication="public", admins=["*"])):
        found = identify(settings, headers=headers, peer=peer, claims=claims, now=NOW)
        if isinstance(found, Actor) and found.how is not Origin.PUBLIC:
            assert peer == "10.0.0.7" or (peer or "").startswith("192.168.4.")
        elif isinstance(found, Actor):
            assert access_of(settings).role_of(found) is Role.VIEWER


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9"])
def test_a_loopback_address_needs_no_guard(host: str) -> None:
    check_exposure(configured(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "queues.example.com"])
def test_an_open_address_needs_one(host: str) -> None:
    with pytest.raises(ConfigurationError, match="QUEUESCOPE_AUTHENTICATION=public"):
        check_exposure(configured(host=host))
    for kind in ("public", "oidc"):
        check_exposure(configured(host=host, authentication=kind))
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        check_exposure(configured(host=host, authentication="proxy"))
    check_exposure(configured(host=host, authentication="proxy", trusted_proxies=["10.0.0.7"]))


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
def test_not_every_address_can_be_a_proxy(network: str) -> None:
    settings = configured(authentication="proxy", trusted_proxies=["10.0.0.7", network])
    with pytest.raises(ConfigurationError, match="anyone could claim any name"):
        check_exposure(settings)
