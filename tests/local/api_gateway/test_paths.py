"""No path leaves its resource, and nothing that is sent is answered with a traceback."""

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

BAD_REQUEST = (400, {"message": "Bad Request"})
NO_ROUTE = (403, {"message": "Missing Authentication Token"})


@pytest.fixture
def proxied(start_gateway: Callable[..., Any], stub: Any) -> Any:
    return start_gateway("http://127.0.0.1:9", stub.url)


def sent(
    api: Any, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Sign a request and send it as it stands: clients of comfort take `..` out of a path themselves."""
    address = urlsplit(api.url)
    target = f"{address.path}{path}"
    request = AWSRequest(method, f"http://{address.netloc}{target}", data=body, headers=headers or {})
    SigV4Auth(api.credentials, "execute-api", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    connection.putrequest(method, target, skip_host=True)
    for name, value in {"Host": address.netloc, **dict(request.headers), "Content-Length": len(body)}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, json.loads(content) if content else None


@pytest.mark.parametrize(
    "path",
    [
        "/topics/..",
        "/topics/../",
        "/topics/../admin",
        "/topics/pinterest.pin/../../admin",
        "/topics/%2e%2e/admin",
        "/topics/%2E%2e/admin",
        "/topics/.%2e/admin",
        "/topics/%252e%252e/admin",
        "/topics/%2e%2e%2fadmin",
        "/topics/..%2Fadmin",
        "/topics/x%2F..%2F..%2Fadmin",
        "/topics/..\\admin",
        "/topics/..%5Cadmin",
        "/topics/x%5C..%5C..%5Cadmin",
        "/topics/./x",
        "/topics/%2e",
        "/topics//../admin",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_no_path_leaves_its_resource(method: str, path: str, proxied: Any, stub: Any) -> None:
    assert sent(proxied, method, path) == BAD_REQUEST
    assert stub.seen == []


def test_a_stream_is_not_named_by_a_step(proxied: Any) -> None:
    assert sent(proxied, "GET", "/streams/..") == BAD_REQUEST
    assert sent(proxied, "PUT", "/streams/%2e%2e/record") == BAD_REQUEST


@pytest.mark.parametrize(
    "path", ["//topics/a", "/./topics/a", "/streams/../topics/a", "/%74opics/a", "/topics%2Fa"]
)
def test_a_resource_is_named_as_it_stands(path: str, proxied: Any, stub: Any) -> None:
    assert sent(proxied, "GET", path) == NO_ROUTE
    assert stub.seen == []


@pytest.mark.parametrize(
    "path", ["/topics/...", "/topics/..a/b..", "/topics//x", "/topics/@evil:80/", "/topics/{proxy}"]
)
def test_a_path_that_only_looks_like_it_passes(path: str, proxied: Any, stub: Any) -> None:
    sent(proxied, "GET", path)
    assert [request.path.startswith("/topics/") for request in stub.seen] == [True]


STRANGE = [
    "%00",
    "%0a",
    "%ff",
    "a" * 20_000,
    "%",
    "%zz",
    "[",
    "::",
    "//////",
    "?",
    "?=",
    "?%ff=%ff",
    "?a&&a",
    ";x",
]


@pytest.mark.parametrize("strange", STRANGE, ids=lambda text: ascii(text)[:12])
@pytest.mark.parametrize("path", ["/topics/", "/streams/", "/"])
def test_a_strange_path_is_answered_as_json(
    path: str, strange: str, start_gateway: Callable[..., Any], aws: Any
) -> None:
    gateway = start_gateway(aws.url, "127.0.0.1:9")
    target = path + strange
    status, content = sent(gateway, "GET", target)
    assert status in {200, 400, 403, 500}
    assert content is not None
    if status == 500:  # only a back end that does not answer
        assert (path, content) == ("/topics/", {"message": "Internal server error"})


BODIES = [
    b"",
    b"null",
    b"5",
    b'"x"',
    b"[]",
    b"[1]",
    b"{}",
    b"[" * 50_000,
    b'{"a":' * 50_000,
    b"\xff",
    b"1e999",
    b"-" * 9,
]
FIELDS = [None, 5, 5.5, -1, True, "", "x" * 300, "\0", [], [[]], {}, {"a": {}}, 2**200, "\U0001f600"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/streams/f"), ("PUT", "/streams/f/record"), ("PUT", "/streams/f/records")]
)
def test_a_strange_body_is_a_bad_request(method: str, path: str, api: Any) -> None:
    names = ["ShardCount", "Data", "PartitionKey", "StreamName", "records"]
    bodies = [*BODIES, *(json.dumps({name: value}).encode() for name in names for value in FIELDS)]
    whole = {"Data": {}, "PartitionKey": "k"}
    bodies += [json.dumps({**whole, name: value}).encode() for name in names for value in FIELDS]
    bodies += [
        json.dumps({"records": [{"data": "x", "partition-key": "k", name: value}]}).encode()
        for name in ("data", "partition-key", "more")
        for value in FIELDS
    ]
    for body in bodies:
        reply = api.call(method, path, body)
        assert reply.status_code in {200, 400}, (body[:80], reply.text)
        assert isinstance(reply.json(), dict), body[:80]
