"""Fingerprints: messages without their variable parts."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from queuescope.jobs.fingerprint import (
    PATTERN_LIMIT,
    fingerprint,
    normalise,
    words_and_variables,
)

# Whatever the rules look for, whole and in pieces.
PIECES = st.sampled_from(
    [
        *"'\"`<>…/\\:.,-+@~ \n\t“”«»„‘’[]{}()_eExXzaf019é٣²%",
        *("<n>", "<text>", "<path>", "<pa", "th>", "http://", "0x", "12:30:45", "2026-01-02"),
        *("a.b", "localhost:", "::1", "c:\\", "../", "deadbeef1", "10.0.0.1", "1e5", "\ud800"),
        "6f1c1e9e-1111-2222-3333-444455556666",
        *("429 Too Many Requests", "status 503", "Errno 2", "ORA-00942", "HTTP/1.1 404"),
    ]
)
MESSAGES = st.one_of(
    st.text(),
    st.lists(PIECES, max_size=30).map("".join),
    st.lists(PIECES, min_size=60, max_size=400).map("".join),
)


@given(MESSAGES)
@example("''_''")
@example("'" * 999)
def test_normalising_twice_is_normalising_once(message: str) -> None:
    pattern = normalise(message)
    assert len(pattern) <= PATTERN_LIMIT
    assert normalise(pattern) == pattern


def test_a_pattern_is_words_and_names_of_what_varies_in_turn() -> None:
    assert words_and_variables("ticket <n>: the field <text> is missing") == (
        *("ticket ", "number", ": the field ", "text", " is missing"),
    )
    assert words_and_variables("<id><n> <b>") == ("", "id", "", "number", " <b>")
    assert words_and_variables("") == ("",)


@given(st.lists(st.sampled_from(["acme", "ticket", "did not", "answer", "(", ")", ":", "."])))
def test_words_are_left_as_they_are(words: list[str]) -> None:
    assert normalise(" ".join(words)) == " ".join(words)


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.uuids(), st.datetimes())
def test_what_varies_does_not_matter(number: int, ratio: float, ident: object, at: object) -> None:
    assert normalise(f"job {ident} took {number} at {at}Z") == "job <id> took <n> at <time>"
    assert normalise(f"ratio {ratio!r}.") == "ratio <n>."


@pytest.mark.parametrize(
    ("message", "pattern"),
    [
        ("", ""),
        ("no such order", "no such order"),
        (
            "the model did not answer within 60 s (ticket 123456)",
            "the model did not answer within <n> s (ticket <n>)",
        ),
        ("ticket 7: the field 'body' is missing", "ticket <n>: the field <text> is missing"),
        ("429 Too Many Requests", "429 Too Many Requests"),
        (
            "503 Server Error: Service Unavailable for url: https://x.example/a",
            "503 Server Error: Service Unavailable for url: <address>",
        ),
        ("ORA-00942: no table for ticket 77", "ORA-00942: no table for ticket <n>"),
        ("HTTP/1.1 404 after 404 ms", "HTTP/1.1 404 after <n> ms"),
        ("exit status 137, status=503, code: 7", "exit status 137, status=503, code: 7"),
        ("error 1045 on try 3; one-time code 483920", "error 1045 on try <n>; one-time code <n>"),
        ("Error: 12 rows of 429", "Error: <n> rows of <n>"),
        ("status 4.29, JIRA-123", "status <n>, JIRA-<n>"),
        ("'name'", "<text>"),
        ("can't open the user's file", "can't open the user's file"),
        (
            "[Errno 2] No such file or directory: '/tmp/a b/x.txt'",
            "[Errno 2] No such file or directory: <text>",
        ),
        ("cannot read /var/lib/x/7.db: locked", "cannot read <path>: locked"),
        (r"C:\Users\bob\x.txt is missing", "<path> is missing"),
        ("see https://x.example/a?id=3 (again)", "see <address> (again)"),
        ("no route to 10.0.0.7:5432", "no route to <address>"),
        ("no route to fe80::1", "no route to <address>"),
        ("db.example.com:5432 refused", "<address> refused"),
        ("views.py:33 in line 12", "views.py:<n> in line <n>"),
        ("mail to ada@example.com failed", "mail to <address> failed"),
        ("at 2026-11-24T07:00:01.123+01:00", "at <time>"),
        ("since 07:00:01 or 2026-11-24", "since <time> or <time>"),
        ("object at 0x7f3a2b", "object at <n>"),
        ("commit deadbeefcafe1234", "commit <n>"),
        ("defaced facade", "defaced facade"),
        ("x=-5, y=+1.5e-3, 99%", "x=<n>, y=<n>, <n>%"),
        ("worker-3 of 1,024", "worker-<n> of <n>"),
        ("und „so“ oder «so» oder “so”", "und <text> oder <text> oder <text>"),
        ("either/or is std::vector<int>", "either/or is std::vector<int>"),
        ("two\n  lines\tof it ", "two lines of it"),
        ("a <n> that was there before", "a <n> that was there before"),
    ],
)
def test_known_messages_have_known_patterns(message: str, pattern: str) -> None:
    assert normalise(message) == pattern


def test_a_long_message_is_cut_and_says_so() -> None:
    long = normalise("word " * 100)
    assert PATTERN_LIMIT - 5 <= len(long) <= PATTERN_LIMIT
    assert long.endswith(" word…")
    assert normalise("word " * 100 + "7") == long
    assert normalise("7" * 100_000) == "<n>…"


def test_nested_quotes_end_in_words() -> None:
    nested = "".join(f"'{chr(97 + n % 26)}_" for n in range(60)) + "_'" * 60
    assert normalise(normalise(nested)) == normalise(nested)


def test_each_part_makes_a_difference() -> None:
    kinds = [
        ("enhance", "TimeoutError", "too late"),
        ("classify", "TimeoutError", "too late"),
        ("enhance", "ValueError", "too late"),
        ("enhance", "TimeoutError", "too early"),
        ("enhanceTimeoutError", "", "too late"),
        ("enhance", "", "TimeoutErrortoo late"),
    ]
    marks = [fingerprint(*kind) for kind in kinds]
    assert all(one != other for one, other in combinations(marks, 2))
    assert fingerprint("enhance", "TimeoutError", "too late") == marks[0]


@given(st.text(), st.text(), MESSAGES)
def test_any_text_has_a_fingerprint_of_sixteen_digits(
    name: str, error_class: str, message: str
) -> None:
    mark = fingerprint(name, error_class, message)
    assert len(mark) == 16
    assert set(mark) <= set("0123456789abcdef")
    assert fingerprint(name, error_class, normalise(message)) == mark


def test_a_fingerprint_is_the_same_in_every_process_and_for_ever() -> None:
    """Rows of years ago are grouped with those of today."""
    said = "from queuescope.jobs.fingerprint import fingerprint as f; print(f('a', 'E', 'in 3 s'))"
    done = subprocess.run(
        [sys.executable, "-c", said],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "7"},
    )
    assert done.stdout.strip() == fingerprint("a", "E", "in 4 s") == "2582a66a5df8e464"
