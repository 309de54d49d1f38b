"""Records through the real proxy, broker, Connect and plug-in into an S3 stand-in: every byte and every offset."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import string
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from local.kafka import acls, config, throwaway
from local.kafka.throwaway import Broker, Connect, Part
from local.ports import free_ports
from pinterest_pipeline.triggers.s3_sink import S3SinkLandedTrigger
from tests.msk.conftest import RunningProxy, airflow_connections, await_that, running_proxy
from tests.support import history

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / ".jars" / "connect-plugins"
BUCKET = "lake"
KEY_ID, SECRET_KEY = "AKIAEXAMPLE", "notverysecret"

Lines = dict[tuple[int, int], bytes]


@dataclass
class World:
    """All that runs, and what was acknowledged: topic to {(partition, offset): value}."""

    broker: Broker
    proxy: RunningProxy
    connect: Connect
    s3_server: Part
    s3: Any
    prefix: str
    acknowledged: dict[str, Lines] = field(default_factory=dict)

    @property
    def connector(self) -> str:
        return f"{self.prefix}-s3-sink"

    def produce(self, table: str, values: list[bytes], *, first_key: int = 0) -> None:
        """Send values through the proxy and remember where each was acknowledged."""
        topic = f"{self.prefix}.{table}"
        wire = b",".join(b'{"key":%d,"value":%s}' % (first_key + i, value) for i, value in enumerate(values))
        answer = self.proxy.produce(topic, b'{"records":[' + wire + b"]}")
        assert answer.status_code == 200, answer.text
        for value, each in zip(values, answer.json()["offsets"], strict=True):
            assert each["error_code"] is None, each
            self.acknowledged.setdefault(topic, {})[each["partition"], each["offset"]] = value

    def landed(self, topic: str) -> Lines:
        """Read a topic's objects; an offset in two objects must hold the same line in both."""
        lines: Lines = {}
        for key in self.keys(topic):
            folder, _, first = key.removesuffix(".json").rpartition("+")
            partition = int(folder.rpartition("+")[2])
            assert key == f"topics/{topic}/partition={partition}/{topic}+{partition}+{int(first):010d}.json"
            stored = self.s3.get_object(Bucket=BUCKET, Key=key)
            content = stored["Body"].read()
            assert content.endswith(b"\n")
            assert stored["Metadata"]["records"] == str(content.count(b"\n"))
            for number, line in enumerate(content[:-1].split(b"\n")):
                assert lines.setdefault((partition, int(first) + number), line) == line
        return lines

    def keys(self, topic: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"topics/{topic}/")
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def await_landed(self) -> None:
        """Return once all that was acknowledged, and nothing else, is in the bucket."""
        for topic, expected in self.acknowledged.items():
            await_that(partial(self._has_landed, topic), topic)
            assert self.landed(topic) == expected
        assert not (report := self.report()), report

    def report(self) -> history.Report:
        """What the checker says of the three topics' records and the objects of the bucket."""
        topics = {f"{self.prefix}.{table}": table for table in ("pin", "geo", "user")}
        told = [
            history.record_of(table, partition, offset, value)
            for topic, table in topics.items()
            for (partition, offset), value in self.acknowledged.get(topic, {}).items()
        ]
        # in which order they were answered is not remembered
        told.sort(key=lambda record: record.order)
        keys = [key for topic in topics for key in self.keys(topic)]
        bodies = {key: self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
        return history.check(told, landed=history.lines_of(bodies, self.prefix))

    def _has_landed(self, topic: str) -> bool:
        return self.landed(topic).keys() >= self.acknowledged[topic].keys()

    def task_states(self) -> list[str]:
        """Return the states of the connector and its tasks; a connector that is being made has none."""
        try:
            status = self.connect.call("GET", f"/connectors/{self.connector}/status")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise
        return [status["connector"]["state"], *(task["state"] for task in status["tasks"])]


def rendered(name: str, values: Mapping[str, str]) -> Any:
    return json.loads(string.Template((ROOT / "msk" / name).read_text()).substitute(values))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if not any(PLUGINS.glob("*/s3-sink-*.jar")):
        pytest.fail(f"the S3 sink is not in {PLUGINS}; fill it with: make install", pytrace=False)
    folder = tmp_path_factory.mktemp("world")
    prefix = "worldwide"
    with ExitStack() as stack:
        broker = stack.enter_context(throwaway.broker(folder / "kafka"))
        s3_server, s3 = started_s3(folder)
        stack.callback(s3_server.stop)
        s3.create_bucket(Bucket=BUCKET)
        admin = KafkaAdminClient(**broker.client_settings())
        admin.create_topics([
            NewTopic(
                each["name"], each["partitions"], each["replication_factor"], topic_configs=each["configs"]
            )
            for each in rendered("topics.json", {"prefix": prefix})
        ])
        admin.close()
        # each part as its own user, with the rights that the laptop stack gives it
        acls.grant(broker.client_settings(), prefix=prefix, tables=("pin", "geo", "user"))
        login = broker.client_settings(config.REST_PROXY)
        (folder / "proxy").mkdir()
        proxy = stack.enter_context(
            running_proxy(
                broker,
                folder / "proxy",
                sasl_username=login["sasl_plain_username"],
                sasl_password=login["sasl_plain_password"],
            )
        )
        credentials = folder / "credentials"
        throwaway.write_private(
            credentials, f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET_KEY}\n"
        )
        environment = {"PATH": os.environ["PATH"], "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
        connect = stack.enter_context(
            throwaway.connect(broker, folder / "connect", plugin_dir=PLUGINS, environment=environment)
        )
        world = World(broker, proxy, connect, s3_server, s3, prefix)
        connector = rendered(
            "connector.json",
            {"prefix": prefix, "bucket": BUCKET, "region": "us-east-1", "store_url": s3.meta.endpoint_url},
        )
        connect.call("PUT", f"/connectors/{world.connector}/config", connector)
        await_that(lambda: world.task_states() == ["RUNNING", "RUNNING"], "the connector runs")
        yield world


def started_s3(folder: Path) -> tuple[Part, Any]:
    (port,) = free_ports(1)
    environment = {
        "PATH": os.environ["PATH"],
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "s3",
        "IOT_MTLS_ENABLED": "0",
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder / "s3"),
    }

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_ministack/health", timeout=2).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    server = Part("s3", [sys.executable, "-m", "ministack"], folder / "s3.log", answers, environment)
    server.start()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET_KEY,
    )
    return server, client


