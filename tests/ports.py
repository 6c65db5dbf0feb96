"""Ports for the servers that tests start, so that no two tests are given the same one."""

from __future__ import annotations

import os
import socket

# Below the range of ephemeral ports, which systems use for connections.
_LOWEST, _HIGHEST = 20_000, 32_000


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port on which nothing listens; no other caller gets it while this process lives."""
    return free_ports(1, host)


def free_ports(count: int, host: str = "127.0.0.1") -> int:
    """The first of ``count`` such ports, one after the other.

    The claim of each is the UDP port of the same number, which nothing else here uses: all test
    processes see it, and it ends with the process, however that ends.
    """
    while True:
        first = int.from_bytes(os.urandom(4)) % (_HIGHEST - _LOWEST - count) + _LOWEST
        claims: list[socket.socket] = []
        try:
            for port in range(first, first + count):
                claims.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                claims[-1].bind((host, port))
                with socket.socket() as probe:
                    probe.bind((host, port))
        except OSError:
            for claim in claims:
                claim.close()
            continue
        for claim in claims:
            claim.detach()  # kept open, and closed by the end of the process
        return first
