"""Every role with every operation, and how names and groups become roles."""

from __future__ import annotations

import pytest

from queuescope.errors import RefusalReason, RefusedError
from queuescope.operations.access import Access, Actor, Origin, Role, needed_role
from queuescope.operations.request import Operation, Request

NOW = 1_795_000_000.0
REQUESTS = {
    Request.pause("default"): Role.OPERATOR,
    Request.resume("default"): Role.OPERATOR,
    Request.retry(["j1", "j2"]): Role.OPERATOR,
    Request.revoke("j1"): Role.OPERATOR,
    Request.pause("*"): Role.ADMIN,
    Request.resume("*"): Role.ADMIN,
    Request.purge("default"): Role.ADMIN,
    Request.restore("p1"): Role.ADMIN,
    Request.revoke("j1", terminate=True): Role.ADMIN,
    Request.scale("w1@host", 4): Role.ADMIN,
}
PEOPLE = {
    Role.NONE: Actor("mallory", Origin.OIDC),
    Role.VIEWER: Actor("vera", Origin.OIDC),
    Role.OPERATOR: Actor("olga", Origin.OIDC),
    Role.ADMIN: Actor("ada", Origin.OIDC),
}
ACCESS = Access(viewers=["vera"], operators=["olga"], admins=["ada"])


def test_every_operation_has_its_role() -> None:
    assert {request.operation for request in REQUESTS} == set(Operation)
    assert {request: needed_role(request) for request in REQUESTS} == REQUESTS


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("request_", REQUESTS, ids=Request.words)
def test_the_right_decides(role: Role, request_: Request) -> None:
    may = list(Role).index(role) >= list(Role).index(REQUESTS[request_])
    if may:
        assert ACCESS.require(PEOPLE[role], request_, NOW) is role
        return
    with pytest.raises(RefusedError, match=f"yours is {role}") as caught:
        ACCESS.require(PEOPLE[role], request_, NOW)
    assert caught.value.reason is RefusalReason.NO_RIGHT


def test_the_highest_of_several_roles_counts() -> None:
    access = Access(viewers=["*"], operators=["group:ops"], admins=["group:leads", "ada"])
    assert access.role_of(Actor("bob", Origin.PROXY)) is Role.VIEWER
    assert access.role_of(Actor("bob", Origin.PROXY, frozenset({"ops"}))) is Role.OPERATOR
    assert access.role_of(Actor("bob", Origin.PROXY, frozenset({"ops", "leads"}))) is Role.ADMIN
    assert access.role_of(Actor("ada", Origin.PROXY)) is Role.ADMIN
    assert access.role_of(Actor("Ada", Origin.PROXY)) is Role.VIEWER


@pytest.mark.parametrize("name", ["group:leads", "*", ""])
def test_a_name_never_matches_a_group_or_everybody(name: str) -> None:
    access = Access(viewers=["*"], operators=["group:leads"], admins=["*x"])
    assert access.role_of(Actor(name, Origin.OIDC)) is Role.NONE


def test_without_authentication_only_this_machine_may_act() -> None:
    access = Access(admins=["public", "local"])
    assert access.role_of(Actor("local", Origin.LOOPBACK)) is Role.ADMIN
    assert access.role_of(Actor("public", Origin.PUBLIC)) is Role.VIEWER


def test_an_expired_login_has_no_rights() -> None:
    ada = Actor("ada", Origin.OIDC, expires_at=NOW)
    assert ACCESS.require(ada, Request.pause("q"), NOW - 1) is Role.ADMIN
    with pytest.raises(RefusedError, match="log in again") as caught:
        ACCESS.require(ada, Request.pause("q"), NOW)
    assert caught.value.reason is RefusalReason.IDENTITY_EXPIRED


@pytest.mark.parametrize("name", ["", " q", "q\n", "q\x00", "\u202eq", "q" * 201])
def test_a_request_names_something_that_can_exist(name: str) -> None:
    for make in (Request.pause, Request.purge, Request.restore, Request.revoke):
        with pytest.raises(RefusedError):
            make(name)
    with pytest.raises(RefusedError):
        Request.retry([name])
    with pytest.raises(RefusedError):
        Request.scale(name, 2)


def test_queues_are_purged_one_at_a_time_and_pools_keep_a_process() -> None:
    with pytest.raises(RefusedError, match="one at a time"):
        Request.purge("*")
    with pytest.raises(RefusedError, match="No job"):
        Request.retry([])
    with pytest.raises(RefusedError, match="from 1 to 1,000"):
        Request.scale("w", 0)


def test_the_same_jobs_are_the_same_target_in_any_order() -> None:
    assert Request.retry(["b", "a", "a"]) == Request.retry(["a", "b"])
    assert Request.retry(["a", "b"]).target != Request.retry(["a", "c"]).target
