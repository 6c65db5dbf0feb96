"""A dashboard with credentials: nothing that it says or keeps holds one of them."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.dashboard.conftest import RunningDashboard
from tests.dashboard.operations.operations_page import OperationsPage
from tests.dashboard.page_socket import PageSocket
from tests.dashboard.reader import Reader
from tests.openid_provider import OpenIDProvider
from tests.ports import free_port
from tests.prepared_python import run_python
from tests.real_broker import RealBroker
from tests.real_postgresql import RealPostgreSQL
from tests.real_prometheus import RealPrometheus
from tests.view.conftest import platform_samples

PASSWORD = "Ungeheuer"
API_KEY = "k3y-c4n4ry"
SECRETS = (PASSWORD, base64.b64encode(f"ops:{PASSWORD}".encode()).decode(), API_KEY)
BROKER = "br0k3r-c4n4ry"
HISTORY = "h1st0ry-c4n4ry"
AUDIT = "4ud1t-c4n4ry"
TOKEN = "t0k3n-c4n4ry"
COOKIES = "c00k13-c4n4ry-that-signs-every-login"
CLIENT = "cl13nt-c4n4ry"
CANARIES = (BROKER, HISTORY, AUDIT, TOKEN, COOKIES, CLIENT)
PATHS = ("/", "/queuescope/view?range=24h&age=1", "/readyz", "/metrics", "/healthz", "/no/such")


class Echo(BaseHTTPRequestHandler):
    """Refuses access and repeats what it was sent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = f"no: {self.headers}".encode()
        self.send_response(401)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RealPrometheus]:
    """A Prometheus that wants a password."""
    web = tmp_path / "web.yml"
    web.write_text(
        "basic_auth_users: {ops: '$2b$04$WPoxp3kgP2Iy2ThvxSBxB.RTygPK7uvF1iPlN7rfIBaM/O6O2vY9G'}\n",
        "utf-8",
    )
    server = RealPrometheus(
        tmp_path / "prometheus", series=platform_samples(int(time.time())), web_config=web
    )
    with server:
        yield server


def _said(url: str) -> str:
    said = []
    for path in PATHS:
        try:
            with urllib.request.urlopen(url + path, timeout=30) as response:  # noqa: S310 - ours
                said.append(f"{response.headers}{response.read().decode()}")
        except urllib.error.HTTPError as refused:
            said.append(f"{refused.headers}{refused.read().decode()}")
    return "\n".join(said)


def test_no_credential_is_said_or_kept_while_prometheus_answers_or_refuses_and_repeats_them(
    guarded: RealPrometheus, tmp_path: Path
) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "queuescope.cli", "serve", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
            env={
                **os.environ,
                "PROMETHEUS_URL": f"http://127.0.0.1:{guarded.port}",
                "QUEUESCOPE_DATA_DIR": str(data),
                "QUEUESCOPE_PROMETHEUS_USERNAME": "ops",
                "QUEUESCOPE_PROMETHEUS_PASSWORD": PASSWORD,
                "QUEUESCOPE_PROMETHEUS_HEADERS": f"X-Api-Key={API_KEY}",
                "QUEUESCOPE_BROKER_URL": f"redis://:{BROKER}@127.0.0.1:9/0",
                "QUEUESCOPE_JOB_STORE_URL": f"postgresql://u:{HISTORY}@127.0.0.1:9/h",
                "QUEUESCOPE_OPERATIONS_STORE_URL": f"postgresql://u:{AUDIT}@127.0.0.1:9/a",
            },
        )
    assert process.stdout is not None
    try:
        url = next(line for line in process.stdout if "Dashboard: " in line).split()[-1]
        answering = _said(url)
        deadline = time.monotonic() + 60
        while '"state":"fresh"' not in answering:  # it listens before it has read its data
            assert time.monotonic() < deadline
            time.sleep(0.5)
            answering = _said(url)

        guarded.kill()
        with ThreadingHTTPServer(("127.0.0.1", guarded.port), Echo) as echo:
            threading.Thread(target=echo.serve_forever, daemon=True).start()
            deadline = time.monotonic() + 60
            refusing = [_said(url)]
            # At first what it knew last, or that nobody listened.
            while "refused access" not in refusing[-1]:
                assert time.monotonic() < deadline
                time.sleep(0.5)
                refusing.append(_said(url))
            echo.shutdown()
        argv = Path(f"/proc/{process.pid}/cmdline").read_text("utf-8")
    finally:
        process.terminate()
        process.stdout.close()
        process.wait()

    kept = [path for path in data.rglob("*") if path.is_file()]
    assert kept, "the cache must have been written"
    texts = [answering, *refusing, argv, log.read_text("utf-8"), *map(str, kept)]
    texts += [path.read_bytes().decode("latin-1") for path in kept]
    for secret in (*SECRETS, *CANARIES):
        assert not any(secret in text for text in texts)


DATA_PATHS = (
    *("/queuescope/view?range=1h&age=1", "/queuescope/overview?age=1", "/queuescope/flow"),
    *("/queuescope/jobs.csv", "/queuescope/chart.csv?panel=queue_depth"),
    *("/queuescope/audit.csv", "/queuescope/audit.jsonl"),
)
COMMANDS = (("audit", "verify"), ("audit", "list"), ("audit", "export"), ("check",), ("settings",))


