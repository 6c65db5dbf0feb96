"""Roles and rights. A right is checked at the moment of the effect and never cached."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from queuescope.errors import RefusalReason, RefusedError
from queuescope.operations.request import Operation, Request

EVERYBODY = "*"
GROUP_PREFIX = "group:"


class Role(StrEnum):
    """Each role has the rights of the one before. ``NONE`` may not even view; the audit has always
    called it ``nobody``.
    """

    NONE = "nobody"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Origin(StrEnum):
    """How an actor was identified. ``loopback`` has the operator's key, on this machine;
    ``without_key`` does not.
    """

    LOOPBACK = "loopback"
    PUBLIC = "public"
    WITHOUT_KEY = "without_key"
    PROXY = "proxy"
    OIDC = "oidc"


@dataclass(frozen=True, slots=True)
class Actor:
    """An identified person, without a role. ``expires_at`` is in epoch seconds."""

    name: str
    how: Origin
    groups: frozenset[str] = frozenset()
    expires_at: float | None = None

    def has_expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at


class Access:
    """The roles of the configured people and groups.

    An entry is a name as the identity provider writes it, ``group:`` with a group's name, or ``*``
    for everybody with a proven name. A person in several lists has the highest role, a person in
    none has ``Role.NONE``. Without authentication, whoever has the operator's key on this machine
    (``loopback``) is an admin, and everybody else a viewer, as in public mode, whatever the lists
    say.
    """

    def __init__(
        self,
        *,
        viewers: Collection[str] = (EVERYBODY,),
        operators: Collection[str] = (),
        admins: Collection[str] = (),
    ) -> None:
        self._lists = (
            (Role.ADMIN, frozenset(admins)),
            (Role.OPERATOR, frozenset(operators)),
            (Role.VIEWER, frozenset(viewers)),
        )

    def role_of(self, actor: Actor) -> Role:
        if actor.how is Origin.LOOPBACK:
            return Role.ADMIN
        if actor.how in (Origin.PUBLIC, Origin.WITHOUT_KEY):
            return Role.VIEWER
        # A user whose name looks like a group, or is ``*``, must not match those entries.
        is_plain = actor.name != EVERYBODY and not actor.name.startswith(GROUP_PREFIX)
        known_as = {actor.name} if actor.name and is_plain else set()
        known_as |= {f"{GROUP_PREFIX}{group}" for group in actor.groups}
        for role, entries in self._lists:
            if known_as & entries or (known_as and EVERYBODY in entries):
                return role
        return Role.NONE

    def require(self, actor: Actor, request: Request, now: float) -> Role:
        """The role with which ``actor`` may make ``request`` at ``now`` (epoch seconds).

        Raises ``RefusedError``.
        """
        if actor.has_expired(now):
            raise RefusedError(
                RefusalReason.IDENTITY_EXPIRED, "Your login has expired; log in again."
            )
        role = self.role_of(actor)
        needed = needed_role(request)
        if not role.covers(needed):
            raise RefusedError(
                RefusalReason.NO_RIGHT,
                f"To {request.words()} you need the role {needed}; yours is {role}.",
            )
        return role


def needed_role(request: Request) -> Role:
    """Operator for what affects one thing and can be undone, otherwise admin."""
    match request.operation:
        case Operation.PAUSE | Operation.RESUME:
            return Role.ADMIN if request.is_for_all else Role.OPERATOR
        case Operation.RETRY:
            return Role.OPERATOR
        case Operation.REVOKE:
            return Role.ADMIN if request.terminate else Role.OPERATOR
        case Operation.PURGE | Operation.RESTORE | Operation.SCALE:
            return Role.ADMIN
