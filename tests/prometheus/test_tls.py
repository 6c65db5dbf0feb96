"""TLS connections: accepted with a trusted CA, otherwise rejected with a reason."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from tests.fault_server import FaultServer, http_response
from tests.real_prometheus import RealPrometheus

from queuescope.errors import ConfigurationError, SourceError, SourceErrorKind
from queuescope.prometheus import PrometheusClient
from queuescope.prometheus.retry import Retry

pytestmark = pytest.mark.anyio

KIND = SourceErrorKind
ANSWER = http_response(b'{"status":"success","data":{"resultType":"scalar","result":[1000,"42"]}}')


@dataclass(frozen=True)
class Files:
    """An authority, its certificates for a server and a client; and the same of another one."""

    directory: Path
    ca: trustme.CA
    server: trustme.LeafCert

    def __getattr__(self, name: str) -> Path:
        return self.directory / f"{name}.pem"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("tls")
    ca, stranger = trustme.CA(), trustme.CA()
    found = Files(directory, ca, ca.issue_cert("127.0.0.1"))
    ca.cert_pem.write_to_path(found.authority)
    stranger.cert_pem.write_to_path(found.other_authority)
    for name, issuer in (("client", ca), ("strange_client", stranger)):
        leaf = issuer.issue_cert("queuescope@example.org")
        leaf.private_key_pem.write_to_path(directory / f"{name}_key.pem")
        leaf.cert_chain_pems[0].write_to_path(directory / f"{name}_cert.pem")
        leaf.private_key_and_cert_chain_pem.write_to_path(directory / f"{name}_both.pem")
    key = load_pem_private_key(found.client_key.read_bytes(), None)
    locked = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"c4n4ry")
    )
    found.locked_key.write_bytes(locked)
    found.not_pem.write_text("nothing", "utf-8")
    found.server.private_key_pem.write_to_path(found.server_key)
    found.server.cert_chain_pems[0].write_to_path(found.server_cert)
    return found


def _context(files: Files, *, wants_client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files.server.configure_cert(context)
    if wants_client:
        files.ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _ask(server: FaultServer, **tls: Any) -> float:
    async with PrometheusClient(server.url, **tls) as client:
        return (await client.query("up")).samples[0].value


async def _error(server: FaultServer, **tls: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await _ask(server, **tls)
    assert server.url not in str(caught.value)
    return caught.value


async def test_a_server_of_the_given_authority_is_trusted(files: Files) -> None:
    async with FaultServer(ANSWER, tls=_context(files)) as server:
        assert await _ask(server, ca_file=files.authority) == 42.0


@pytest.mark.parametrize("authority", [None, "other_authority"])
async def test_a_server_of_another_authority_is_not_asked(
    authority: str | None, files: Files
) -> None:
    ca_file = authority and files.directory / f"{authority}.pem"
    async with FaultServer(ANSWER, tls=_context(files)) as server:
        error = await _error(server, ca_file=ca_file, token="c4n4ry")
        assert (error.kind, str(error)) == (
            KIND.CANNOT_CONNECT,
            "The certificate of Prometheus is not trusted; its CA file must be checked",
        )
        assert (server.requests, server.connections) == ([], 0)
        assert error.detail


async def test_a_certificate_for_another_name_is_not_trusted(files: Files) -> None:
    async with FaultServer(ANSWER, tls=_context(files)) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")
        error = await _error(server, ca_file=files.authority)
        assert str(error).startswith("The certificate of Prometheus is not trusted")
        assert "localhost" in error.detail


async def test_a_server_that_wants_a_client_certificate_gets_it(files: Files) -> None:
    async with FaultServer(ANSWER, tls=_context(files, wants_client=True)) as server:
        for cert, key in (
            (files.client_cert, files.client_key),
            (files.client_both, files.client_both),
        ):
            tls = {"ca_file": files.authority, "client_cert": cert, "client_key": key}
            assert await _ask(server, **tls) == 42.0


@pytest.mark.parametrize("client", ["", "strange_client"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_certificate_that_is_missing_or_not_accepted_is_told(
    client: str, version: ssl.TLSVersion, files: Files
) -> None:
    context = _context(files, wants_client=True)
    context.minimum_version = context.maximum_version = version
    named = {
        f"client_{part}": files.directory / f"{client}_{part}.pem"
        for part in ("cert", "key")
        if client
    }
    async with FaultServer(ANSWER, tls=context) as server:
        error = await _error(server, ca_file=files.authority, **named)
        assert server.requests == []
    # A server may also close the connection before its reason is read.
    assert error.kind in (KIND.AUTHENTICATION, KIND.CANNOT_CONNECT)
    assert "client certificate must be checked" in str(error) or "closed" in str(error), (
        error.detail
    )


async def test_plain_text_to_a_tls_port_and_tls_to_a_plain_port_are_told(files: Files) -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http_response(status="400 Bad Request"))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as plain:
        port = plain.sockets[0].getsockname()[1]
        async with PrometheusClient(f"https://127.0.0.1:{port}") as client:
            with pytest.raises(SourceError, match="No secure connection") as caught:
                await client.query("up")
    assert KIND.CANNOT_CONNECT is caught.value.kind
    async with FaultServer(ANSWER, tls=_context(files)) as tls:
        tls.url = tls.url.replace("https:", "http:")
        assert (await _error(tls)).kind in (KIND.CANNOT_CONNECT, KIND.NOT_PROMETHEUS)


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ({"ca_file": "absent"}, r"the CA file .*absent\.pem cannot be read: No such file"),
        ({"ca_file": "not_pem"}, r"the CA file .*not_pem\.pem cannot be used: .* PEM"),
        (
            {"client_cert": "client_cert", "client_key": "absent"},
            "with the key .* cannot be read: No such",
        ),
        ({"client_cert": "not_pem", "client_key": "client_key"}, "cannot be used: .* PEM"),
        (
            {"client_cert": "client_cert", "client_key": "strange_client_key"},
            "must be PEM, belong together",
        ),
        ({"client_cert": "client_cert", "client_key": "locked_key"}, "and have no password"),
        ({"client_cert": "client_cert"}, "needs both"),
    ],
)
async def test_files_that_cannot_be_used_are_named(
    tls: dict[str, str], expected: str, files: Files
) -> None:
    paths = {name: files.directory / f"{file}.pem" for name, file in tls.items()}
    with pytest.raises(ConfigurationError, match=expected):
        PrometheusClient("https://prometheus", **paths)  # type: ignore[arg-type]


@pytest.fixture(params=["TLS12", "TLS13"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def guarded(version: str, tmp_path: Path, files: Files) -> Iterator[RealPrometheus]:
    """A Prometheus behind TLS, a client certificate, a password and a path."""
    web = tmp_path / "web.yml"
    # The password is “Ungeheuer” (bcrypt, the cheapest cost).
    web.write_text(
        f"tls_server_config: {{cert_file: {files.server_cert}, key_file: {files.server_key},"
        f" min_version: {version}, max_version: {version},"
        f" client_auth_type: RequireAndVerifyClientCert, client_ca_file: {files.authority}}}\n"
        "basic_auth_users: {ops: '$2b$04$WPoxp3kgP2Iy2ThvxSBxB.RTygPK7uvF1iPlN7rfIBaM/O6O2vY9G'}\n",
        "utf-8",
    )
    with RealPrometheus(tmp_path / "server", web_config=web, prefix="/deep/metrics") as server:
        yield server


# With TLS 1.3 a server rejects after the handshake; its reset may overtake its reason.
REFUSED = re.compile("client certificate must be checked|closed the connection")


async def test_a_real_prometheus_behind_all_of_it_is_read(
    guarded: RealPrometheus, version: str, files: Files
) -> None:
    tls: dict[str, Any] = {
        "ca_file": files.authority,
        "client_cert": files.client_cert,
        "client_key": files.client_key,
    }
    patience = Retry(attempts=50, base_seconds=1)  # it listens before it is ready
    async with PrometheusClient(
        guarded.url, username="ops", password="Ungeheuer", retry=patience, timeout_seconds=60, **tls
    ) as client:
        assert guarded.url.endswith("/deep/metrics")
        assert (await client.query("vector(7)")).samples[0].value == 7.0
        assert (await client.buildinfo()).version
        assert await client.alerts() == ()
    stranger = {n: files.directory / f"strange_{p.name}" for n, p in tls.items()}
    for given in ({}, stranger):
        lacking: dict[str, Any] = {**given, "ca_file": files.authority}
        async with PrometheusClient(
            guarded.url, username="ops", password="Ungeheuer", **lacking
        ) as client:
            with pytest.raises(SourceError, match=REFUSED) as caught:
                await client.query("vector(7)")
            assert caught.value.kind is KIND.AUTHENTICATION or version == "TLS13"
    async with PrometheusClient(guarded.url, username="ops", password="wrong", **tls) as client:
        with pytest.raises(SourceError, match="refused access") as caught:
            await client.query("vector(7)")
        assert KIND.AUTHENTICATION is caught.value.kind
