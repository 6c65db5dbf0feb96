"""Challenges: each act is planned first, and carried out once by whoever planned it.

A challenge is bound to the actor, to all that was asked, to how many that touched, and to the
revision of its target. Only the hash of its token is stored, where all replicas see it.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

import msgspec
from sqlalchemy import BigInteger, Column, Connection, String, Table, Text, delete, insert, update
from sqlalchemy import select as select_rows

from queuescope.database import as_text
from queuescope.errors import RefusalReason, RefusedError
from queuescope.operations.access import Actor
from queuescope.operations.audit import TEXT_LIMIT, metadata
from queuescope.operations.request import Request

LIFETIME_SECONDS = 60
_REMEMBERED_SECONDS = 3600
_GROWTH_JOBS = 10
_GROWTH_RATIO = 0.1

_challenges = Table(
    "operations_challenges",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("actor", String(TEXT_LIMIT), nullable=False),
    Column("how", String(16), nullable=False),
    Column("request", Text, nullable=False),
    Column("planned_count", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False, index=True),
    Column("used_at_ms", BigInteger),
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What was planned: ``count`` is how many it touched then, ``revision`` that of its target."""

    request: Request
    count: int
    revision: int
    expires_at_ms: int

    def confirm(self, typed: str) -> None:
        """Raises ``RefusedError`` unless ``typed`` is the phrase, where one is asked for."""
        if not self.request.is_confirmed_by(typed, self.count):
            phrase = self.request.phrase(self.count)
            raise RefusedError(
                RefusalReason.WRONG_PHRASE, f"To confirm, type “{phrase}” exactly as it stands."
            )

    def compare(self, count: int) -> None:
        """Raises ``RefusedError`` when ``count``, the present one, is far above the planned."""
        if count > self.count + max(_GROWTH_JOBS, _GROWTH_RATIO * self.count):
            raise RefusedError(
                RefusalReason.GROWN,
                f"There were {self.count:,} and are now {count:,}; look again before you confirm.",
            )


def issue(
    connection: Connection,
    actor: Actor,
    request: Request,
    *,
    count: int,
    revision: int,
    now_ms: int,
) -> tuple[str, Challenge]:
    """A new challenge and its token, which is secret and stands nowhere else."""
    forgotten = now_ms - _REMEMBERED_SECONDS * 1000
    connection.execute(delete(_challenges).where(_challenges.c.expires_at_ms < forgotten))
    token = secrets.token_urlsafe(32)
    made = Challenge(request, count, revision, now_ms + LIFETIME_SECONDS * 1000)
    connection.execute(
        insert(_challenges).values(
            token_hash=_hash(token),
            actor=actor.name,
            how=actor.how.value,
            request=msgspec.json.encode(request).decode(),
            planned_count=count,
            revision=revision,
            expires_at_ms=made.expires_at_ms,
        )
    )
    return token, made


def look_up(
    connection: Connection, token: str, actor: Actor, request: Request, now_ms: int
) -> Challenge:
    """The challenge of ``token``, if ``actor`` may use it for ``request`` now; it stays unused.

    Raises ``RefusedError``.
    """
    row = connection.execute(
        select_rows(_challenges).where(_challenges.c.token_hash == _hash(token))
    ).one_or_none()
    if row is None:
        raise RefusedError(
            RefusalReason.CHALLENGE_UNKNOWN, "This confirmation is not known; begin again."
        )
    if (row.actor, row.how) != (actor.name, actor.how.value):
        raise RefusedError(
            RefusalReason.CHALLENGE_FOREIGN, "This confirmation was made for somebody else."
        )
    try:
        planned = msgspec.json.decode(as_text(row.request, 1_000_000), type=Request)
    except (ValueError, RecursionError) as exc:
        raise RefusedError(
            RefusalReason.CHALLENGE_UNKNOWN, "This confirmation is damaged; begin again."
        ) from exc
    if planned != request:
        raise RefusedError(
            RefusalReason.WRONG_TARGET,
            f"This confirmation was made to {planned.words()}; begin again.",
        )
    if row.used_at_ms is not None:
        raise _used()
    if now_ms >= row.expires_at_ms:
        raise RefusedError(
            RefusalReason.CHALLENGE_EXPIRED,
            f"A confirmation holds for {LIFETIME_SECONDS} seconds; begin again.",
        )
    return Challenge(planned, row.planned_count, row.revision, row.expires_at_ms)


def use(connection: Connection, token: str, now_ms: int) -> None:
    """Mark it as used. Raises ``RefusedError`` when it is already."""
    used = connection.execute(
        update(_challenges)
        .where(_challenges.c.token_hash == _hash(token), _challenges.c.used_at_ms.is_(None))
        .values(used_at_ms=now_ms)
    )
    if used.rowcount != 1:
        raise _used()


def _used() -> RefusedError:
    return RefusedError(
        RefusalReason.CHALLENGE_USED, "This confirmation was used already; begin again."
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
