"""Masks obvious secrets in the text of an error.

Errors quote their input: addresses with passwords, headers, whole configurations. Every viewer can
read the job history and export it as CSV, so secrets are masked before they are written. Only text
that looks like a secret is found; ``instrument(redact=…)`` masks the rest.
"""

from __future__ import annotations

import re

MASK = "[redacted]"

_NAME = (
    r"(?: [\w.-]* (?: passw(?:or)?d | passphrase | pwd | secret | token | credential | signature"
    r" | (?: api | access | secret | private ) [_-]? key (?: [_-]? id )? | session [_-]? id )"
    r" | pass | sig )"
)
_VALUE = (
    r"""(?: [bru]{1,2} (?=['"]) )? \\* (?: "(?:[^"\\]|\\.)*"? | '(?:[^'\\]|\\.)*'? | [^\s'"&;]+ )"""
)

# The text of a group stays, to show what was masked.
_SECRETS = re.compile(
    r"""
      -----BEGIN\ [A-Z0-9\ ]{0,40}PRIVATE\ KEY-----
      .*? (?: -----END\ [A-Z0-9\ ]{0,40}PRIVATE\ KEY----- | \Z )
    | (?P<url> [a-z][a-z0-9+.-]{0,30} :// (?: [^\s:/?\#@'"]* : )? ) [^\s/?\#'"]+ (?=@)
    | (?P<header>
          \b (?: proxy- )? authorization \\* ['"]? \s* [:=] \s* \\* ['"]? (?: [a-z]+ \s+ )?
        | \b (?: bearer | basic ) \s+ (?= [\w.~+/=-]{8} )
        | (?<! [\w.-] ) (?: set- )? cookie \\* ['"]? \s* : \s* \\* ['"]? [^\s;=]+ =
      ) [^\s'"&;,]+
    | (?P<option> -- NAME \s+ ) VALUE
    | (?P<name> (?<! [\w.-] ) NAME \\* ['"]? \s* (?: => | = | : ) \s* ) VALUE
    | \b (?: AKIA | ASIA ) [A-Z0-9]{16} \b
    | \b sk - (?= [\w-]*\d ) [\w-]{16,}
    | \b (?: sk | pk | rk ) _ (?: live | test ) _ \w{10,}
    | \b (?: gh[pousr]_ | github_pat_ | glpat- | xox[abprs]- | npm_ | hf_ ) [\w-]{16,}
    | \b AIza [\w-]{30,}
    | \b eyJ [\w-]{5,} \. [\w-]{5,} (?: \. [\w-]* )?
    """.replace("NAME", _NAME).replace("VALUE", _VALUE),
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def redacted(text: str) -> str:
    """``text`` with ``[redacted]`` in the place of each obvious secret."""
    return _SECRETS.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    return f"{found[found.lastgroup] if found.lastgroup else ''}{MASK}"
