"""The key that proves a visitor's rights if visitors are not identified.

A request from this machine proves nothing: with a forwarded port, everybody in the world looks like
a local visitor. So there is a key that is known only to people who can read the data directory or
the terminal in which the server was started.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from queuescope.errors import ConfigurationError
from queuescope.private_files import make_private_folder

PARAMETER = "key"
"""The parameter of an address that contains the key, once."""
COOKIE_SECONDS = 30 * 86_400
_FILE = "operator-key"
_KEY = re.compile(r"[A-Za-z0-9_-]{32,128}")
_LIMIT = 200


class OperatorKey:
    """The key of one data directory, the same for all processes that share it and after restarts.

    Threads may share one. The key is read, or created, at its first use.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / _FILE
        self._value = ""
        self._lock = threading.Lock()

    @property
    def value(self) -> str:
        """The key. Raises ``ConfigurationError`` if its file contains none."""
        with self._lock:
            if not self._value:
                self._value = self._read_or_make()
            return self._value

    def is_same(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.value.encode())

    def link(self, address: str) -> str:
        """The link that gives the key to a browser; ``address`` is that of the dashboard."""
        return f"{address}/?{PARAMETER}={self.value}"

    @property
    def cookie(self) -> tuple[str, str]:
        """Name and value of the browser's cookie. Each key has its own name, since browsers share
        the cookies of all servers on this machine.
        """
        name = hashlib.sha256(self.value.encode()).hexdigest()[:8]
        proof = hmac.new(self.value.encode(), b"cookie", hashlib.sha256).hexdigest()
        return f"queuescope_{name}", proof

    def is_held(self, headers: Iterable[tuple[str, str]]) -> bool:
        """Whether a request's headers contain the cookie."""
        lines = [value for name, value in headers if name.lower() == "cookie"]
        found = [pair.strip().partition("=") for line in lines for pair in line.split(";")]
        if not any(name.startswith("queuescope_") for name, _, _ in found):
            return False
        wanted, proof = self.cookie
        return any(
            name == wanted and hmac.compare_digest(value.encode(), proof.encode())
            for name, _, value in found
        )

    def _read_or_make(self) -> str:
        made = secrets.token_urlsafe(32)
        try:
            make_private_folder(self.path.parent)
            self._publish(made)
            with self.path.open("r", encoding="ascii", errors="replace") as file:
                held = file.read(_LIMIT).strip()
        except OSError:
            # If nothing can be stored, the key is valid until this process ends.
            return made
        if not _KEY.fullmatch(held):
            raise ConfigurationError(
                f"{self.path} does not contain a key of 32 to 128 letters, digits, “-” and “_”; "
                "remove the file, and the next start creates a new one"
            )
        return held

    def _publish(self, key: str) -> None:
        """Create the file atomically, readable for its owner only, unless it exists. Raises
        ``OSError``.
        """
        draft = self.path.with_name(f".{_FILE}-{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{key}\n")
            with suppress(FileExistsError):
                self.path.hardlink_to(draft)
        finally:
            draft.unlink()


@cache
def operator_key(folder: Path) -> OperatorKey:
    """The key of ``folder``, one object for this process."""
    return OperatorKey(folder)
