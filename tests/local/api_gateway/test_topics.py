"""The HTTP proxy in front of the REST proxy: what passes, what does not, and what becomes of a bad back end."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

KAFKA_JSON = "application/vnd.kafka.json.v2+json"


@pytest.fixture
def proxied(start_gateway: Callable[..., Any], stub: Any) -> Any:
    return start_gateway("http://127.0.0.1:9", stub.url)


def test_a_request_passes_as_it_is_but_for_its_signature(proxied: Any, stub: Any) -> None:
    stub.answer = lambda _: (200, {"Content-Type": KAFKA_JSON, "X-Own": "é"}, b'{"offsets": []}')
    body = '{"records":[{"key":1,"value":{"a":"\\u00e9 \U0001f600"}}]}'.encode()
    reply = proxied.call(
        "POST", "/topics/pinterest.pin", body, headers={"Content-Type": KAFKA_JSON, "X-Mine": "1"}
    )
    assert (reply.status_code, reply.content) == (200, b'{"offsets": []}')
    assert reply.headers["Content-Type"] == KAFKA_JSON
    (request,) = stub.seen
    assert (request.method, request.path, request.body) == ("POST", "/topics/pinterest.pin", body)
    assert request.headers["authorization"] == "Basic cHJveHk6bG9naW4="
    assert request.headers["content-type"] == KAFKA_JSON
    assert request.headers["x-mine"] == "1"
    assert request.headers["host"] == stub.url.removeprefix("http://")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_any_method_path_and_query_pass(method: str, proxied: Any, stub: Any) -> None:
    proxied.call(method, "/topics/a%2Fb/c%20d?x=1&y=%26&x=2")
    assert [(request.method, request.path) for request in stub.seen] == [
        (method, "/topics/a%2Fb/c%20d?x=1&y=%26&x=2")
    ]


@pytest.mark.parametrize("status", [204, 404, 415, 422, 429, 503])
def test_a_status_and_its_body_pass(status: int, proxied: Any, stub: Any) -> None:
    content = b"" if status == 204 else b'{"error_code": 40401, "message": "Topic not found."}'
    stub.answer = lambda _: (status, {"Content-Type": "application/json"}, content)
    reply = proxied.call("POST", "/topics/none", {"records": []})
    assert (reply.status_code, reply.content) == (status, content)


def test_the_login_of_the_proxy_is_not_asked_of_the_caller(proxied: Any, stub: Any) -> None:
    stub.answer = lambda _: (401, {"WWW-Authenticate": "Basic"}, b"{}")
    reply = proxied.call("POST", "/topics/a", {})
    assert reply.status_code == 401
    assert "WWW-Authenticate" not in reply.headers


def test_connections_to_the_back_end_are_kept(proxied: Any, stub: Any) -> None:
    for _ in range(3):
        proxied.call("POST", "/topics/a", {})
    assert {request.headers.get("connection", "keep-alive") for request in stub.seen} == {"keep-alive"}


@pytest.fixture
def mute() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def rude() -> Iterator[str]:
    """A server that hangs up on every request."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.recv(1)
                connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=10)


def test_a_back_end_that_hangs_is_a_timeout(
    start_gateway: Callable[..., Any], mute: str, impatient: Any
) -> None:
    reply = start_gateway("http://127.0.0.1:9", mute, impatient).call("POST", "/topics/a", {})
    assert (reply.status_code, reply.json()) == (504, {"message": "Endpoint request timed out"})


def test_a_back_end_that_is_dead_or_hangs_up_is_a_failure(
    start_gateway: Callable[..., Any], rude: str
) -> None:
    for address in ("127.0.0.1:9", rude):
        reply = start_gateway("http://127.0.0.1:9", address).call("POST", "/topics/a", {})
        assert (reply.status_code, reply.json()) == (500, {"message": "Internal server error"})
