"""The proxy as a process, in front of a real broker."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, NodeNotReadyError
from aiokafka.protocol.metadata import MetadataRequest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from local.kafka import throwaway
from local.kafka.throwaway import Broker
from msk.rest_proxy import topics
from msk.rest_proxy.__main__ import listen
from tests.msk.conftest import RunningProxy, await_that, running_proxy

Stored = dict[tuple[int, int], tuple[bytes | None, bytes | None]]


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that the test may stop and kill."""
    with throwaway.broker(tmp_path / "kafka") as broker:
        yield broker


def stored(broker: Broker, topic: str) -> Stored:
    """Read a whole topic: (partition, offset) to (key, value)."""
    consumer = KafkaConsumer(**broker.client_settings(), auto_offset_reset="earliest")
    try:
        partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        records: Stored = {}
        while any(consumer.position(p) < ends[p] for p in partitions):
            for batch in consumer.poll(timeout_ms=1000).values():
                records |= {(r.partition, r.offset): (r.key, r.value) for r in batch}
        return records
    finally:
        consumer.close()


def produce_body(values: Mapping[int, object]) -> str:
    return json.dumps({"records": [{"key": key, "value": value} for key, value in values.items()]})


def test_records_are_stored_byte_for_byte_where_the_answer_says(
    rest_proxy: RunningProxy, kafka_broker: Broker, topic: str
) -> None:
    values = [b'{"b":1,  "a":"\xc3\xa9"}', b'"\\ud83d"', b"[1 ,2]", b"null", b'{"half":1,"half":2}']
    wire = b",".join(b'{"key":%d,"value":%s}' % (i, value) for i, value in enumerate(values))
    answer = rest_proxy.produce(topic, b'{"records":[' + wire + b"]}")
    assert answer.status_code == 200, answer.text
    positions = [(each["partition"], each["offset"]) for each in answer.json()["offsets"]]
    records = stored(kafka_broker, topic)
    assert [records[position] for position in positions] == [
        (b"%d" % i, None if value == b"null" else value) for i, value in enumerate(values)
    ]
    assert len(records) == len(values)


def test_one_key_stays_in_one_partition_and_in_order(
    rest_proxy: RunningProxy, kafka_broker: Broker, topic: str
) -> None:
    body = json.dumps({"records": [{"key": i % 7, "value": i} for i in range(500)]})
    answers = rest_proxy.produce(topic, body).json()["offsets"]
    by_key: dict[int, list[tuple[int, int]]] = {}
    for i, each in enumerate(answers):
        by_key.setdefault(i % 7, []).append((each["partition"], each["offset"]))
    for positions in by_key.values():
        assert len({partition for partition, _ in positions}) == 1
        assert positions == sorted(positions)
    assert len(stored(kafka_broker, topic)) == 500


def test_a_partition_can_be_chosen_and_a_missing_one_is_the_records_own_error(
    rest_proxy: RunningProxy, topic: str
) -> None:
    answer = rest_proxy.produce(
        topic, '{"records":[{"value":1,"partition":2},{"value":2,"partition":3},{"value":null},{"value":4}]}'
    )
    assert answer.status_code == 200
    first, missing, empty, last = answer.json()["offsets"]
    assert (first["partition"], first["error_code"]) == (2, None)
    assert (missing["error_code"], missing["error"]) == (1, f"topic {topic} has no partition 3")
    assert (empty["error_code"], empty["error"]) == (1, "a record needs a key or a value")
    assert last["error_code"] is None


def test_a_record_too_large_for_the_proxy_is_its_own_error(rest_proxy: RunningProxy, topic: str) -> None:
    answer = rest_proxy.produce(topic, produce_body({1: "small", 2: "x" * 1_100_000, 3: "small"}))
    assert [each["error_code"] for each in answer.json()["offsets"]] == [None, 1, None]


def test_a_record_too_large_for_its_topic_is_its_own_error(
    rest_proxy: RunningProxy, kafka_broker: Broker, kafka_admin: KafkaAdminClient
) -> None:
    kafka_admin.create_topics([NewTopic("narrow", 1, 1, topic_configs={"max.message.bytes": "5000"})])
    small = "x" * 1000
    values = {1: small, 2: "y" * 6000, 3: small, 4: small}
    answer = rest_proxy.produce("narrow", produce_body(values)).json()["offsets"]
    assert [each["error_code"] for each in answer] == [None, 1, None, None]
    # and the partition is not spoilt for whoever comes next
    after = rest_proxy.produce("narrow", produce_body({5: small})).json()["offsets"]
    assert after[0]["error_code"] is None
    assert [key for key, _ in stored(kafka_broker, "narrow").values()] == [b"1", b"3", b"4", b"5"]


def test_an_unknown_topic_is_told_and_is_not_made(
    rest_proxy: RunningProxy, kafka_admin: KafkaAdminClient
) -> None:
    answer = rest_proxy.produce("no-such-topic", '{"records":[{"value":1}]}')
    assert (answer.status_code, answer.json()["error_code"]) == (404, 40401)
    assert "no-such-topic" not in kafka_admin.list_topics()


def test_topics_are_listed_and_described(rest_proxy: RunningProxy, topic: str) -> None:
    assert topic in rest_proxy.http.get("/topics").json()
    described = rest_proxy.http.get(f"/topics/{topic}").json()
    assert described["name"] == topic
    assert described["configs"]["cleanup.policy"] == "delete"
    assert described["partitions"] == [
        {"partition": p, "leader": 1, "replicas": [{"broker": 1, "leader": True, "in_sync": True}]}
        for p in range(3)
    ]
    assert rest_proxy.http.get("/topics/no-such-topic").json()["error_code"] == 40401


