"""The client of the API: on the wire, in the face of every kind of answer, and in the order of its records."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.adapters import BaseAdapter

from pinterest_pipeline import gateway
from pinterest_pipeline.gateway import (
    CredentialsRefused,
    Failure,
    GatewayClient,
    GatewayError,
    StreamAck,
    StreamInUse,
    StreamNotFound,
    TopicAck,
)

CREDENTIALS = Credentials("AKIDEXAMPLE", "a-secret-nobody-may-see", "a-session-token")
REGION = "eu-west-2"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    client_port: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Api:
    """An HTTP server whose answers a test decides."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    answer: Callable[[Request], tuple[int, Any]] = lambda request: (200, {})


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, dict(self.headers), body, self.client_address[1])
            api.requests.append(request)
            status, answer = api.answer(request)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def log_message(self, *_: Any) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        api.url = f"http://127.0.0.1:{server.server_port}/stage"
        yield api
        server.shutdown()
        thread.join()


def client_of(url: str, **options: Any) -> GatewayClient:
    return GatewayClient(url, CREDENTIALS, REGION, **{"sleep": lambda _: None, **options})


def topic_answer(request: Request) -> tuple[int, Any]:
    records = request.json["records"]
    return 200, {"offsets": [{"partition": 0, "offset": i, "error_code": None} for i in range(len(records))]}


def stream_answer(request: Request) -> tuple[int, Any]:
    records = request.json["records"]
    entries = [{"ShardId": "shardId-000000000000", "SequenceNumber": str(i)} for i in range(len(records))]
    return 200, {"FailedRecordCount": 0, "Records": entries}


def test_produce_speaks_confluents_json_format(api: Api) -> None:
    api.answer = topic_answer
    value = {
        "index": 7528,
        "title": 'Ünï "quoted" \\ 🎨\n\N{NO-BREAK SPACE}',
        "downloaded": 1,
        "category": None,
    }

    results = client_of(api.url).produce("pinterest.pin", [(7528, value), ("text", {"latitude": -1.5})])

    assert results == [TopicAck(0, 0), TopicAck(0, 1)]
    [request] = api.requests
    assert (request.method, request.path) == ("POST", "/stage/topics/pinterest.pin")
    assert request.headers["Content-Type"] == "application/vnd.kafka.json.v2+json"
    assert request.json == {
        "records": [{"key": 7528, "value": value}, {"key": "text", "value": {"latitude": -1.5}}]
    }
    assert "🎨".encode() in request.body


def test_put_records_sends_each_record_as_its_text(api: Api) -> None:
    api.answer = stream_answer
    data = {"ind": 3, "country": "Lao People's \N{NO-BREAK SPACE}🌍", "latitude": 1.0}

    assert client_of(api.url).put_records("streaming-pinterest-geo", [(3, data)]) == [
        StreamAck("shardId-000000000000", "0")
    ]
    [request] = api.requests
    assert (request.method, request.path) == ("PUT", "/stage/streams/streaming-pinterest-geo/records")
    assert request.headers["Content-Type"] == "application/json"
    [record] = request.json["records"]
    assert record["partition-key"] == "3"
    assert json.loads(record["data"]) == data


def test_put_record_sends_an_object(api: Api) -> None:
    api.answer = lambda _: (200, {"ShardId": "shardId-000000000001", "SequenceNumber": "4" * 56})

    result = client_of(api.url).put_record("streaming-pinterest-user", 5, {"ind": 5, "age": 20})

    assert result == StreamAck("shardId-000000000001", "4" * 56)
    [request] = api.requests
    assert (request.method, request.path) == ("PUT", "/stage/streams/streaming-pinterest-user/record")
    assert request.json == {
        "StreamName": "streaming-pinterest-user",
        "Data": {"ind": 5, "age": 20},
        "PartitionKey": "5",
    }