@pytest.fixture
def guarded_broker(tmp_path: Path) -> Iterator[RealBroker]:
    """A broker that wants a password, with three jobs in it."""
    with RealBroker(tmp_path / "broker") as server:
        with server.connected() as client:
            client.rpush("orders", *[b"{}"] * 3)
            client.config_set("requirepass", BROKER)
        yield server


@pytest.fixture
def guarded_databases(postgresql: RealPostgreSQL) -> Iterator[Mapping[str, str]]:
    """The addresses of two databases with users that need their passwords."""
    urls = {}
    for user, password in (("historian", HISTORY), ("auditor", AUDIT)):
        postgresql.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
        postgresql.execute(f"CREATE DATABASE {user} OWNER {user}")
        urls[user] = postgresql.url(user, user=user, password=password)
    yield urls
    for user in urls:
        postgresql.execute(f"DROP DATABASE {user} WITH (FORCE)")
        postgresql.execute(f"DROP ROLE {user}")


@dataclass
class Witness:
    """Keeps all output of a dashboard, in whatever form."""

    port: int
    heard: list[str] = field(default_factory=list)

    def look(self, reader: Reader) -> None:
        """Requests everything that there is: as a visitor who has logged in, and by the page."""
        for path in (*PATHS, *DATA_PATHS, "/_stcore/host-config"):
            answer = reader.client.get(path, headers={"Accept": "text/html"})
            self.heard.append(f"{answer.headers}{answer.text}")
        with reader.page() as socket:
            page = OperationsPage(socket)
            for operation in ("purge", "pause"):
                page.press(operation, "orders")
            OperationsPage(socket, "jobs")
            self.hear(socket)

    def hear(self, socket: PageSocket) -> None:
        self.heard += [frame.decode("latin-1") for frame in socket.received]

    def says(self, words: str) -> bool:
        return any(words in one for one in self.heard)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_wrong", [False, True], ids=["right", "wrong"])
def test_no_secret_of_broker_databases_and_login_is_said_or_kept(
    guarded_broker: RealBroker,
    guarded_databases: Mapping[str, str],
    postgresql: RealPostgreSQL,
    tmp_path: Path,
    *,
    is_wrong: bool,
) -> None:
    """While all sources work, while each refuses the credentials, and while each is away."""
    port = free_port()
    # A rejected password is a secret all the same: of another server, or with a typo.
    tail = "-wrong" if is_wrong else ""
    settings = {
        "broker_url": f"redis://:{BROKER}{tail}@127.0.0.1:{guarded_broker.port}/0",
        "job_store_url": guarded_databases["historian"].replace(HISTORY, HISTORY + tail),
        "operations_store_url": guarded_databases["auditor"].replace(AUDIT, AUDIT + tail),
        "prometheus_token": TOKEN,
        "queues": "orders",
        "authentication": "oidc",
        "admins": "ada",
    }
    environment = {f"QUEUESCOPE_{name.upper()}": value for name, value in settings.items()}
    with OpenIDProvider({"ada": {"email": "ada"}}, client_secret=CLIENT) as provider:
        provider.configure(tmp_path, f"http://127.0.0.1:{port}", COOKIES)
        dashboard = RunningDashboard(
            tmp_path,
            "http://127.0.0.1:9",
            port=port,
            server="queuescope",
            **settings,
        )
        try:
            witness = Witness(port)
            with Reader(port).log_in("ada") as reader:
                witness.look(reader)
                if not is_wrong:
                    _purge(reader, witness)
                    said = [_run(command, environment) for command in COMMANDS]
                    witness.heard += said
                    assert "purge" in said[1]
                guarded_broker.stop()
                postgresql.kill()
                try:
                    time.sleep(3)
                    witness.look(reader)
                    witness.heard += [_run(command, environment) for command in COMMANDS]
                finally:
                    postgresql.start()
                mine = reader.cookies["_streamlit_user"]
        finally:
            dashboard.close()
    assert witness.says("cannot be read") or witness.says("does not answer")
    secret = [*CANARIES, *provider.issued, mine]
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "secrets.toml"]
    texts = [*witness.heard, dashboard.log, *map(str, kept)]
    texts += [path.read_bytes().decode("latin-1") for path in kept]
    if not is_wrong:
        rows = postgresql.execute("SELECT * FROM operations_audit", database="auditor")
        assert rows
        texts += map(str, rows)
    for one in secret:
        assert not [text[:200] for text in texts if one in text]


def _purge(reader: Reader, witness: Witness) -> None:
    """An operation, so that there is something in the audit."""
    with reader.page() as socket:
        page = OperationsPage(socket)
        while "orders" not in page.said:
            time.sleep(0.2)
            page.drawn = page.first = socket.run(page=page.hash)
        page.press("purge", "orders")
        page.confirm("Purge", "orders 3")
        assert "Done" in page.said, page.said
        witness.hear(socket)


def _run(command: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """All output of a command."""
    settings = {"PROMETHEUS_URL": "http://127.0.0.1:9", **environment}
    done = run_python("queuescope.cli", *command, **settings)
    return done.stdout + done.stderr
