"""The proxy's answers, with Kafka played by an object of this file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest

from msk.rest_proxy.app import RestProxy
from msk.rest_proxy.records import Record
from msk.rest_proxy.topics import Ack, KafkaAwayError, Outcome, Refusal, UnknownTopicError

LIMITS: dict[str, Any] = {"max_body_bytes": 1000, "max_buffered_bytes": 1500}
JSON_V2 = {"Content-Type": "application/vnd.kafka.json.v2+json"}
ONE = b'{"records":[{"key":7,"value":{"a":1}}]}'


class FakeTopics:
    """Kafka with the topics it is given, by default `pin` alone."""

    def __init__(self, *known: str) -> None:
        self.known = known or ("pin",)
        self.written: list[Record] = []
        self.outcomes: list[Outcome] | None = None
        self.error: Exception | None = None

    async def produce(self, topic: str, records: Sequence[Record]) -> list[Outcome]:
        self._check(topic)
        self.written += records
        return self.outcomes or [Ack(0, i) for i in range(len(records))]

    async def names(self) -> list[str]:
        self._check(self.known[0])
        return sorted(self.known)

    async def describe(self, topic: str) -> dict[str, Any]:
        self._check(topic)
        return {"name": topic, "configs": {}, "partitions": []}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def _check(self, topic: str) -> None:
        if self.error is not None:
            raise self.error
        if topic not in self.known:
            raise UnknownTopicError(topic)


@pytest.fixture
def topics() -> FakeTopics:
    return FakeTopics()


@pytest.fixture
async def http(topics: FakeTopics) -> AsyncIterator[httpx.AsyncClient]:
    app = RestProxy(topics, **LIMITS)
    async with client_of(app) as client:
        yield client


def client_of(app: RestProxy) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy")


async def test_offsets_are_answered_as_confluent_does(http: httpx.AsyncClient, topics: FakeTopics) -> None:
    topics.outcomes = [
        Ack(2, 40),
        Refusal("too large", retriable=False),
        Refusal("no leader", retriable=True),
    ]
    answer = await http.post("/topics/pin", content=ONE, headers=JSON_V2)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/vnd.kafka.v2+json"
    assert answer.json() == {
        "offsets": [
            {"partition": 2, "offset": 40, "error_code": None, "error": None},
            {"partition": None, "offset": None, "error_code": 1, "error": "too large"},
            {"partition": None, "offset": None, "error_code": 2, "error": "no leader"},
        ],
        "key_schema_id": None,
        "value_schema_id": None,
    }
    assert topics.written == [Record(b"7", b'{"a":1}', None)]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/vnd.kafka.json.v2+json; charset=utf-8",
        "Application/VND.kafka.json.v2+JSON ;charset=UTF-8",
    ],
)
async def test_content_type_may_have_parameters(http: httpx.AsyncClient, content_type: str) -> None:
    answer = await http.post("/topics/pin", content=ONE, headers={"Content-Type": content_type})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/json"},
        {"Content-Type": "application/vnd.kafka.avro.v2+json"},
        {**JSON_V2, "Content-Encoding": "gzip"},
    ],
)
async def test_other_content_is_415(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await http.post("/topics/pin", content=ONE, headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (415, 415)


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 422), (b'{"records":[]}', 422), (b'{"a":1}', 422)]
)
async def test_bodies_that_hold_no_records(http: httpx.AsyncClient, body: bytes, status: int) -> None:
    answer = await http.post("/topics/pin", content=body, headers=JSON_V2)
    assert (answer.status_code, answer.json()["error_code"]) == (status, status)
    assert answer.json()["message"]


async def test_an_unknown_topic_is_40401(http: httpx.AsyncClient) -> None:
    for answer in (
        await http.post("/topics/pni", content=ONE, headers=JSON_V2),
        await http.get("/topics/pni"),
        await http.get("/topics/pin%2Fx"),
    ):
        assert answer.status_code == 404
        assert answer.json() == {"error_code": 40401, "message": "Topic not found."}


@pytest.mark.parametrize("served", [["pin", "geo.*"], ["*"], ["_*", "pin", "geo.*"]])
async def test_topics_that_are_not_served_are_unknown_even_where_kafka_has_them(served: list[str]) -> None:
    own = ["_pinterest-connect-config", "_", "__consumer_offsets"]
    topics = FakeTopics("pin", "geo.a", "geo.b", "pinterest.dead-letter", "pins", *own)
    shown = ["geo.a", "geo.b", "pin"] + (["pinterest.dead-letter", "pins"] if served == ["*"] else [])
    async with client_of(RestProxy(topics, served=served, **LIMITS)) as http:
        assert (await http.get("/topics")).json() == sorted(shown)
        for topic in topics.known:
            expected = 200 if topic in shown else 404
            assert (await http.post(f"/topics/{topic}", content=ONE, headers=JSON_V2)).status_code == expected
            answer = await http.get(f"/topics/{topic}")
            assert answer.status_code == expected
            if expected == 404:
                assert answer.json() == {"error_code": 40401, "message": "Topic not found."}
    assert len(topics.written) == len(shown)


async def test_a_name_is_compared_as_kafka_will_see_it() -> None:
    topics = FakeTopics("_own", "pin")
    async with client_of(RestProxy(topics, served=["*"], **LIMITS)) as http:
        for path in ("/topics/%5Fown", "/topics/%255Fown", "/topics/_own/", "//topics/_own"):
            answer = await http.post(path, content=ONE, headers=JSON_V2)
            assert answer.status_code == 404, path
    assert topics.written == []


async def test_kafka_away_is_503_everywhere(http: httpx.AsyncClient, topics: FakeTopics) -> None:
    topics.error = KafkaAwayError("cannot write: no broker")
    for answer in (
        await http.post("/topics/pin", content=ONE, headers=JSON_V2),
        await http.get("/topics"),
        await http.get("/topics/pin"),
        await http.get("/"),
    ):
        assert answer.status_code == 503
        assert answer.json() == {"error_code": 503, "message": "cannot write: no broker"}
        assert answer.headers["retry-after"] == "1"


async def test_a_bug_is_a_500_without_a_traceback(http: httpx.AsyncClient, topics: FakeTopics) -> None:
    topics.error = ZeroDivisionError("division by zero")
    answer = await http.get("/topics")
    assert answer.status_code == 500
    assert "division" not in answer.text


@pytest.mark.parametrize("extra_bytes", [0, 1])
async def test_a_body_may_have_just_so_many_bytes(http: httpx.AsyncClient, extra_bytes: int) -> None:
    body = ONE + b" " * (1000 - len(ONE) + extra_bytes)
    expected = 413 if extra_bytes else 200
    announced = await http.post("/topics/pin", content=body, headers=JSON_V2)
    assert announced.status_code == expected
    streamed = await http.post("/topics/pin", content=in_pieces(body), headers=JSON_V2)
    assert streamed.status_code == expected


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


async def test_bodies_of_requests_under_way_share_one_bound(topics: FakeTopics) -> None:
    body = ONE + b" " * (900 - len(ONE))
    app = RestProxy(topics, **LIMITS)
    async with client_of(app) as http, client_of(app) as other:
        answers: list[httpx.Response] = []

        async def asks_again_meanwhile() -> AsyncIterator[bytes]:
            yield body
            answers.append(await other.post("/topics/pin", content=body, headers=JSON_V2))

        first = await http.post("/topics/pin", content=asks_again_meanwhile(), headers=JSON_V2)
        later = await other.post("/topics/pin", content=body, headers=JSON_V2)
    assert [first.status_code, answers[0].status_code, later.status_code] == [200, 503, 200]


async def test_health_topics_and_description(http: httpx.AsyncClient) -> None:
    assert (await http.get("/")).json() == {"kafka": "answers"}
    assert (await http.get("/topics")).json() == ["pin"]
    assert (await http.get("/topics/pin")).json()["name"] == "pin"
    head = await http.head("/topics")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/brokers", 404),
        ("POST", "/topics/pin/partitions/0", 404),
        ("PUT", "/topics/pin", 405),
        ("POST", "/", 405),
    ],
)
async def test_what_is_not_served(http: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    assert (await http.request(method, path)).status_code == status


@pytest.mark.parametrize("password", ["open sesame", "", "wörong"])
async def test_a_locked_proxy_wants_its_login_but_for_health(topics: FakeTopics, password: str) -> None:
    app = RestProxy(topics, **LIMITS, login=("gateway", "open sesame"))
    expected = 200 if password == "open sesame" else 401
    async with client_of(app) as http:
        for path in ("/topics", "/topics/pin"):
            assert (await http.get(path, auth=("gateway", password))).status_code == expected
        produced = await http.post("/topics/pin", content=ONE, headers=JSON_V2, auth=("gateway", password))
        assert produced.status_code == expected
        anonymous = await http.get("/topics")
        assert (anonymous.status_code, anonymous.headers["www-authenticate"]) == (401, 'Basic realm="kafka"')
        assert (await http.get("/")).status_code == 200
    assert len(topics.written) == (1 if expected == 200 else 0)
