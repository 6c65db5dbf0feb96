"""Fingerprints of failures: job type, error class, and the message without its variable parts.

Pure text; nothing here reads a database. ``docs/jobs.md`` lists the rules.
"""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus

PATTERN_LIMIT = 200
FINGERPRINT_LENGTH = 16
_READ_LIMIT = 1000
_PASSES = 8
_CUT = "…"

# "429 Too Many Requests", of every status that has a name.
_PHRASES = "|".join(re.escape(f"{status.value} {status.phrase}") for status in HTTPStatus)

# If several rules match at one place, the first one counts. Placeholders contain no digits and
# match themselves. The characters excluded beside a match include those of placeholders, so that
# text that did not match before its neighbour was replaced does not match afterwards.
_RULES = re.compile(
    r"""
      (?P<kept>
          <(?:id|time|address|path|text|n)>
        | (?<![\w>”»“])                        # a code has a meaning, and is no variable
          (?: (?i: (?:status|code|errno)[\ :=\#(\[]{1,3} ) \d{1,5}
            | (?i: (?:error|winerror|signal)\ ) \d{1,5}
            | (?i: http (?:/\d(?:\.\d)?)? ) \  \d{3}
            | (?:ORA|PLS|TNS|DPY|DPI|SP2)-\d{3,5}
            | (?:PHRASES)
            | 4\d\d\ Client\ Error
            | 5\d\d\ Server\ Error
          ) (?![\w<…“«„]|[.,]\d)
      )
    | (?P<address>
          (?<![\w>+.-]) [A-Za-z][A-Za-z0-9+.-]* :// [^\s'"<>…]+               # a URL
        | (?<![\w>+.-]) [\w.+-]+ @ [\w-]+ (?:\.[\w-]+)+                       # a mail address
        | (?<![\w>.]) \d{1,3}(?:\.\d{1,3}){3} (?::\d+)? (?![\w<…])            # IPv4
        | (?<![\w>:]) (?=[0-9a-fA-F:]*\d) (?!\d\d:\d\d:\d\d(?![\w:]))         # IPv6
          (?:[0-9a-fA-F]{0,4}:){2,7} [0-9a-fA-F]{0,4} (?![\w:<…])
        | (?<![\w>.-]) (?:localhost|(?:[\w-]+\.)+[A-Za-z][\w-]*)              # a host's port,
          (?<!\.py) :\d+ (?![\w<…])                                           # no line of a file
      )
    | (?P<time>
          (?<![\w>]) \d{4}-\d\d-\d\d
          (?:[T\ ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)? (?![\w<…])
        | (?<![\w>:]) \d\d:\d\d:\d\d (?:[.,]\d+)? (?![\w:<…])
      )
    | (?P<id> (?<![\w>]) [0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12} (?![\w<…]) )
    | (?P<path>
          (?<![\w>.~/]) (?:[.~]|\.\.)? / [\w.~@%+-][^\s'"`<>,;:()\[\]{}…]*
        | (?<![\w>]) [A-Za-z]:\\ [^\s'"`<>,;:()\[\]{}…]+
      )
    | (?P<text>
          (?<![\w>]) (?: '[^']*' | "[^"]*" | `[^`]*` ) (?![\w<…])
        | “[^”]*” | «[^»]*» | „[^“”]*[“”] | ‘[^’]*’ (?![\w<…])
      )
    | (?P<n>                              # a hexadecimal id may chance to be of decimal digits
          (?<![\w>]) 0[xX][0-9a-fA-F]+ (?![\w<…])
        | (?<![\w>]) (?=[a-fA-F]*\d) (?=\d*[a-fA-F]) [0-9a-fA-F]{8,} (?![\w<…])
        | (?:(?<![\w>])[+-])? \d+ (?:[.,]\d+)* (?:[eE][+-]?\d+)?
      )
    """.replace("PHRASES", _PHRASES),
    re.VERBOSE,
)


_VARIABLE = re.compile(r"<(id|time|address|path|text|n)>")
_NAMES = {"n": "number"}


def normalise(message: str) -> str:
    """``message`` without the parts that vary between failures of the same kind.

    Addresses, times, UUIDs, paths, quoted texts and numbers (hexadecimal ids, too) become
    ``<address>``, ``<time>``, ``<id>``, ``<path>``, ``<text>`` and ``<n>``; white space becomes
    single spaces. Codes stay, such as ``429 Too Many Requests``, ``Errno 2`` and ``ORA-00942``.
    The result has at most ``PATTERN_LIMIT`` characters, the last one “…” if text was cut. Any text
    is accepted; a result is not changed by another call.
    """
    line = " ".join(message[:_READ_LIMIT].split())
    pattern = _cut(_RULES.sub(_placeholder, line), is_part=len(message) > _READ_LIMIT)
    # Quotes within quotes may need another pass; of deeper nesting only the words are kept.
    for _ in range(_PASSES):
        again = _cut(_RULES.sub(_placeholder, pattern))
        if again == pattern:
            return pattern
        pattern = again
    return " ".join(re.findall(r"[^\W\d]+", pattern))


def words_and_variables(pattern: str) -> tuple[str, ...]:
    """The parts of a ``pattern`` of ``normalise``: words, a variable part, words, and so on.

    Their number is odd; the parts at odd indexes name the kind of variable ("number", "text").
    """
    parts = _VARIABLE.split(pattern)
    return tuple(
        _NAMES.get(part, part) if number % 2 == 1 else part for number, part in enumerate(parts)
    )


def _cut(pattern: str, *, is_part: bool = False) -> str:
    if len(pattern) <= PATTERN_LIMIT and not is_part:
        return pattern
    return pattern[: PATTERN_LIMIT - 1].rstrip(f" {_CUT}") + _CUT


def _placeholder(found: re.Match[str]) -> str:
    return found["kept"] or f"<{found.lastgroup}>"


def fingerprint(name: str, error_class: str, message: str) -> str:
    """The same 16 hexadecimal digits for all failures of one kind, in every process.

    ``name`` is the job's type.
    """
    parts = (name, error_class, normalise(message))
    # The parts may hold lone surrogates, but never the separator.
    raw = "\x00".join(part.replace("\x00", "") for part in parts).encode(
        "utf-8", "backslashreplace"
    )
    return hashlib.sha256(raw).hexdigest()[:FINGERPRINT_LENGTH]
