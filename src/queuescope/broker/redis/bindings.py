"""Which queues a message of an exchange goes to, as kombu decides it over Redis. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BINDING = "_kombu.binding.%s"
"""The key at which kombu keeps the bindings of an exchange."""
BINDINGS_LIMIT = 1000
"""The most bindings that are read."""
_ANY_WORD, _ANY_WORDS = "*", "#"


@dataclass(frozen=True, slots=True)
class Binding:
    """Leads from an exchange to ``queue``, by a key or, for a topic exchange, a pattern."""

    routing_key: str
    queue: str
    is_pattern: bool = False

    @classmethod
    def parse(cls, member: bytes, separator: str) -> Binding | None:
        """A binding as kombu writes it: routing key, regular expression, queue; ``None`` if
        malformed.
        """
        parts = member.decode("utf-8", "replace").split(separator)
        if len(parts) != 3:
            return None
        key, expression, queue = parts
        # Any client may have written the expression, so it is not run: the key says the same.
        return cls(key, queue, is_pattern=bool(expression))

    def matches(self, routing_key: str) -> bool:
        if self.is_pattern:
            return _matches(self.routing_key.split("."), routing_key.split("."))
        return self.routing_key == routing_key


def destinations(routing_key: str, bindings: Iterable[Binding]) -> frozenset[str]:
    """The queues that each receive a copy of a message with this ``routing_key``."""
    return frozenset(binding.queue for binding in bindings if binding.matches(routing_key))


def _matches(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Whether ``words`` fit ``pattern``, in which ``*`` is one word and ``#`` is one or more."""
    # reached[n]: the pattern so far fits the first n words.
    reached = [True] + [False] * len(words)
    for part in pattern:
        after = [False] * (len(words) + 1)
        for n, word in enumerate(words, 1):
            if part == _ANY_WORDS:
                after[n] = reached[n - 1] or after[n - 1]
            else:
                fits = bool(word) if part == _ANY_WORD else word == part
                after[n] = reached[n - 1] and fits
        reached = after
    return reached[-1]
