"""Ports for programs that are started later."""

import random
import socket
from pathlib import Path

import pytest

from local.ports import free_ports

KERNELS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_no_port_is_one_that_the_kernel_gives_to_others() -> None:
    """A stack is started long after its ports are chosen: whoever opens a connection meanwhile takes none of them."""
    lowest, highest = map(int, KERNELS.read_text().split())
    if lowest < 32_768:
        pytest.skip("the kernel of this machine gives out other ports than it does by default")
    ports = free_ports(100)
    assert len(set(ports)) == 100
    assert [port for port in ports if lowest <= port <= highest] == []


def test_a_port_that_is_taken_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        monkeypatch.setattr(random, "sample", lambda *_: [holder.getsockname()[1], 20_001, 20_002])
        monkeypatch.setattr(socket.socket, "bind", _bind_unless(holder.getsockname()[1]))
        assert free_ports(2) == [20_001, 20_002]


def _bind_unless(taken: int) -> object:
    """Bind nothing, and refuse as the system does: the test needs no port of this machine to be free."""

    def bind(_: socket.socket, address: tuple[str, int]) -> None:
        if address[1] == taken:
            raise OSError("Address already in use")

    return bind
