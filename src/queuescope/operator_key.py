"""What proves that a visitor may act where nobody is asked who they are.

A request from this machine proves nothing: whatever forwards a port can make everybody in the
world look like it. So there is a key, which only who may read the data directory, or the terminal
in which the server was started, can know.
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
"""The parameter of an address that brings the key, once."""
COOKIE_SECONDS = 30 * 86_400
_FILE = "operator-key"
_KEY = re.compile(r"[A-Za-z0-9_-]{32,128}")
_LIMIT = 200


class OperatorKey:
    """The key of one data directory, the same for all processes that share it and over restarts.

    Threads may share one. It is read, or made, when it is asked for first.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / _FILE
        self._value = ""
        self._lock = threading.Lock()

    @property
    def value(self) -> str:
        """Raises ``ConfigurationError`` when there is a file that holds none."""
        with self._lock:
            if not self._value:
                self._value = self._read_or_make()
            return self._value

    def is_same(self, said: str) -> bool:
        return hmac.compare_digest(said.encode(), self.value.encode())

    def link(self, address: str) -> str:
        """Where a browser takes the key from; ``address`` is that of the dashboard."""
        return f"{address}/?{PARAMETER}={self.value}"

    @property
    def cookie(self) -> tuple[str, str]:
        """Name and value of what the browser keeps. Another key has another name: browsers hold
        the cookies of all servers on this machine together.
        """
        name = hashlib.sha256(self.value.encode()).hexdigest()[:8]
        proof = hmac.new(self.value.encode(), b"cookie", hashlib.sha256).hexdigest()
        return f"queuescope_{name}", proof

    def is_held(self, headers: Iterable[tuple[str, str]]) -> bool:
        """Whether the cookie is among those in a request's headers."""
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
            # Where nothing can be kept it holds until the end of this process.
            return made
        if not _KEY.fullmatch(held):
            raise ConfigurationError(
                f"{self.path} holds no key of 32 to 128 letters, digits, “-” and “_”; remove the "
                "file, and the next start makes a new one"
            )
        return held

    def _publish(self, key: str) -> None:
        """Make the file whole, for its owner alone, unless it is there. Raises ``OSError``."""
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
    """The one of ``folder`` in this process."""
    return OperatorKey(folder)
