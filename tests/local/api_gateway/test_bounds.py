"""What a client without login can hold of the gateway; the bounds themselves are tested in tests/msk/rest_proxy."""

import socket
from typing import Any
from urllib.parse import urlsplit

import pytest


def connect(api: Any) -> socket.socket:
    address = urlsplit(api.url)
    return socket.create_connection((address.hostname, address.port), timeout=60)


@pytest.mark.parametrize("path", ["/test/streams", "/test/topics/pinterest.pin", "/ping", "/"])
def test_a_request_for_a_websocket_is_answered_like_any_other(path: str, api: Any) -> None:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: api",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]
    with connect(api) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        status = connection.recv(65536).split(b" ")[1]
    assert status == (b"200" if path == "/ping" else b"403")


def test_a_head_without_end_is_refused(api: Any) -> None:
    with connect(api) as connection, pytest.raises(ConnectionError):
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: api\r\n")
        for _ in range(10_000):
            connection.sendall(b"a: %s\r\n" % (b"b" * 4000))


def test_connections_that_send_nothing_keep_nobody_out(api: Any) -> None:
    idle = [connect(api) for _ in range(600)]
    with connect(api) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: api\r\n\r\n")
        assert connection.recv(65536).split(b"\r\n")[0] == b"HTTP/1.1 200 OK"
    assert idle[0].recv(1) == b""  # the oldest one made room
    for each in idle:
        each.close()