@pytest.mark.parametrize("name", ["plain", "with space", "a/b?c"])
def test_every_request_carries_a_signature_of_what_was_sent(api: Api, name: str) -> None:
    api.answer = stream_answer
    client_of(api.url).put_records(name, [(1, {"ind": 1, "country": "Réunion"})])

    [request] = api.requests
    server = api.url.removesuffix("/stage")
    same = AWSRequest(
        method=request.method,
        url=server + request.path,
        data=request.body,
        headers={"Content-Type": request.headers["Content-Type"]},
    )
    same.context["timestamp"] = request.headers["X-Amz-Date"]
    same.headers["X-Amz-Date"] = request.headers["X-Amz-Date"]
    same.headers["X-Amz-Security-Token"] = request.headers["X-Amz-Security-Token"]
    signer = SigV4Auth(CREDENTIALS, "execute-api", REGION)
    expected = signer.signature(signer.string_to_sign(same, signer.canonical_request(same)), same)

    authorization = request.headers["Authorization"]
    assert authorization.endswith(f"Signature={expected}")
    assert f"/{REGION}/execute-api/aws4_request" in authorization
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token" in authorization


def test_a_netrc_does_not_replace_the_signature(
    api: Api, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    api.answer = lambda _: (200, {"StreamNames": []})
    client_of(api.url).list_streams()
    assert api.requests[0].headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")


def test_connections_are_kept_alive(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "MAX_RECORDS", 10)
    api.answer = topic_answer
    client_of(api.url).produce("t", [(number, {"ind": number}) for number in range(50)])
    assert len(api.requests) == 5
    assert len({request.client_port for request in api.requests}) == 1


def test_only_failed_entries_are_sent_again(api: Api) -> None:
    waits: list[float] = []

    def answer(request: Request) -> tuple[int, Any]:
        status, body = stream_answer(request)
        if len(api.requests) == 1:
            body["FailedRecordCount"] = 2
            body["Records"][1] = {
                "ErrorCode": "ProvisionedThroughputExceededException",
                "ErrorMessage": "slow",
            }
            body["Records"][3] = {"ErrorCode": "InternalFailure", "ErrorMessage": "oops"}
        return status, body

    api.answer = answer
    client = client_of(api.url, sleep=waits.append, jitter=lambda: 0.5)
    results = client.put_records("s", [(number, {"ind": number}) for number in range(5)])

    sent = [[record["partition-key"] for record in request.json["records"]] for request in api.requests]
    assert sent == [["0", "1", "2", "3", "4"], ["1", "3"]]
    assert all(isinstance(result, StreamAck) for result in results)
    assert waits == [0.05]


@pytest.mark.parametrize(
    ("code", "attempts", "result"),
    [
        (1, 1, Failure(200, "1", "too big")),
        (2, 3, Failure(200, "2", "too big")),
        (50002, 1, Failure(200, "50002", "too big")),
        (50003, 3, Failure(200, "50003", "too big")),
    ],
)
def test_a_topics_error_codes(api: Api, code: int, attempts: int, result: Failure) -> None:
    item = {"partition": None, "offset": None, "error_code": code, "error": "too big"}
    api.answer = lambda _: (200, {"offsets": [item]})
    assert client_of(api.url, max_attempts=3).produce("t", [(1, {"ind": 1})]) == [result]
    assert len(api.requests) == attempts


def test_two_records_of_a_key_never_share_a_request(api: Api) -> None:
    api.answer = stream_answer
    records = [(number % 3, {"ind": number % 3, "version": number}) for number in range(7)]
    assert len(client_of(api.url).put_records("s", records)) == 7
    sent = [[json.loads(r["data"])["version"] for r in request.json["records"]] for request in api.requests]
    assert sent == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"message": "Too Many Requests"}),
        (500, {"message": None}),
        (503, b"<html>busy</html>"),
        (504, {"message": "Endpoint request timed out"}),
        (200, b"<html>a proxy's greeting</html>"),
        (200, b""),
        (200, b"[1, 2]"),
        (200, {"offsets": []}),
        (200, {"offsets": [{"partition": 0}]}),
        (200, {"offsets": ["?"]}),
        (200, {"offsets": None}),
        (400, {"__type": "ProvisionedThroughputExceededException", "message": "Rate exceeded"}),
        (200, {"__type": "com.amazonaws#ThrottlingException", "message": "Rate exceeded"}),
    ],
)
def test_a_passing_trouble_is_tried_again(api: Api, status: int, body: Any) -> None:
    api.answer = lambda request: (status, body) if len(api.requests) < 3 else topic_answer(request)
    assert client_of(api.url).produce("t", [(1, {"ind": 1})]) == [TopicAck(0, 0)]
    assert len(api.requests) == 3


