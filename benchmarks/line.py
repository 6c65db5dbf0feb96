"""A line with limited bandwidth and delay, as a TCP proxy in its own process.

Everything that the browser sends or receives goes through it: documents, scripts, WebSockets,
and the opening of each connection, which costs one round trip. All connections of a direction
share its bandwidth, first come, first served. TCP's slow start and loss are not imitated.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

_CHUNK_BYTES = 8_192


class Direction:
    """One direction of the line: when a chunk of so many bytes arrives at the other end."""

    def __init__(self, bits_per_second: float, delay_seconds: float) -> None:
        self._bytes_per_second = bits_per_second / 8
        self._delay_seconds = delay_seconds
        self._free_at = 0.0

    def arrival(self, size: int) -> float:
        """Use the line for ``size`` bytes; returns the loop's time when the last one arrives."""
        start = max(asyncio.get_running_loop().time(), self._free_at)
        self._free_at = start + size / self._bytes_per_second
        return self._free_at + self._delay_seconds


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction
) -> None:
    # Only the delivery waits for the delay, not the reader: many chunks are in transit.
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)

    async def deliver() -> None:
        loop = asyncio.get_running_loop()
        while True:
            at, chunk = await under_way.get()
            await asyncio.sleep(at - loop.time())
            if not chunk:
                writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    try:
        while not delivery.done():
            chunk = await reader.read(_CHUNK_BYTES)
            await under_way.put((way.arrival(len(chunk)), chunk))
            if not chunk:
                break
        await delivery
    finally:
        delivery.cancel()


async def _serve(port: int, target: int, bits_per_second: float, round_trip_seconds: float) -> None:
    up = Direction(bits_per_second, round_trip_seconds / 2)
    down = Direction(bits_per_second, round_trip_seconds / 2)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The kernel has already accepted, so the round trip of the handshake is added here.
        await asyncio.sleep(round_trip_seconds)
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
            try:
                await asyncio.gather(
                    _carry(reader, far_writer, up), _carry(far_reader, writer, down)
                )
            finally:
                far_writer.close()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", type=int, required=True)
    parser.add_argument("--megabits", type=float, required=True)
    parser.add_argument("--round-trip-ms", type=float, required=True)
    given = parser.parse_args()
    asyncio.run(_serve(given.port, given.target, given.megabits * 1e6, given.round_trip_ms / 1000))


if __name__ == "__main__":
    main()
