"""A proxy in front of a Prometheus that rewrites its answers for a test."""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

Rewrite = Callable[[str, dict[str, str], dict[str, Any]], None]
"""Path, form and the answer, to be changed in place."""


class RewritingProxy:
    """``rewrite`` may be exchanged while it runs; ``ranges`` holds the forms of range queries."""

    def __init__(self, port: int, rewrite: Rewrite) -> None:
        self.rewrite = rewrite
        self.ranges: list[dict[str, str]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._pass_on(b"")

            def do_POST(self) -> None:
                self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

            def _pass_on(self, body: bytes) -> None:
                upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                headers = {"Content-Type": self.headers.get("Content-Type", "")}
                upstream.request(self.command, self.path, body, headers)
                response = upstream.getresponse()
                answer = json.loads(response.read())
                upstream.close()
                form = dict(parse_qsl(body.decode()))
                if self.path.startswith("/api/v1/query_range"):
                    proxy.ranges.append(form)
                proxy.rewrite(self.path, form, answer)
                content = json.dumps(answer).encode()
                self.send_response(response.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                # The client may disconnect at any time.
                if not isinstance(sys.exception(), ConnectionError):
                    super().handle_error(request, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
