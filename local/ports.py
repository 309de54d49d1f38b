"""Ports of this machine for programs that are started a while after their port was chosen."""

import random
import socket

HOST = "127.0.0.1"
LOWEST, HIGHEST = 20_000, 32_767
"""Below the range from which the kernel takes a port for a program that does not name one (32,768 and above): with
a port of that range, any connection that somebody opens may come first, even that of a probe to the port itself."""


def free_ports(count: int) -> list[int]:
    """Return different ports of 127.0.0.1 on which nothing listens now."""
    ports = random.sample(range(LOWEST, HIGHEST + 1), HIGHEST + 1 - LOWEST)
    free = filter(_is_free, ports)
    return [next(free) for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
