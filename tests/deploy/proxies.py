"""The examples in deploy/nginx and deploy/caddy, run in front of a real dashboard.

    python -m tests.deploy.proxies

Needs nginx and Caddy (`apt-get install --no-install-recommends nginx-light caddy`), which is why it
is not a test. Each example is used as it is, except for its ports, certificate and passwords. A
small server with its addresses and headers replaces oauth2-proxy.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import http.client
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import brotli
import trustme
from playwright.sync_api import Browser, BrowserContext, WebSocket, expect, sync_playwright
from tests.browser.conftest import CHROMIUM, CHROMIUM_ARGUMENTS
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.known_samples import HOUR, known_platform
from tests.browser.trends_page import TrendsPage
from tests.long_proof import Outcome
from tests.ports import free_port
from tests.real_prometheus import RealPrometheus

HOST = "queuescope.example.com"
# Longer than nginx waits by default for a silent connection.
IDLE_SECONDS = 75.0
_DEPLOY = Path(__file__).parents[2] / "deploy"
_PASSWORD = "correct horse"
_COOKIE = "_oauth2_proxy"
_GROUPS = {"ada": {"X-Auth-Request-Groups": "staff,ops"}}
_BEFORE_ALL = (
    "{user}pid nginx.pid; error_log stderr warn; daemon off; events {{}}\n"
    "http {{\n"
    "  access_log off; gzip on; gzip_proxied any; gzip_types *; client_body_temp_path body;\n"
    "  proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n"
    "{example}}}\n"
)


class _LoginServer(BaseHTTPRequestHandler):
    """The part of oauth2-proxy that a proxy uses."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        cookies = SimpleCookie(self.headers.get("Cookie", ""))
        user = cookies[_COOKIE].value if _COOKIE in cookies else ""
        match address.path:
            case "/oauth2/auth" if user:
                # Like oauth2-proxy: a user without groups gets no such header.
                self._answer(202, {"X-Auth-Request-Email": user, **_GROUPS.get(user, {})})
            case "/oauth2/auth":
                self._answer(401, {})
            case "/oauth2/start":
                wanted = parse_qs(address.query)
                chosen = {"Set-Cookie": f"{_COOKIE}={wanted['user'][0]}; Path=/; Secure"}
                self._answer(302, {"Location": wanted["rd"][0], **chosen})
            case _:
                back = quote(self.headers.get("X-Auth-Request-Redirect", "/"), safe="")
                link = f'<a href="/oauth2/start?user=ada&amp;rd={back}">Sign in</a>'
                self._answer(200, {"Content-Type": "text/html"}, link.encode())

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def login_server() -> Iterator[int]:
    """Its port, while it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _LoginServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True, eq=False)
class Stage:
    """One example that runs, the dashboard behind it, and who may do what there."""

    name: str
    port: int
    dashboard: DashboardProcess
    user_header: str
    has_passwords: bool
    path: str
    """Below which the dashboard is shown."""

    @property
    def origin(self) -> str:
        return f"https://{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}{self.path}"

    def login(self, user: str) -> list[tuple[str, str]]:
        """The headers with which ``user`` comes."""
        if not user:
            return []
        if self.has_passwords:
            code = base64.b64encode(f"{user}:{_PASSWORD}".encode()).decode()
            return [("Authorization", f"Basic {code}")]
        return [("Cookie", f"{_COOKIE}={user}")]

    def ask(
        self, path: str, user: str, *headers: tuple[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body, as they came over the wire."""
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=30)
        connection.sock = self._connected()
        try:
            connection.putrequest("GET", f"{self.path}{path}", skip_accept_encoding=True)
            for name, value in [*self.login(user), *headers]:
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def opens_websocket(self, user: str, *headers: tuple[str, str], origin: str = "") -> bool:
        """Whether a page's websocket is accepted."""
        handshake = {
            "Origin": origin or self.origin,
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
            "Sec-WebSocket-Protocol": "streamlit",
        }
        return self.ask("/_stcore/stream", user, *handshake.items(), *headers)[0] == 101

    def _connected(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        return _trusting().wrap_socket(plain, server_hostname=HOST)


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def example(name: str, changes: Mapping[str, str]) -> str:
    """The file of that name with ``changes``, each of which must match."""
    text = (_DEPLOY / name).read_text("utf-8")
    for old, new in changes.items():
        assert old in text, f"{name} does not say {old!r}"
        text = text.replace(old, new)
    return text


def nginx(folder: Path, name: str, port: int, changes: Mapping[str, str]) -> Sequence[str]:
    """Writes the configuration; returns the command."""
    certificate = trustme.CA().issue_cert(HOST)
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for part in certificate.cert_chain_pems:
        part.write_to_path(folder / "certificate.pem", append=True)
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", "-stdin"],
        input=_PASSWORD,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (folder / "passwords").write_text(f"ada:{hashed}\neve:{hashed}\n", "utf-8")
    text = example(
        name,
        {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/ssl/private/queuescope.pem": str(folder / "certificate.pem"),
            "/etc/ssl/private/queuescope.key": str(folder / "key.pem"),
            **changes,
        },
    ).replace("/etc/nginx/queuescope.htpasswd", str(folder / "passwords"))
    # Its workers would drop root's rights, which they need to read this folder.
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_BEFORE_ALL.format(user=user, example=text), "utf-8")
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, name: str, port: int, changes: Mapping[str, str]) -> Sequence[str]:
    """Writes the configuration; returns the command."""
    options = (
        "{\n\tadmin off\n\tlocal_certs\n\tskip_install_trust\n\tauto_https disable_redirects\n"
        f"\tdefault_bind 127.0.0.1\n\thttps_port {port}\n"
        "\tservers {\n\t\tprotocols h1 h2\n\t}\n}\n"
    )
    if "basicauth" in (_DEPLOY / name).read_text("utf-8"):
        hashed = subprocess.run(
            ["caddy", "hash-password", "--plaintext", _PASSWORD],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        line = "ada $2a$14$the.hash.of.her.password"
        changes = {**changes, line: f"ada {hashed}\n\t\teve {hashed}"}
    (folder / "Caddyfile").write_text(options + example(name, changes), "utf-8")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


@contextmanager
def running(command: Sequence[str], folder: Path, port: int) -> Iterator[None]:
    """The proxy, once it accepts connections."""
    environment = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        until = time.monotonic() + 60
        while True:
            assert process.poll() is None, (folder / "log").read_text("utf-8")
            assert time.monotonic() < until, (folder / "log").read_text("utf-8")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def check_requests(stage: Stage) -> None:
    """What single requests show."""
    view = "/queuescope/view?range=1h"
    for path in (view, "/queuescope/overview", "/metrics", "/"):
        status, _, body = stage.ask(path, "")
        refused = 401 if stage.has_passwords or path.startswith("/queuescope/") else 200
        assert status == refused, f"{path} without a login: {status}"
        assert b"ai_agents" not in body
        assert b"queuescope_" not in body
    assert not stage.opens_websocket("")
    status, _, body = stage.ask(view, "ada")
    assert status == 200, body
    # A user whom the proxy accepts and the dashboard does not.
    assert stage.ask(view, "eve")[0] == 403
    for header in (
        stage.user_header,
        stage.user_header.lower(),
        stage.user_header.replace("-", "_"),
    ):
        forged = (header, "ada")
        assert stage.ask(view, "eve", forged)[0] == 403, header
        assert stage.ask(view, "", forged)[0] == 401, header
        assert not stage.opens_websocket("eve", forged), header
    assert not stage.opens_websocket("eve")
    assert stage.ask(view, "eve", ("X-Forwarded-Groups", "ops"))[0] == 403
    assert stage.ask(view, "ada", (stage.user_header, "eve"))[0] == 200
    assert stage.opens_websocket("ada")
    assert not stage.opens_websocket("ada", origin="https://elsewhere.example.com")


def check_encodings(stage: Stage) -> None:
    """Nothing is compressed twice."""
    page = stage.ask("/", "ada", ("Accept", "text/html"))[2].decode()
    script = page.partition(f'src="{stage.path}/queuescope/static/')[2].partition('"')[0]
    for path in ("/queuescope/view?range=1h", f"/queuescope/static/{script}"):
        plain = stage.ask(path, "ada")
        assert "content-encoding" not in plain[1]
        for offered in ("gzip", "br", "gzip, br"):
            _, headers, body = stage.ask(path, "ada", ("Accept-Encoding", offered))
            match headers.get("content-encoding"):
                case "gzip":
                    body = gzip.decompress(body)
                case "br":
                    body = brotli.decompress(body)
                case other:
                    assert other is None
            assert body == plain[2] or path.startswith("/queuescope/view"), (path, offered)
            assert body[:1] in b'{"/', (path, offered)


@dataclass(eq=False)
class OpenPage:
    """A page in Chromium, and the state of its websockets."""

    stage: Stage
    trends: TrendsPage
    opened: list[WebSocket] = field(default_factory=list)
    closed: list[WebSocket] = field(default_factory=list)

    def heard(self, websocket: WebSocket) -> None:
        self.opened.append(websocket)
        websocket.on("close", self.left)

    def left(self, websocket: WebSocket) -> None:
        self.closed.append(websocket)


def open_page(stage: Stage, browser: Browser) -> OpenPage:
    """The page after ada's login, which a link with a range required."""
    credentials = {"username": "ada", "password": _PASSWORD} if stage.has_passwords else None
    context: BrowserContext = browser.new_context(
        ignore_https_errors=True,
        viewport={"width": 1440, "height": 900},
        timezone_id="UTC",
        http_credentials=credentials,  # type: ignore[arg-type]
    )
    tab = context.new_page()
    page = OpenPage(stage, TrendsPage(tab, stage.url))
    tab.on("websocket", page.heard)
    tab.goto(f"{stage.url}/?range=6h&refresh=off&tz=UTC", wait_until="domcontentloaded")
    if not stage.has_passwords:
        tab.get_by_role("link", name="Sign in").click()
    page.trends.wait_until_drawn()
    page.trends.wait_until_streamlit_has_taken_over()
    assert {page.trends.parameter(name) for name in ("range", "refresh")} == {"6h", "off"}
    expect(tab.locator(".qs-visitor summary")).to_have_text("adaoperator")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--result", type=Path)
    parser.add_argument("--pictures", type=Path, help="a directory for screenshots")
    options = parser.parse_args()
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        now = time.time()
        platform, _ = known_platform(now - 8 * HOUR, now + HOUR, now)
        prometheus = stack.enter_context(
            RealPrometheus(folder / "prometheus", series=platform.series("known"))
        )
        common = {"authentication": "proxy", "trusted_proxies": "127.0.0.1", "allowed_hosts": HOST}
        passwords = stack.enter_context(
            DashboardProcess(
                folder / "passwords", prometheus.url, viewers="ada", operators="ada", **common
            )
        )
        logins = stack.enter_context(
            DashboardProcess(
                folder / "logins",
                prometheus.url,
                viewers="group:ops",
                operators="ada",
                proxy_user_header="X-Forwarded-Email",
                proxy_groups_header="X-Forwarded-Groups",
                **common,
            )
        )
        below = stack.enter_context(
            DashboardProcess(
                folder / "below",
                prometheus.url,
                viewers="ada",
                operators="ada",
                base_path="/queues",
                **common,
            )
        )
        login_port = stack.enter_context(login_server())
        stages = []
        for product, suffix in ((nginx, "conf"), (caddy, "Caddyfile")):
            for kind, dashboard, path in (
                ("passwords", passwords, ""),
                ("oauth2-proxy", logins, ""),
                ("below-a-path", below, "/queues"),
            ):
                has_passwords = dashboard is not logins
                name = f"{product.__name__}/{kind}.{suffix}"
                place = folder / name.replace("/", "-")
                place.mkdir()
                port = free_port()
                changes = (
                    {"127.0.0.1:8501": f"127.0.0.1:{dashboard.port}"}
                    if has_passwords
                    else {
                        "10.0.0.8:8501": f"127.0.0.1:{dashboard.port}",
                        "127.0.0.1:4180": f"127.0.0.1:{login_port}",
                    }
                )
                command = product(place, name, port, changes)
                stack.enter_context(running(command, place, port))
                header = "X-Forwarded-User" if has_passwords else "X-Forwarded-Email"
                stages.append(Stage(name, port, dashboard, header, has_passwords, path))
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=CHROMIUM,
            args=[*CHROMIUM_ARGUMENTS, f"--host-resolver-rules=MAP {HOST} 127.0.0.1"],
        )
        for stage in stages:
            print(stage.name, flush=True)
            check_requests(stage)
            check_encodings(stage)
            assert stage.dashboard.get("/metrics")[0] == 200
        pages = [open_page(stage, browser) for stage in stages]
        pages[0].trends.page.wait_for_timeout(IDLE_SECONDS * 1000)
        for page in pages:
            assert len(page.opened) == 1, page.stage.name
            assert page.closed == [], page.stage.name
            assert page.trends.complaints == [], (page.stage.name, page.trends.complaints)
            if options.pictures:
                name = page.stage.name.replace("/", "-")
                page.trends.page.screenshot(path=options.pictures / f"{name}.png")
        browser.close()
    versions = [
        subprocess.run(command, capture_output=True, text=True, check=True)
        for command in (["nginx", "-v"], ["caddy", "version"])
    ]
    said = [(done.stdout + done.stderr).strip() for done in versions]
    Outcome(
        "The examples of proxies",
        "python -m tests.deploy.proxies",
        [f"{said[0]}; Caddy {said[1].split()[0]}.", "", *(f"* `deploy/{s.name}`" for s in stages)],
        time.monotonic() - began,
    ).tell(options.result)


if __name__ == "__main__":
    main()