@pytest.mark.parametrize(
    ("status", "body", "failure", "attempts"),
    [
        (404, {"error_code": 40403, "message": "No such topic."}, Failure(404, "40403", "No such topic."), 1),
        (401, {"message": "no login"}, Failure(401, "http_401", "no login"), 1),
        (302, b"", Failure(302, "http_302", "no reason given"), 1),
        (
            400,
            {"__type": "AccessDeniedException", "message": "no right"},
            Failure(400, "AccessDeniedException", "no right"),
            1,
        ),
        # what is wrong with a record may be wrong with one of the two
        (422, {"error_code": 422, "message": "no records"}, Failure(422, "422", "no records"), 3),
        (413, b"Too large\nreally", Failure(413, "http_413", "Too large"), 3),
        (400, {"message": "Invalid request body"}, Failure(400, "http_400", "Invalid request body"), 3),
        (
            200,
            {"__type": "com.amazonaws.kinesis#ValidationException", "message": "bad"},
            Failure(200, "ValidationException", "bad"),
            3,
        ),
        (
            400,
            {"__type": "SerializationException", "message": "bad"},
            Failure(400, "SerializationException", "bad"),
            3,
        ),
    ],
)
def test_what_trying_again_cannot_help_is_reported(
    api: Api, status: int, body: Any, failure: Failure, attempts: int
) -> None:
    api.answer = lambda _: (status, body)
    assert client_of(api.url).produce("t", [(1, {"ind": 1}), (2, {"ind": 2})]) == [failure, failure]
    assert len(api.requests) == attempts


@pytest.mark.parametrize(
    ("method", "status", "body"),
    [
        ("put_records", 400, {"__type": "ValidationException", "message": "key of 257 characters"}),
        ("put_records", 400, {"message": "Invalid request body"}),
        ("produce", 413, {"error_code": 413, "message": "too large"}),
        ("produce", 400, {"error_code": 400, "message": "Malformed JSON"}),
    ],
)
def test_only_the_record_at_fault_fails(api: Api, method: str, status: int, body: Any) -> None:
    def answer(request: Request) -> tuple[int, Any]:
        if b"bad" in request.body:
            return status, body
        return topic_answer(request) if method == "produce" else stream_answer(request)

    api.answer = answer
    records = [
        (number, {"ind": number, "title": "bad" if number == 313 else "good"}) for number in range(500)
    ]
    results = getattr(client_of(api.url), method)("x", records)
    failed = [number for number, result in enumerate(results) if isinstance(result, Failure)]
    assert failed == [313]
    assert results[313].status == status
    assert len(api.requests) == 19  # halved nine times


def test_when_the_records_at_fault_are_many_the_others_pass_all_the_same(api: Api) -> None:
    api.answer = lambda request: (400, {}) if b"bad" in request.body else topic_answer(request)
    records = [(number % 7, {"title": "bad" if number % 3 == 0 else "good"}) for number in range(30)]
    results = client_of(api.url).produce("t", records)
    assert [isinstance(result, Failure) for result in results] == [number % 3 == 0 for number in range(30)]


def test_a_half_that_is_throttled_is_sent_again(api: Api) -> None:
    bodies: list[list[int]] = []

    def answer(request: Request) -> tuple[int, Any]:
        bodies.append([record["key"] for record in request.json["records"]])
        if len(bodies) == 2:
            return 503, {}
        return (400, {}) if b"bad" in request.body else topic_answer(request)

    api.answer = answer
    records = [(number, {"title": "bad" if number == 3 else "good"}) for number in range(4)]
    results = client_of(api.url).produce("t", records)
    assert [type(result) for result in results] == [TopicAck, TopicAck, TopicAck, Failure]
    assert bodies == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [3], [0, 1]]


def test_refused_credentials_are_named(api: Api) -> None:
    message = (
        "The signature does not match.\n\nThe Canonical String was\nx-amz-security-token:a-session-token"
    )
    api.answer = lambda _: (403, {"message": message})
    [failure] = client_of(api.url).produce("t", [(1, {"ind": 1})])
    assert isinstance(failure, Failure)
    assert failure.status == 403
    assert "credentials" in failure.reason
    assert "a-session-token" not in failure.reason
    assert len(api.requests) == 1


