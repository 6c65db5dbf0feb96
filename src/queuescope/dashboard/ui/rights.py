"""What a visitor may request now, and why not; only for display.

Disabled buttons are a courtesy: the right is checked again where the operation is carried out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from queuescope.dashboard.auth.identity import Unidentified, access_of
from queuescope.dashboard.services import services
from queuescope.dashboard.ui.visitor import visitor
from queuescope.errors import RefusedError
from queuescope.operations.access import Access, Actor, Origin, Role
from queuescope.operations.request import Operation, Request

_NEEDS_KEY = "Operations require the operator’s key; the page Operations says where it is."


@dataclass(frozen=True, slots=True)
class Rights:
    """What the visitor may request now; see ``visitor_rights``."""

    who: Actor | Unidentified
    obstacle: str
    _access: Access
    missing: Mapping[Operation, str] = field(default_factory=dict)
    """The operations that the broker cannot do, each with the reason."""

    @property
    def role(self) -> Role:
        return Role.NONE if isinstance(self.who, Unidentified) else self._access.role_of(self.who)

    def refusal(self, make: Callable[[], Request]) -> str:
        """Why the visitor cannot request what ``make`` returns, or empty."""
        if isinstance(self.who, Unidentified):
            return self.who.problem
        if self.who.how is Origin.WITHOUT_KEY:
            # An obstacle for everyone goes before a missing key.
            return self.obstacle or _NEEDS_KEY
        try:
            request = make()
            self._access.require(self.who, request, time.time())
        except RefusedError as exc:
            return str(exc)
        return self.obstacle or self.missing.get(request.operation, "")


def visitor_rights() -> Rights:
    """The visitor's rights, and what blocks operations for everyone, from memory alone.

    To be called in each run, and only for display: each operation is checked by itself.
    """
    context = services().operations_context
    missing = {} if context is None else context.missing
    return Rights(visitor(), obstacle(), access_of(services().settings), missing)


def no_broker() -> str:
    """Why there is no broker to operate on."""
    refused = services().refused_broker
    return (
        "No broker is configured." if refused is None else f"The broker cannot be used: {refused}."
    )


def obstacle() -> str:
    """Why no one can run operations now, as a sentence, or empty."""
    broker, acting = services().broker, services().operations
    if broker is None or acting is None:
        return no_broker()
    audit, seen = acting.audit.known, broker.known
    if audit.error is not None:
        return f"Operations are refused because the audit cannot be read: {audit.error}."
    if audit.value is not None and audit.value.refusal is not None:
        return f"Operations are refused because the audit cannot be written: {audit.value.refusal}."
    for known in (seen, acting.writable.known):
        if known.error is not None:
            return f"Operations are off: {known.error}."
    if audit.value is None or seen.value is None:
        return "Broker and audit have not answered yet."
    return ""