def numbered(first: int, count: int) -> list[bytes]:
    return [b'{"ind": %d,  "text": "\xc3\xa9 \\u00e9"}' % i for i in range(first, first + count)]


def test_values_land_byte_for_byte_where_they_were_acknowledged(world: World) -> None:
    for table in ("pin", "geo", "user"):
        world.produce(table, numbered(0, 300))
    world.produce(
        "pin", [b'"\\ud83d"', b'{"a" :1,"a":2}', b"[]", '"\u2028😀\\n"'.encode(), b'{"r":\r1}', b'""']
    )
    world.await_landed()
    assert len(world.landed("worldwide.pin")) == 306


def test_what_cannot_be_a_line_goes_to_the_dead_letter_topic_and_splits_the_object(world: World) -> None:
    topic = "worldwide.geo"
    world.await_landed()
    values = [
        b'{"ind": 1}',
        None,
        b'{"ind": 3}',
        b'{"ind":\n4}',
        b'{"ind": 5}',
        b'{"ind": 6}',
        b"not json",
        b"\xff",
    ]
    producer = KafkaProducer(**world.broker.client_settings(), acks="all")
    sent = [producer.send(topic, value=value, key=b"k", partition=0) for value in values]
    offsets = [each.get(timeout=120).offset for each in sent]
    producer.close()
    first = offsets[0]
    assert offsets == list(range(first, first + 8))
    good = {
        (0, offset): value
        for offset, value in zip(offsets, values, strict=True)
        if value and b"\n" not in value
    }
    world.acknowledged[topic] |= good
    world.await_landed()
    starts = {int(key[-15:-5]) for key in world.keys(topic) if "partition=0" in key}
    assert {first, first + 2, first + 4} <= starts
    dead = dead_letters(world)
    assert [(position, value) for position, value in dead.items() if position[0] == topic] == [
        ((topic, 0, first + 1), None),
        ((topic, 0, first + 3), b'{"ind":\n4}'),
    ]
    # and into the bucket, where each offset is found once
    assert set_aside(world, topic) == {
        (0, first + 1): {"reason": "null_value", "raw": None},
        (0, first + 3): {"reason": "line_break", "raw": base64.b64encode(b'{"ind":\n4}').decode()},
    }


def set_aside(world: World, topic: str) -> dict[tuple[int, int], Any]:
    """Return the envelopes of what could not be lines, by position."""
    return {position: json.loads(line) for position, line in world.landed(f"{topic}.dead-letters").items()}


def dead_letters(world: World) -> dict[tuple[str, int, int], bytes | None]:
    """Read the dead-letter topic: where each record comes from, and its value."""
    consumer = KafkaConsumer(**world.broker.client_settings(), auto_offset_reset="earliest")
    partition = TopicPartition(f"{world.prefix}.dead-letter", 0)
    consumer.assign([partition])
    end = consumer.end_offsets([partition])[partition]
    found: dict[tuple[str, int, int], bytes | None] = {}
    while consumer.position(partition) < end:
        for batch in consumer.poll(timeout_ms=1000).values():
            for record in batch:
                headers = {name: value.decode() for name, value in record.headers}
                source = (headers[f"__connect.errors.{name}"] for name in ("topic", "partition", "offset"))
                topic, number, offset = source
                found[topic, int(number), int(offset)] = record.value
    consumer.close()
    return found