def test_the_door_is_locked_but_health_is_not(rest_proxy: RunningProxy) -> None:
    assert rest_proxy.http.get("/topics", headers={"Authorization": ""}).status_code == 401
    assert rest_proxy.http.get("/", headers={"Authorization": ""}).status_code == 200


def test_no_body_of_an_answer_waits_until_its_head_is_acknowledged() -> None:
    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_killed_broker_loses_and_doubles_nothing(own_broker: Broker, tmp_path: Path) -> None:
    admin = KafkaAdminClient(**own_broker.client_settings())
    admin.create_topics([NewTopic("pin", num_partitions=3, replication_factor=1)])
    admin.close()
    (tmp_path / "proxy").mkdir()
    killed, underway = threading.Event(), threading.Barrier(5)
    slow = running_proxy(own_broker, tmp_path / "proxy", request_timeout_seconds=300)
    with slow as proxy, ThreadPoolExecutor(4) as pool:

        def post(first: int) -> list[tuple[int, int, int]]:
            answer = proxy.produce("pin", produce_body({key: key for key in range(first, first + 100)}))
            if answer.status_code != 200:
                assert answer.status_code == 503
                return []
            return [
                (first + i, each["partition"], each["offset"])
                for i, each in enumerate(answer.json()["offsets"])
                if each["error_code"] is None
            ]

        def keep_posting(first: int) -> tuple[int, list[tuple[int, int, int]]]:
            """Post a hundred records at a time until the broker is killed, and five hundred from then on."""
            count, acknowledged, left = 0, post(first), 5
            underway.wait()
            while left:
                left -= killed.is_set()
                count += 100
                acknowledged += post(first + count)
            return count + 100, acknowledged

        posting = [pool.submit(keep_posting, first) for first in range(0, 4_000_000, 1_000_000)]
        underway.wait()
        own_broker.kill()
        killed.set()
        assert not any(each.done() for each in posting)
        own_broker.start()
        posted = sum(each.result()[0] for each in posting)
        acknowledged = [ack for each in posting for ack in each.result()[1]]
    records = stored(own_broker, "pin")
    assert [records[partition, offset] for key, partition, offset in acknowledged] == [
        (b"%d" % key, b"%d" % key) for key, _, _ in acknowledged
    ]
    keys = [key for key, _ in records.values()]
    assert len(keys) == len(set(keys))
    # the broker is back long before a request gives up, so all of them were written after all
    assert len(acknowledged) == posted


async def test_a_producer_that_is_cut_off_reaches_kafka_no_more(kafka_broker: Broker, topic: str) -> None:
    settings = kafka_broker.client_settings()
    producer = AIOKafkaProducer(**settings, acks="all", enable_idempotence=True, linger_ms=2_000)
    await producer.start()
    sent = await producer.send(topic, b"1", partition=0)
    await sent
    held = await producer.send(topic, b"2", partition=0)
    sockets = [each._writer.get_extra_info("socket") for each in producer.client._conns.values()]
    assert sockets
    await topics._cut_off(producer)
    assert {each.fileno() for each in sockets} == {-1}
    node = producer.client.get_random_node()
    with pytest.raises(NodeNotReadyError):  # it connects, and is cut off at once
        await producer.client.send(node, MetadataRequest([]))
    await topics._end(producer)
    with pytest.raises(KafkaError, match="given up"):
        await held
    assert producer._sender.sender_task.done()
    assert stored(kafka_broker, topic) == {(0, 0): (None, b"1")}


def test_without_kafka_every_answer_is_503_in_bounded_time_and_it_recovers(
    own_broker: Broker, tmp_path: Path
) -> None:
    own_broker.stop()
    (tmp_path / "proxy").mkdir()
    with running_proxy(own_broker, tmp_path / "proxy", request_timeout_seconds=3) as proxy:
        for _ in range(2):  # not there when the proxy started, then gone while it was connected
            for path in ("/", "/topics", "/topics/pin"):
                assert_away(proxy, "GET", path)
            assert_away(proxy, "POST", "/topics/pin")
            own_broker.start()
            admin = KafkaAdminClient(**own_broker.client_settings())
            if "pin" not in admin.list_topics():
                admin.create_topics([NewTopic("pin", num_partitions=1, replication_factor=1)])
            admin.close()
            await_that(lambda: proxy.http.get("/").json() == {"kafka": "answers"}, "the proxy has noticed")
            await_that(lambda: proxy.produce("pin", produce_body({1: 1})).status_code == 200, "the topic")
            answer = proxy.produce("pin", produce_body({1: 1}))
            assert answer.json()["offsets"][0]["error_code"] is None, answer.text
            own_broker.kill()


def assert_away(proxy: RunningProxy, method: str, path: str) -> None:
    if method == "POST":
        answer = proxy.produce(path.removeprefix("/topics/"), produce_body({1: 1}))
    else:
        answer = proxy.http.get(path)
    assert (answer.status_code, answer.json()["error_code"]) == (503, 503), answer.text


def test_no_password_is_logged(rest_proxy: RunningProxy, kafka_broker: Broker) -> None:
    text = rest_proxy.part.log.read_text()
    assert "listening on http://127.0.0.1:" in text
    assert kafka_broker.client.password not in text
    assert "let me in" not in text
