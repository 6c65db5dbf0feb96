"""A visitor with a browser's cookies but without a browser: logs in, sends requests, clicks."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx2
from tests.dashboard.page_socket import PageSocket, elements, pressed

XSRF = "_streamlit_xsrf"


class Reader:
    """A person with cookies of their own, at the dashboard on ``port``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"
        # An idle connection might be closed by the server while it is used again.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self.client = httpx2.Client(
            base_url=self.origin, timeout=60, limits=limits, follow_redirects=True
        )

    def ask(self, path: str = "/queuescope/view?range=1h", **options: Any) -> httpx2.Response:
        return self.client.get(path, **options)

    def log_in(self, user: str) -> Self:
        """By the button on the page, and by the name on the page of the provider."""
        with self.page() as page:
            (button,) = elements(page.run(), "button")
            drawn = page.run(widgets=[pressed(button.id)])
        (address,) = [
            message.auth_redirect.url
            for message in drawn
            if message.WhichOneof("type") == "auth_redirect"
        ]
        # Now the provider's page: its links lead back here.
        at_provider = self.client.get(address)
        answer = self.client.get(f"{at_provider.url}&user={user}")
        assert answer.status_code == 200, answer.text
        assert str(answer.url) == f"{self.origin}/"
        return self

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.name: cookie.value or "" for cookie in self.client.cookies.jar}

    def page(
        self,
        *,
        headers: Sequence[tuple[str, str]] = (),
        session: str | None = None,
        xsrf: str = "",
    ) -> PageSocket:
        """A page that this person has open, as far as Streamlit's protocol goes."""
        self.client.get("/_stcore/health")
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return PageSocket(
            self.port,
            headers=[("Cookie", cookies), *headers],
            origin=self.origin,
            xsrf=xsrf or self.cookies[XSRF].strip('"'),
            session=session,
        )

    def close(self) -> None:
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
