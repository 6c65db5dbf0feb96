"""Which visitor a Streamlit script sees: by the connection of its page, at each call."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.dashboard.page_socket import PageSocket, elements, pressed, texts
from tests.dashboard.streamlit_app import running_app

from queuescope.operator_key import OperatorKey

APP = "tests.dashboard.ui.visitor_app:app"
PROXY = {
    "QUEUESCOPE_AUTHENTICATION": "proxy",
    "QUEUESCOPE_TRUSTED_PROXIES": "127.0.0.2",
    "QUEUESCOPE_OPERATORS": "ada",
}


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_app(APP, tmp_path_factory.mktemp("proxy"), PROXY) as port:
        yield port


@pytest.fixture(scope="module")
def operator_key(tmp_path_factory: pytest.TempPathFactory) -> OperatorKey:
    return OperatorKey(tmp_path_factory.mktemp("none"))


@pytest.fixture(scope="module")
def unguarded(operator_key: OperatorKey) -> Iterator[int]:
    folder = operator_key.path.parent
    with running_app(APP, folder, {"QUEUESCOPE_DATA_DIR": str(folder)}) as port:
        yield port


def _seen(page: PageSocket) -> dict[str, str]:
    """What each part of the script says, when the page's button is pressed."""
    (button,) = elements(page.run(), "button")
    drawn = page.run(widgets=[pressed(button.id)])
    return dict(text.split(": ", 1) for text in texts(drawn))


def test_without_authentication_the_key_holder_is_an_admin(
    unguarded: int, operator_key: OperatorKey
) -> None:
    with PageSocket(unguarded, headers=[("Cookie", "=".join(operator_key.cookie))]) as page:
        seen = _seen(page)
    assert set(seen) == {"script", "callback", "fragment"}
    for said in seen.values():
        assert re.fullmatch(r"Actor\(name='local', how=<Origin.LOOPBACK.*\) as admin", said)


def test_without_authentication_everybody_else_may_only_look(
    unguarded: int, operator_key: OperatorKey
) -> None:
    """A visitor without a key, and one who comes through a proxy."""
    cookie = ("Cookie", "=".join(operator_key.cookie))
    for headers in ([], [("X-Forwarded-For", "127.0.0.1"), cookie]):
        with PageSocket(unguarded, headers=headers) as page:
            assert all(said.endswith(" as viewer") for said in _seen(page).values())


def test_the_header_of_a_trusted_proxy_names_the_visitor(behind_proxy: int) -> None:
    for name, role in (("ada", "operator"), ("grace", "viewer")):
        headers = [("X-Forwarded-User", name)]
        with PageSocket(behind_proxy, headers=headers, source="127.0.0.2") as page:
            for said in _seen(page).values():
                assert said.startswith(f"Actor(name='{name}', how=<Origin.PROXY")
                assert said.endswith(f" as {role}")


@pytest.mark.parametrize(
    ("source", "headers", "problem"),
    [
        ("127.0.0.1", [("X-Forwarded-User", "ada")], "NOT_FROM_PROXY"),
        (
            "127.0.0.3",
            [("X-Forwarded-User", "ada"), ("X-Forwarded-For", "127.0.0.2")],
            "NOT_FROM_PROXY",
        ),
        ("127.0.0.2", [], "NO_HEADER"),
        (
            "127.0.0.2",
            [("X-Forwarded-User", "ada"), ("X-Forwarded-User", "eve")],
            "AMBIGUOUS_HEADER",
        ),
        (
            "127.0.0.2",
            [("X-Forwarded-User", "eve"), ("x-forwarded-user", "eve")],
            "AMBIGUOUS_HEADER",
        ),
        (
            "127.0.0.2",
            [("X-Forwarded-User", "ada"), ("X_Forwarded_User", "eve")],
            "AMBIGUOUS_HEADER",
        ),
        ("127.0.0.2", [("X_Forwarded_User", "ada")], "AMBIGUOUS_HEADER"),
        ("127.0.0.2", [("X-Forwarded-User", "eve, ada")], "AMBIGUOUS_HEADER"),
    ],
)
def test_what_a_visitor_could_forge_identifies_no_one(
    behind_proxy: int, source: str, headers: list[tuple[str, str]], problem: str
) -> None:
    with PageSocket(behind_proxy, headers=headers, source=source) as page:
        for said in _seen(page).values():
            assert said.startswith(f"Unidentified(problem=<IdentityProblem.{problem}:")
            assert said.endswith(" as nobody")


def test_a_session_that_is_taken_over_belongs_to_the_one_who_took_it(behind_proxy: int) -> None:
    """A session id gives no rights: each run identifies the visitor again."""
    ada = PageSocket(behind_proxy, headers=[("X-Forwarded-User", "ada")], source="127.0.0.2")
    _seen(ada)
    assert ada.session
    ada.close()
    headers = [("X-Forwarded-User", "eve")]
    with PageSocket(behind_proxy, headers=headers, source="127.0.0.2", session=ada.session) as eve:
        assert all("name='eve'" in said for said in _seen(eve).values())