def test_what_a_transaction_aborts_or_has_not_committed_does_not_land(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = "worldwide.user"
    world.await_landed()
    expected = world.acknowledged.setdefault(topic, {})
    producer = KafkaProducer(**world.broker.client_settings(), transactional_id="a-foreign-producer")
    producer.init_transactions()

    def send(*values: bytes) -> dict[tuple[int, int], bytes]:
        sent = [(value, producer.send(topic, value, partition=1)) for value in values]
        producer.flush()
        return {(1, future.get(10).offset): value for value, future in sent}

    for number in range(3):  # each end of a transaction takes an offset of its own
        producer.begin_transaction()
        send(b'{"ind": -1}', b'{"ind": -2}')
        producer.abort_transaction()
        producer.begin_transaction()
        expected |= send(b'{"ind": %d}' % number, b'{"ind": %d}' % -number)
        producer.commit_transaction()
    offsets = sorted(offset for partition, offset in expected if partition == 1)
    assert {b - a for a, b in pairwise(offsets[-6:])} == {1, 5}  # the marker, two aborted records and theirs
    world.await_landed()
    starts = {int(key[-15:-5]) for key in world.keys(topic) if "/partition=1/" in key}
    assert {offsets[-6], offsets[-4], offsets[-2]} <= starts

    # an open transaction holds back what follows it in its partition, and the wait for that says so
    producer.begin_transaction()
    opened = send(b'{"ind": 10}')
    (first,) = (offset for _, offset in opened)
    body = b'{"records":[{"partition":1,"value":{"ind":11}},{"partition":0,"value":{"ind":12}}]}'
    behind, beside = world.proxy.produce(topic, body).json()["offsets"]
    assert (behind["partition"], behind["offset"]) == (1, first + 1)
    expected[0, beside["offset"]] = b'{"ind":12}'
    world.await_landed()  # and nothing else has landed
    assert wait_for(world, topic, first + 1, monkeypatch, seconds=3) == {
        "status": "timeout",
        "message": f"not landed yet: {topic} partition 1: 1 of 1 record(s), offsets {first + 1}; {topic} partition 1 "
        "has an open transaction: until its producer or Kafka ends it, the sink gets nothing from offset "
        f"{first} on",
        "value": {topic: {"acknowledged": 1, "landed": 0}},
    }
    expected |= {**opened, (1, first + 1): b'{"ind":11}'}
    producer.commit_transaction()
    producer.close()
    world.await_landed()
    assert wait_for(world, topic, first + 1, monkeypatch, seconds=30)["status"] == "success"


def wait_for(
    world: World, topic: str, offset: int, monkeypatch: pytest.MonkeyPatch, *, seconds: float
) -> Any:
    """Wait as the task landed does; its event."""
    s3_url = world.s3.meta.endpoint_url
    for name, value in airflow_connections(world.broker, s3_url).items():
        monkeypatch.setenv(name, value)
    trigger = S3SinkLandedTrigger(
        positions={topic: {"1": [[offset, offset]]}},
        bucket=BUCKET,
        kafka_conn_id="pinterest_kafka",
        poll_interval=0.5,
        end_time=time.time() + seconds,
    )

    async def event() -> Any:
        return [each.payload async for each in trigger.run()]

    (payload,) = asyncio.run(event())
    return payload


def test_s3_away_for_a_while_loses_nothing_and_the_task_keeps_running(world: World) -> None:
    log = world.connect.log
    world.s3_server.kill()
    before = log.stat().st_size
    world.produce("user", numbered(1000, 2000))
    await_that(lambda: "; trying again in" in log.read_text()[before:], "the sink has met the outage")
    assert world.task_states() == ["RUNNING", "RUNNING"]
    world.produce("user", numbered(3000, 100))
    world.s3_server.start()
    world.await_landed()
    assert world.task_states() == ["RUNNING", "RUNNING"]


def test_kill_minus_9_of_connect_loses_and_doubles_nothing(world: World) -> None:
    for round_number in range(3):
        first = 10_000 + 1000 * round_number
        world.produce("pin", numbered(first, 500))
        # killed with records read and not stored, then with some stored and not committed
        if round_number:
            await_that(partial(an_object_holds, world, b'"ind": %d,' % first), "an object of this round")
        world.connect.kill()
        world.produce("pin", numbered(first + 500, 500))
        world.connect.start()
    world.await_landed()
    assert world.task_states() == ["RUNNING", "RUNNING"]


def an_object_holds(world: World, text: bytes) -> bool:
    return any(text in line for line in world.landed("worldwide.pin").values())


def test_a_partition_that_is_added_is_read_from_its_start(world: World) -> None:
    topic = "worldwide.user"
    world.await_landed()
    admin = KafkaAdminClient(**world.broker.client_settings())
    added = len(admin.describe_topics([topic])[0]["partitions"])
    admin.create_partitions({topic: added + 1})
    admin.close()
    producer = KafkaProducer(**world.broker.client_settings(), acks="all")
    sent = [producer.send(topic, value=b"%d" % number, partition=added) for number in range(20)]
    assert [each.get(timeout=120).offset for each in sent] == list(range(20))
    producer.close()
    world.acknowledged.setdefault(topic, {}).update({(added, number): b"%d" % number for number in range(20)})
    world.await_landed()


def test_an_object_with_other_records_stops_the_task_and_is_left_as_it_is(world: World) -> None:
    topic = "worldwide.geo"
    world.await_landed()
    consumer = KafkaConsumer(**world.broker.client_settings())
    partition = TopicPartition(topic, 0)
    first = consumer.end_offsets([partition])[partition]
    consumer.close()
    key = f"topics/{topic}/partition=0/{topic}+0+{first:010d}.json"
    world.s3.put_object(Bucket=BUCKET, Key=key, Body=b'{"ind": -1}\n')
    (sent,) = world.proxy.produce(topic, '{"records":[{"partition":0,"value":1}]}').json()["offsets"]
    assert sent["offset"] == first
    await_that(lambda: world.task_states() == ["RUNNING", "FAILED"], "the task has stopped")
    (task,) = world.connect.call("GET", f"/connectors/{world.connector}/status")["tasks"]
    assert f"s3://{BUCKET}/{key} holds other records than those read for it" in task["trace"]
    assert world.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b'{"ind": -1}\n'

    world.s3.delete_object(Bucket=BUCKET, Key=key)
    world.connect.call("POST", f"/connectors/{world.connector}/tasks/0/restart")
    world.acknowledged[topic][0, first] = b"1"
    await_that(lambda: world.task_states() == ["RUNNING", "RUNNING"], "the task runs again")
    world.await_landed()


def test_what_is_stored_is_committed(world: World) -> None:
    world.await_landed()
    admin = KafkaAdminClient(**world.broker.client_settings())

    def committed() -> dict[tuple[str, int], int]:
        offsets = admin.list_group_offsets([f"connect-{world.connector}"])[f"connect-{world.connector}"]
        return {(tp.topic, tp.partition): each.offset for tp, each in offsets.items()}

    expected: dict[tuple[str, int], int] = {}
    for topic, lines in world.acknowledged.items():
        for partition, offset in lines:
            expected[topic, partition] = max(expected.get((topic, partition), 0), offset + 1)
    await_that(lambda: committed() == expected, "the committed offsets are the ends of the topics")
    admin.close()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("flush.size", "0", "Value must be at least 1"),
        ("store.url", "somewhere", "must look like http://host:port"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter", "would change the bytes"),
    ],
)
def test_a_bad_property_is_refused_by_connect_with_its_name(
    world: World, name: str, value: str, message: str
) -> None:
    config = world.connect.call("GET", f"/connectors/{world.connector}/config")
    with pytest.raises(urllib.error.HTTPError) as refused:
        world.connect.call("PUT", "/connectors/other/config", config | {"name": "other", name: value})
    text = refused.value.read().decode()
    assert refused.value.code == 400
    assert name in text
    assert message in text


def test_the_proxy_as_its_own_user_sees_and_writes_the_three_topics_and_no_other(world: World) -> None:
    tables = [f"worldwide.{table}" for table in ("geo", "pin", "user")]
    assert world.proxy.http.get("/topics").json() == tables
    for topic in tables:
        assert world.proxy.http.get(f"/topics/{topic}").json()["configs"]["cleanup.policy"] == "delete"
    for topic in ("worldwide.dead-letter", "_pinterest-connect-config", "__consumer_offsets"):
        answer = world.proxy.produce(topic, '{"records":[{"key":1,"value":1}]}')
        assert (answer.status_code, answer.json()["error_code"]) == (404, 40401)


def test_doors_are_locked_and_logs_hold_no_secret(world: World) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{world.connect.port}/connectors")
    assert refused.value.code == 401
    logs = world.broker.log.read_text() + world.connect.log.read_text() + world.proxy.part.log.read_text()
    users = (world.broker.client, *world.broker.parts.values(), world.connect.login)
    for secret in (*(user.password for user in users), SECRET_KEY):
        assert secret not in logs