def test_what_an_answer_says_commands_no_terminal_and_can_be_logged(api: Api) -> None:
    """A log of Airflow's takes no half of a surrogate pair: the error that holds one would end the task without it."""
    said, shown = "\x1b[2J\x9b\u202e\ud83d", r"\x1b[2J\x9b\u202e\ud83d"
    api.answer = lambda _: (400, {"error_code": said, "message": said + "\nmore"})
    assert client_of(api.url).produce("t", [(1, {"ind": 1})]) == [Failure(400, shown, shown)]
    api.answer = lambda _: (200, {"offsets": [{"error_code": 1, "error": said}]})
    assert client_of(api.url).produce("t", [(1, {"ind": 1})]) == [Failure(200, "1", shown)]
    api.answer = lambda _: (
        200,
        {"FailedRecordCount": 1, "Records": [{"ErrorCode": said, "ErrorMessage": said}]},
    )
    client = client_of(api.url, max_attempts=1)
    assert client.put_records("s", [(1, {"ind": 1})]) == [Failure(200, shown, shown)]


def test_patience_ends(api: Api) -> None:
    waits: list[float] = []
    api.answer = lambda _: (502, {"message": "Bad gateway"})
    client = client_of(api.url, max_attempts=9, sleep=waits.append, jitter=lambda: 1.0)
    results = client.produce("t", [(number % 4, {"ind": number % 4}) for number in range(10)])
    assert results == [Failure(502, "http_502", "Bad gateway")] * 10
    assert len(api.requests) == 9
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


@pytest.mark.parametrize(
    ("status", "body", "retriable"),
    [
        (404, {"message": "no topic"}, False),
        (403, {"message": "no"}, False),
        (413, {"message": "too large"}, False),
        (200, {"offsets": [{"error_code": 40301, "error": "no"}]}, False),
        (200, {"offsets": [{"error_code": 50003, "error": "later"}]}, True),
        (429, {"message": "later"}, True),
        (503, {"message": "later"}, True),
        (200, b"nonsense", True),
    ],
)
def test_a_failure_says_whether_another_try_may_help(
    api: Api, status: int, body: Any, retriable: bool
) -> None:
    api.answer = lambda request: (status, body)
    (result,) = client_of(api.url, max_attempts=2).produce("p.pin", [(1, {"index": 1})])
    assert isinstance(result, Failure)
    assert result.retriable is retriable


def test_what_waits_behind_a_silence_may_be_tried_again(api: Api) -> None:
    api.answer = lambda request: (503, {})
    results = client_of(api.url, max_attempts=1).produce("p.pin", [(1, {}), (1, {}), (2, {})])
    assert [getattr(result, "retriable", None) for result in results] == [True, True, True]


class Ended(BaseException):
    """As a timeout, or Ctrl-C."""


def test_an_interrupted_call_tells_what_it_knows(api: Api) -> None:
    requests_seen = 0

    def answer(request: Request) -> tuple[int, Any]:
        nonlocal requests_seen
        requests_seen += 1
        return topic_answer(request) if requests_seen == 1 else (503, {})

    def interrupt(_: float) -> None:
        raise Ended

    api.answer = answer
    records = [
        (1, {"index": 1}),
        (2, {"index": 2}),
        (1, {"index": 1, "title": "again"}),
        (3, {"x": float("nan")}),
    ]
    with pytest.raises(Ended) as caught:
        client_of(api.url, sleep=interrupt).produce("p.pin", records)
    first, second, third, fourth = caught.value.results  # type: ignore[attr-defined]
    assert (first, second, third) == (TopicAck(0, 0), TopicAck(0, 1), None)
    assert fourth.code == "not_json"


def test_an_interrupted_call_keeps_the_half_that_was_acknowledged(api: Api) -> None:
    def answer(request: Request) -> tuple[int, Any]:
        if len(api.requests) == 3:
            return 503, {}
        return (400, {}) if len(api.requests) == 1 else topic_answer(request)

    def interrupt(_: float) -> None:
        raise Ended

    api.answer = answer
    with pytest.raises(Ended) as caught:
        client_of(api.url, sleep=interrupt).produce("p.pin", [(1, {}), (2, {})])
    assert caught.value.results == [TopicAck(0, 0), None]  # type: ignore[attr-defined]


def test_a_record_that_is_never_taken_ends_while_all_others_pass(api: Api) -> None:
    def answer(request: Request) -> tuple[int, Any]:
        status, body = stream_answer(request)
        for record, entry in zip(request.json["records"], body["Records"], strict=True):
            if record["partition-key"] == "0":
                entry |= {"ErrorCode": "InternalFailure", "ErrorMessage": "no"}
        return status, body

    api.answer = answer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateway, "MAX_RECORDS", 2)
        first, *others = client_of(api.url, max_attempts=3).put_records(
            "s", [(number, {"ind": number}) for number in range(10)]
        )
    assert first == Failure(200, "InternalFailure", "no")
    assert all(isinstance(result, StreamAck) for result in others)
    assert len(api.requests) == 9 + 3


