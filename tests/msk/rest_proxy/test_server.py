"""What a client can hold of the server without sending a request: on uvicorn as the proxy starts it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest
import uvicorn

from msk.rest_proxy import server
from msk.rest_proxy.server import BOUNDS

REQUEST = b"GET / HTTP/1.1\r\nHost: proxy\r\n\r\n"
HEAD_OF_POST = b"POST / HTTP/1.1\r\nHost: proxy\r\nContent-Length: 10\r\n\r\n"


async def answer_ok(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Read a request to its end and say ok; say it at once where the path is /early."""
    assert scope["type"] == "http"
    while scope["path"] != "/early" and (message := await receive()).get("more_body"):
        assert message["type"] == "http.request"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def serving(app: Any = answer_ok, **options: Any) -> AsyncIterator[int]:
    """Serve an application on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", **{**BOUNDS, **options})
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        running.should_exit = True
        await task


async def connect(port: int, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def status(reader: asyncio.StreamReader) -> bytes:
    """Read one answer without body, or ok; its status line."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b"content-length: 2" in head:
        await reader.readexactly(2)
    return head.split(b"\r\n", 1)[0]


async def to_its_end(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes the connection, whichever way."""
    with contextlib.suppress(ConnectionResetError):
        return (await reader.read()).split(b"\r\n", 1)[0]
    return b""


async def test_connections_that_send_nothing_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 10)
    async with serving() as port:
        idle = [await connect(port) for _ in range(30)]
        reader, _ = await connect(port, REQUEST)
        assert await status(reader) == b"HTTP/1.1 200 OK"
        # the oldest made room, and the youngest are still there
        assert await to_its_end(idle[0][0]) == b""
        idle[-1][1].write(REQUEST)
        assert await status(idle[-1][0]) == b"HTTP/1.1 200 OK"


async def test_nor_do_many_that_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 10)
    async with serving() as port:
        idle = [
            socket.create_connection(("127.0.0.1", port)) for _ in range(60)
        ]  # the loop accepts them in one go
        reader, _ = await connect(port, REQUEST)
        assert await status(reader) == b"HTTP/1.1 200 OK"
        left = 0
        for each in idle:
            with each:
                each.setblocking(False)
                with contextlib.suppress(ConnectionResetError):
                    try:
                        assert each.recv(1) == b""
                    except BlockingIOError:
                        left += 1
        assert left < 10


async def test_nor_do_answered_ones_or_bodies_that_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    async with serving() as port:
        answered, _ = await connect(port, REQUEST)
        assert await status(answered) == b"HTTP/1.1 200 OK"
        slow = [await connect(port, HEAD_OF_POST) for _ in range(3)]
        others = [await connect(port, REQUEST) for _ in range(4)]
        assert [await status(reader) for reader, _ in others] == [b"HTTP/1.1 200 OK"] * 4
        assert await to_its_end(answered) == b""
        assert [await to_its_end(each) for each, _ in slow] == [b"", b"", b""]


async def test_when_all_are_at_work_the_next_one_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    go_on, at_work = asyncio.Event(), asyncio.Semaphore(0)

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            at_work.release()
            await go_on.wait()
        await answer_ok(scope, receive, send)

    async with serving(wait) as port:
        busy = [await connect(port, REQUEST) for _ in range(2)]  # each has been answered once already
        for reader, writer in busy:
            assert await status(reader) == b"HTTP/1.1 200 OK"
            writer.write(REQUEST.replace(b"/ ", b"/slow "))
            await at_work.acquire()
        try:
            late, _ = await connect(port)
            assert await to_its_end(late) == b""
        finally:
            go_on.set()
        assert [await status(reader) for reader, _ in busy] == [b"HTTP/1.1 200 OK"] * 2


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: pro"])
async def test_a_head_has_a_time_limit(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.1)
    async with serving() as port:
        reader, _ = await connect(port, sent)
        assert await to_its_end(reader) == b"HTTP/1.1 408 Request Timeout"


async def test_the_second_head_of_a_connection_has_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.1)
    async with serving(timeout_keep_alive=600) as port:
        reader, writer = await connect(port, REQUEST)
        assert await status(reader) == b"HTTP/1.1 200 OK"
        writer.write(b"GET / HT")
        assert await to_its_end(reader) == b"HTTP/1.1 408 Request Timeout"


async def test_a_head_that_comes_drop_by_drop_does_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    async with serving() as port:
        reader, writer = await connect(port, b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"a: b\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        assert await to_its_end(reader) in {b"HTTP/1.1 408 Request Timeout", b""}
        dripping.cancel()


async def test_a_body_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.1)
    async with serving() as port:
        reader, writer = await connect(port, HEAD_OF_POST + b"12345")
        assert await to_its_end(reader) == b"HTTP/1.1 408 Request Timeout"
        # one that comes in time is answered, however long its connection then stays
        reader, writer = await connect(port, HEAD_OF_POST + b"1234567890")
        assert await status(reader) == b"HTTP/1.1 200 OK"
        writer.write(HEAD_OF_POST + b"1234567890")
        assert await status(reader) == b"HTTP/1.1 200 OK"


async def test_so_has_a_body_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.1)
    async with serving(timeout_keep_alive=600) as port:
        reader, writer = await connect(port, HEAD_OF_POST.replace(b"POST /", b"POST /early"))
        assert await status(reader) == b"HTTP/1.1 200 OK"
        writer.write(b"1")
        assert await to_its_end(reader) == b""


async def test_a_head_without_end_is_refused() -> None:
    async with serving() as port:
        reader, writer = await connect(port, b"GET / HTTP/1.1\r\nHost: proxy\r\n")
        answer = asyncio.create_task(to_its_end(reader))
        sent = 0
        with contextlib.suppress(ConnectionError):
            while not answer.done():
                writer.write(b"a: %s\r\n" % (b"b" * 4000))
                await writer.drain()
                sent += 4000
                assert sent < 60_000_000, "60 MB of headers were taken"
                await asyncio.sleep(0)
        assert await answer in {b"HTTP/1.1 400 Bad Request", b""}


@pytest.mark.parametrize("upgrade", ["websocket", "h2c", "anything"])
async def test_who_asks_to_upgrade_is_answered_as_if_not(
    upgrade: str, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"Connection: Upgrade\r\nUpgrade: {upgrade}\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    async with serving() as port:
        reader, _ = await connect(
            port,
            b"GET / HTTP/1.1\r\nHost: proxy\r\nSec-WebSocket-Version: 13\r\n" + head.encode() + b"\r\n",
        )
        assert await status(reader) == b"HTTP/1.1 200 OK"
    assert [record.message for record in caplog.records if record.levelname != "INFO"] == []
