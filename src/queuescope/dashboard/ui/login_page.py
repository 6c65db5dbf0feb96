"""The visitor card in a corner of every page, and the login page."""

from __future__ import annotations

from typing import assert_never

import streamlit as st

from queuescope.dashboard.auth.admission import MUST_LOG_IN, NOT_A_VIEWER
from queuescope.dashboard.auth.identity import IdentityProblem, Unidentified
from queuescope.dashboard.auth.login import UNNAMED, providers
from queuescope.dashboard.ui.visitor import role_of
from queuescope.dashboard.ui.widgets import Markup, element, joined, show
from queuescope.operations.access import Actor, Origin, Role

LOG_OUT = "auth/logout"

_RIGHTS = {
    Role.NONE: "May not do anything here.",
    Role.VIEWER: "May view, and change nothing.",
    Role.OPERATOR: "May view, pause and resume a queue, retry and revoke jobs.",
    Role.ADMIN: "May view and do everything.",
}


def show_visitor(found: Actor) -> None:
    """Show in a corner of the page who the visitor is and what they may do."""
    role = role_of(found)
    login = element("a", "Log out", href=LOG_OUT, target="_self", class_="qs-leave")
    match found.how:
        case Origin.LOOPBACK:
            label = element("span", "This machine only")
            about = ["This machine only. You hold the operator’s key and may run operations."]
        case Origin.WITHOUT_KEY:
            label = element("span", "View only")
            about = ["Everyone may view this dashboard. Operations require the operator’s key."]
        case Origin.PUBLIC:
            label = element("span", "Open to all")
            about = ["Everyone may view this dashboard, and no one may run operations."]
        case Origin.PROXY | Origin.OIDC:
            label = joined(
                element("span", found.name, class_="qs-name"),
                element("span", role, class_="qs-role"),
            )
            about = [found.name, _RIGHTS[role]]
        case _:
            assert_never(found.how)
    card = [element("p", line) for line in about]
    if found.how is Origin.OIDC:
        card.append(login)
    show(
        element(
            "details",
            element("summary", label, aria_label=f"Visitor: {' '.join(about)}"),
            element("div", *card),
            class_="qs-visitor",
        )
    )


def show_login_page(found: Actor | Unidentified) -> None:
    """Show the login, or a sentence for visitors who may not view the dashboard.

    Nothing else is drawn, so the visitor sees no data.
    """
    sentence = NOT_A_VIEWER if isinstance(found, Actor) else str(found.problem)
    with st.container(horizontal_alignment="center", gap="small"):
        if isinstance(found, Unidentified) and found.problem in MUST_LOG_IN:
            is_new = found.problem is IdentityProblem.NOT_LOGGED_IN
            show(_login_heading("Log in to Queuescope", "" if is_new else sentence))
            names = providers()
            for name in names:
                label = "Log in" if len(names) == 1 else f"Log in with {_shown(name)}"
                if st.button(label, key=f"log-in-{name}", type="primary"):
                    st.login(name)
            return
        parts = [_login_heading("Queuescope", sentence)]
        if isinstance(found, Actor) and found.how is Origin.OIDC:
            parts.append(
                element(
                    "p",
                    f"You are logged in as {found.name}. ",
                    element("a", "Log out", href=LOG_OUT, target="_self"),
                    class_="qs-entrance",
                )
            )
        show(*parts)


def _login_heading(title: str, sentence: str) -> Markup:
    said = [element("p", sentence)] if sentence else []
    return element("div", element("h1", title), *said, class_="qs-entrance")


def _shown(provider: str) -> str:
    return "the default provider" if provider == UNNAMED else provider.capitalize()