def test_each_try_is_one_request_and_nothing_below_tries_again(api: Api) -> None:
    def hang_up(request: Request) -> tuple[int, Any]:
        raise ConnectionAbortedError("the connection ends without an answer")

    api.answer = hang_up
    [failure] = client_of(api.url, max_attempts=3).produce("t", [(1, {"ind": 1})])
    assert isinstance(failure, Failure)
    assert failure.code == "no_answer"
    assert len(api.requests) == 3


# A record in doubt, and the next one of its key.


class Clock:
    """Time that passes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("method", ["produce", "put_records"])
def test_the_next_version_waits_until_the_doubtful_one_can_no_longer_arrive(api: Api, method: str) -> None:
    clock = Clock()
    sent: list[tuple[float, list[int]]] = []

    def answer(request: Request) -> tuple[int, Any]:
        versions = [
            (record.get("value") or json.loads(record["data"]))["v"] for record in request.json["records"]
        ]
        sent.append((round(clock.now - 1000, 3), versions))
        if len(sent) == 1:
            return 504, {"message": "Endpoint request timed out"}
        return topic_answer(request) if method == "produce" else stream_answer(request)

    api.answer = answer
    client = client_of(api.url, sleep=clock.sleep, clock=clock, jitter=lambda: 1.0)
    results = getattr(client, method)("x", [(7, {"v": 1}), (8, {"v": 2}), (7, {"v": 3}), (7, {"v": 4})])
    assert all(not isinstance(result, Failure) for result in results)
    assert sent == [(0, [1, 2]), (0.1, [1, 2]), (30, [3]), (30, [4])]


def test_doubt_is_kept_from_one_call_to_the_next(api: Api) -> None:
    clock = Clock()
    api.answer = lambda request: (503, {}) if len(api.requests) == 1 else topic_answer(request)
    client = client_of(api.url, sleep=clock.sleep, clock=clock, max_attempts=1)
    [failure] = client.produce("x.pin", [(7, {"v": 1})])
    assert isinstance(failure, Failure)
    assert failure.retriable
    clock.now += 10
    client.produce("x.geo", [(7, {"v": 1})])
    client.produce("x.pin", [(8, {"v": 1})])
    assert clock.now == 1010
    client.produce("x.pin", [(7, {"v": 2})])
    assert clock.now == 1030
    client.produce("x.pin", [(7, {"v": 3})])
    assert clock.now == 1030
    assert client._doubts == {}


def test_the_two_ways_to_a_stream_share_their_doubts(api: Api) -> None:
    clock = Clock()
    api.answer = lambda request: (500, {}) if len(api.requests) == 1 else stream_answer(request)
    client = client_of(api.url, sleep=clock.sleep, clock=clock, max_attempts=1)
    client.put_record("s", 7, {"v": 1})
    client.put_records("s", [("7", {"v": 2})])
    assert clock.now == 1030


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"message": "Too Many Requests"}),
        (400, {"__type": "ProvisionedThroughputExceededException", "message": "Rate exceeded"}),
        (200, {"Records": [{"ErrorCode": "ProvisionedThroughputExceededException"}]}),
        (400, {"__type": "ValidationException", "message": "bad"}),
    ],
)
def test_what_was_refused_holds_nothing_back(api: Api, status: int, body: Any) -> None:
    clock = Clock()
    api.answer = lambda request: (status, body) if len(api.requests) == 1 else stream_answer(request)
    client = client_of(api.url, sleep=clock.sleep, clock=clock, jitter=lambda: 0.0)
    results = client.put_records("s", [(7, {"v": 1}), (7, {"v": 2})])
    assert isinstance(results[1], StreamAck)
    assert clock.now == 1000


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as reserved:  # bound, so that nobody else comes to listen there
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/stage"
        [failure] = client_of(url, max_attempts=2).produce("t", [(1, {"ind": 1})])
    assert isinstance(failure, Failure)
    assert (failure.status, failure.code) == (None, "no_answer")
    assert "cannot be reached" in failure.reason


def test_an_answer_that_takes_too_long(api: Api) -> None:
    release = threading.Event()

    def answer(request: Request) -> tuple[int, Any]:
        if len(api.requests) == 1:
            release.wait(120)
        return topic_answer(request)

    api.answer = answer
    try:
        client = client_of(api.url, timeout_seconds=2)  # the second answer has to come in time too
        assert client.produce("t", [(1, {"ind": 1})]) == [TopicAck(0, 0)]
    finally:
        release.set()
    assert len(api.requests) == 2


@pytest.mark.parametrize("over", [False, True])
def test_the_largest_record(api: Api, over: bool) -> None:
    api.answer = stream_answer
    empty = len(json.dumps({"ind": 1, "title": ""}, separators=(",", ":"))) + len("1")
    title = "é" * ((gateway.MAX_RECORD_BYTES - empty) // 2)
    title += "x" * (gateway.MAX_RECORD_BYTES - empty - len(title.encode()) + over)

    [large, small] = client_of(api.url).put_records("s", [(1, {"ind": 1, "title": title}), (2, {"ind": 2})])

    assert isinstance(small, StreamAck)
    if over:
        assert isinstance(large, Failure)
        assert (large.status, large.code) == (None, "too_large")
        assert [len(request.json["records"]) for request in api.requests] == [1]
    else:
        assert isinstance(large, StreamAck)
        assert [len(request.json["records"]) for request in api.requests] == [2]


def test_requests_stay_within_all_limits(api: Api) -> None:
    api.answer = stream_answer
    plain = [(number, {"ind": number, "title": "x" * 1_000_000}) for number in range(11)]
    # Quotes double in the body, so that the API's limit is met before Kinesis'.
    quoted = [(number, {"ind": number, "title": '"' * 500_000}) for number in range(11, 22)]
    many = [(number, {"ind": number}) for number in range(22, 1_222)]

    results = client_of(api.url).put_records("s", [*plain, *quoted, *many])

    assert all(isinstance(result, StreamAck) for result in results)
    for request in api.requests:
        records = request.json["records"]
        assert len(records) <= 500
        assert sum(len(r["data"].encode()) + len(r["partition-key"]) for r in records) <= 5 * 1024 * 1024
        assert len(request.body) <= 10_000_000
    assert max(len(request.json["records"]) for request in api.requests) == 500
    assert [number for request in api.requests for number in map(_number, request.json["records"])] == list(
        range(1_222)
    )


def _number(record: Mapping[str, Any]) -> int:
    return int(record["partition-key"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", b"bytes", {1, 2}])
@pytest.mark.parametrize("method", ["produce", "put_records"])
def test_what_is_no_json_is_not_sent(api: Api, method: str, value: Any) -> None:
    api.answer = topic_answer if method == "produce" else stream_answer
    bad, good = getattr(client_of(api.url), method)("x", [(1, {"title": value}), (2, {"title": "fine"})])
    assert isinstance(bad, Failure)
    assert bad.code == "not_json"
    assert isinstance(good, TopicAck | StreamAck)
    assert len(api.requests[0].json["records"]) == 1


def test_no_records_need_no_request(api: Api) -> None:
    assert client_of(api.url).produce("t", []) == []
    assert client_of(api.url).put_records("s", []) == []
    assert api.requests == []


def test_streams_are_listed_described_created_and_deleted(api: Api) -> None:
    answers = {
        "/stage/streams": {"StreamNames": ["a", "b"], "HasMoreStreams": False},
        "/stage/streams/a": {"StreamDescription": {"StreamStatus": "ACTIVE"}},
        "/stage/streams/new": b"",
        "/stage/streams/old": b"",
    }
    api.answer = lambda request: (200, answers[request.path])
    client = client_of(api.url)

    assert client.list_streams() == ["a", "b"]
    assert client.describe_stream("a") == {"StreamStatus": "ACTIVE"}
    client.create_stream("new", 4)
    client.delete_stream("old")

    assert [(r.method, r.path) for r in api.requests[2:]] == [
        ("POST", "/stage/streams/new"),
        ("DELETE", "/stage/streams/old"),
    ]
    assert api.requests[2].json == {"ShardCount": 4}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"__type": "ResourceNotFoundException", "message": "no stream x"}, StreamNotFound),
        (200, {"__type": "com.amazonaws#ResourceInUseException", "message": "exists"}, StreamInUse),
        (403, {"message": "Forbidden"}, CredentialsRefused),
        (400, {"__type": "ValidationException", "message": "1 is too few"}, GatewayError),
    ],
)
def test_errors_of_streams_have_types(api: Api, status: int, body: Any, error: type[GatewayError]) -> None:
    api.answer = lambda _: (status, body)
    with pytest.raises(error) as caught:
        client_of(api.url).describe_stream("x")
    assert type(caught.value) is error
    assert caught.value.status == status
    assert body["message"] in str(caught.value)
    assert len(api.requests) == 1


@pytest.mark.parametrize("body", [{}, {"StreamNames": "a"}, b"nonsense"])
def test_a_senseless_list_of_streams(api: Api, body: Any) -> None:
    api.answer = lambda _: (200, body)
    with pytest.raises(GatewayError, match="makes no sense"):
        client_of(api.url, max_attempts=2).list_streams()


@pytest.mark.parametrize("url", ["", "host/stage", "ftp://host/stage", "http:///stage"])
def test_a_wrong_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        GatewayClient(url, CREDENTIALS, REGION)


def test_missing_credentials_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="No AWS credentials"):
        GatewayClient("http://127.0.0.1/stage", None, REGION)


def test_logs_hold_no_secret(api: Api) -> None:
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler = Keep(logging.DEBUG)
    ours = logging.getLogger("pinterest_pipeline")
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    api.answer = lambda request: (500, {"message": "x"}) if len(api.requests) < 3 else topic_answer(request)
    try:
        client_of(api.url).produce("t", [(1, {"ind": 1})])
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
    assert any("sent again" in line for line in said)
    for secret in ("a-secret-nobody-may-see", "a-session-token", "AKIDEXAMPLE"):
        assert not any(secret in line for line in said)


# Whatever the other side does, record by record and request by request.

ENTRY_FATES = st.sampled_from(["ok", "ok", "ok", "throttled", "refused", "senseless"])
REQUEST_FATES = st.one_of(
    st.lists(ENTRY_FATES, min_size=1, max_size=8),
    st.sampled_from(["dropped", "lost", "500", "garbage", "short", "400"]),
)


class MoodyGateway(BaseAdapter):
    """A transport that follows a script of fates, then only accepts. It keeps what it accepted, in order."""

    def __init__(self, script: list[Any], kind: str) -> None:
        super().__init__()
        self.script = iter(script)
        self.kind = kind
        self.accepted: list[tuple[str, int]] = []
        self.batches: list[list[str]] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        assert isinstance(request.body, bytes)
        records = [self._read(record) for record in json.loads(request.body)["records"]]
        self.batches.append([key for key, _ in records])
        fate = next(self.script, ["ok"])
        if fate == "dropped":
            raise requests.ConnectionError("dropped on the way there")
        if fate in ("500", "400"):
            return self._response(request, int(fate), b'{"message": "no"}')
        fates = fate if isinstance(fate, list) else ["ok"]
        results = [self._settle(r, fates[i % len(fates)]) for i, r in enumerate(records)]
        if fate == "lost":
            raise requests.ReadTimeout("accepted, but the answer was lost")
        if fate == "short":
            results = results[1:]
        body = {"offsets": results} if self.kind == "topic" else {"Records": results}
        return self._response(request, 200, b"{oops" if fate == "garbage" else json.dumps(body).encode())

    def close(self) -> None:
        """Nothing is open."""

    def _read(self, record: dict[str, Any]) -> tuple[str, int]:
        if self.kind == "topic":
            return str(record["key"]), record["value"]["version"]
        return record["partition-key"], json.loads(record["data"])["version"]

    def _settle(self, record: tuple[str, int], fate: str) -> dict[str, Any]:
        if fate == "senseless":
            return {}
        if fate in {"throttled", "refused"}:
            code = 2 if fate == "throttled" else 1
            return {"error_code": code, "error": fate, "ErrorCode": fate}
        self.accepted.append(record)
        place = len(self.accepted) - 1
        if self.kind == "topic":
            return {"partition": 0, "offset": place}
        return {"ShardId": "shard", "SequenceNumber": str(place)}

    @staticmethod
    def _response(request: requests.PreparedRequest, status: int, content: bytes) -> requests.Response:
        response = requests.Response()
        response.status_code, response._content = status, content
        response.request, response.url = request, request.url or ""
        return response


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["topic", "stream"]),
    keys=st.lists(st.integers(0, 5), max_size=40),
    script=st.lists(REQUEST_FATES, max_size=30),
    max_attempts=st.integers(1, 5),
)
def test_every_record_has_one_true_result_and_no_key_is_reordered(
    kind: str, keys: list[int], script: list[Any], max_attempts: int
) -> None:
    moody = MoodyGateway(script, kind)
    session = requests.Session()
    session.mount("http://", moody)
    client = client_of("http://gateway/stage", max_attempts=max_attempts, session=session)
    records = [(key, {"ind": key, "version": version}) for version, key in enumerate(keys)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateway, "MAX_RECORDS", 4)
        results = client.produce("t", records) if kind == "topic" else client.put_records("s", records)

    assert len(results) == len(records)
    for (key, value), result in zip(records, results, strict=True):
        if not isinstance(result, Failure):
            place = result.offset if isinstance(result, TopicAck) else int(result.sequence_number)
            assert moody.accepted[place] == (str(key), value["version"])
    for key in set(keys):
        versions = [version for accepted, version in moody.accepted if accepted == str(key)]
        assert versions == sorted(versions)
    for batch in moody.batches:
        assert len(batch) == len(set(batch)) <= 4


class LateGateway(MoodyGateway):
    """Carries out what it has not answered, or answers wrongly, up to 29 seconds later, if at all."""

    def __init__(self, script: list[Any], kind: str, clock: Clock) -> None:
        super().__init__(script, kind)
        self.clock = clock
        self.late: list[tuple[float, tuple[str, int]]] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        assert isinstance(request.body, bytes)
        self.carry_out(self.clock.now)
        records = [self._read(record) for record in json.loads(request.body)["records"]]
        fate, delay = next(self.script, ("ok", 0))
        self.clock.now += 0.01
        if fate == "ok":
            results = [self._settle(record, "ok") for record in records]
            body = {"offsets": results} if self.kind == "topic" else {"Records": results}
            return self._response(request, 200, json.dumps(body).encode())
        self.late += [(self.clock.now + delay, record) for record in records]
        if fate == "silence":
            raise requests.ReadTimeout("no answer")
        return self._response(request, fate, b"{}")

    def carry_out(self, now: float) -> None:
        for due in sorted(each for each in self.late if each[0] <= now):
            self.accepted.append(due[1])
            self.late.remove(due)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["topic", "stream"]),
    calls=st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=4),
    script=st.lists(
        st.tuples(st.sampled_from(["ok", "silence", 500, 503, 504]), st.floats(0, 29)), max_size=15
    ),
    max_attempts=st.integers(1, 4),
)
def test_no_version_lies_behind_a_newer_one_however_late_a_try_is_carried_out(
    kind: str, calls: list[list[int]], script: list[Any], max_attempts: int
) -> None:
    clock = Clock()
    late = LateGateway(script, kind, clock)
    session = requests.Session()
    session.mount("http://", late)
    client = client_of(
        "http://gateway/stage", max_attempts=max_attempts, session=session, sleep=clock.sleep, clock=clock
    )
    version = 0
    for keys in calls:
        records = [(key, {"ind": key, "version": version + i}) for i, key in enumerate(keys)]
        version += len(keys)
        _ = client.produce("t", records) if kind == "topic" else client.put_records("s", records)
    late.carry_out(clock.now + 29)
    for key in "012":
        versions = [number for accepted, number in late.accepted if accepted == key]
        assert versions == sorted(versions)


@settings(max_examples=50, deadline=None)
@given(keys=st.lists(st.integers(0, 30), min_size=1, max_size=60), seed=st.randoms(use_true_random=False))
def test_throttled_entries_all_arrive_once_and_in_order(keys: list[int], seed: Any) -> None:
    script = [[seed.choice(["ok", "ok", "throttled"]) for _ in range(7)] for _ in range(40)]
    for fates in script:
        fates[seed.randrange(7)] = "ok"
    moody = MoodyGateway(script, "stream")
    session = requests.Session()
    session.mount("http://", moody)
    client = client_of("http://gateway/stage", max_attempts=40, session=session)
    records = [(key, {"ind": key, "version": version}) for version, key in enumerate(keys)]

    results = client.put_records("s", records)

    assert all(isinstance(result, StreamAck) for result in results)
    assert len(moody.accepted) == len(records)
    for key in set(keys):
        accepted = [version for name, version in moody.accepted if name == str(key)]
        assert accepted == [version for version, k in enumerate(keys) if k == key]
