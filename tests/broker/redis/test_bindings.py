"""The queues of an exchange are the same as in kombu."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.virtual.exchange import TopicExchange

from queuescope.broker.redis.bindings import Binding, destinations

SEPARATOR = "\x06\x16"
# A wildcard is a word of its own; within another one it means nothing in AMQP.
KEYS = st.lists(st.sampled_from(["a", "b", "", "*", "#", "[x"]), max_size=5).map(".".join)


@given(pattern=KEYS, key=KEYS)
def test_a_pattern_matches_the_same_keys_as_in_kombu(pattern: str, key: str) -> None:
    expression = TopicExchange(None).key_to_pattern(pattern)  # type: ignore[no-untyped-call]
    member = SEPARATOR.join([pattern, expression, "q"]).encode()
    binding = Binding.parse(member, SEPARATOR)
    assert binding is not None
    assert binding.matches(key) == bool(re.match(expression, key))


def test_direct_keys_are_not_patterns_and_malformed_bindings_are_ignored() -> None:
    members = [b"a.*\x06\x16\x06\x16one", b"a.b\x06\x16\x06\x16two", b"a.b\x06\x16\x06\x16three"]
    bindings = [b for m in members if (b := Binding.parse(m, SEPARATOR)) is not None]
    assert destinations("a.b", bindings) == {"two", "three"}
    assert destinations("a.*", bindings) == {"one"}
    assert destinations("", bindings) == set()
    assert Binding.parse(b"\xff", SEPARATOR) is None


def test_an_expression_that_never_ends_is_not_run() -> None:
    member = SEPARATOR.join(["#.#.#.#.#.#.#.#.b", "^(a+)+$", "q"]).encode()
    binding = Binding.parse(member, SEPARATOR)
    assert binding is not None
    assert not binding.matches(".".join("a" * 100))
