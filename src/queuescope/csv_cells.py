"""Escapes CSV cells so that no spreadsheet evaluates them as formulas.

A spreadsheet evaluates every CSV cell that begins like a formula, and jobs and operations contain
foreign text. Text gets an apostrophe wherever a spreadsheet could see the start of a formula: at
its beginning and, since spreadsheets of some countries separate cells by semicolons, after a
semicolon, a tab or a line break.
"""

from __future__ import annotations

import re

# Characters that a spreadsheet may skip before a sign: spaces, quotes, and invisible ones.
_SKIPPED = r"[\s\"\x00-\x20\x7f-\xa0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]*"
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20\u2212\ufe62\ufe63\ufe66\ufe6b"
_FORMULA = re.compile(rf"(?:\A|(?<=[;\t\r\n])){_SKIPPED}(?=[{_SIGNS}])")
_CONTROL = re.compile(r"\A[\t\r\n]")


def harmless(text: str) -> str:
    """``text`` with apostrophes where a spreadsheet could take it for a formula."""
    if _CONTROL.match(text):
        text = f"'{text}"
    return _FORMULA.sub(r"\g<0>'", text)
