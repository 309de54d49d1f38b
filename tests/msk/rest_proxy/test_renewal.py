"""A producer that is replaced by plan: what MSK would end, and aiokafka would not log in again on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from msk.rest_proxy import __main__ as command
from msk.rest_proxy import config, topics
from msk.rest_proxy.records import Record
from msk.rest_proxy.topics import Ack, KafkaTopics

RECORD = Record(key=b"1", value=b"{}", partition=None)


class Producer:
    """An aiokafka producer whose records are acknowledged when a test says so."""

    made: list[Producer]
    refused = False

    def __init__(self, **_: object) -> None:
        self.made.append(self)
        self.client = self.cluster = self
        self.started = self.stopped = False
        self.sent: list[asyncio.Future[object]] = []

    async def start(self) -> None:
        await asyncio.sleep(0)
        if self.refused:
            raise topics.KafkaError("no")
        self.started = True

    async def stop(self) -> None:
        self.stopped = True

    async def fetch_all_metadata(self) -> Producer:
        return self

    def topics(self) -> set[str]:
        return {f"topic-{self.made.index(self)}"}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    async def send(self, topic: str, **_: object) -> asyncio.Future[object]:
        assert not self.stopped
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[-1]

    def acknowledge(self) -> None:
        for future in self.sent:
            future.set_result(type("Position", (), {"partition": 0, "offset": self.made.index(self)}))


@pytest.fixture
def producers(monkeypatch: pytest.MonkeyPatch) -> list[Producer]:
    monkeypatch.setattr(topics, "AIOKafkaProducer", Producer)
    monkeypatch.setattr(Producer, "made", [], raising=False)
    monkeypatch.setattr(Producer, "refused", False)
    return Producer.made


async def until(condition: Callable[[], object]) -> None:
    """Let everything else run until something is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - each turn lets the others run
            await asyncio.sleep(0)


def old(kafka: KafkaTopics) -> None:
    """Make the producer as old as one that is to be replaced."""
    kafka._renew_at = 0.0


async def test_an_old_producer_is_replaced_and_finishes_what_it_has_begun(producers: list[Producer]) -> None:
    kafka = KafkaTopics({}, timeout_seconds=20, max_record_bytes=1000)
    assert await kafka.names() == ["topic-0"]
    writing = asyncio.create_task(kafka.produce("topic", [RECORD]))
    await until(lambda: producers[0].sent)
    old(kafka)
    assert await kafka.names() == ["topic-0"]  # which nobody has to wait for the new one for
    await until(lambda: len(producers) == 2 and producers[1].started)
    assert await kafka.names() == ["topic-1"]
    assert not producers[0].stopped
    producers[0].acknowledge()
    assert await writing == [Ack(0, 0)]
    await until(lambda: producers[0].stopped)
    assert len(producers) == 2
    await kafka.stop()
    assert producers[1].stopped
    assert not kafka._leases


async def test_a_young_producer_stays(producers: list[Producer]) -> None:
    kafka = KafkaTopics({}, timeout_seconds=20, max_record_bytes=1000)
    now = asyncio.get_running_loop().time
    for _ in range(3):
        await kafka.names()
    assert len(producers) == 1
    # MSK ends a connection after 15 minutes.
    assert now() + 450 < kafka._renew_at < now() + 610
    await kafka.stop()


async def test_an_old_producer_stays_while_there_is_no_new_one(producers: list[Producer]) -> None:
    kafka = KafkaTopics({}, timeout_seconds=20, max_record_bytes=1000)
    await kafka.names()
    old(kafka)
    Producer.refused = True
    assert await kafka.names() == ["topic-0"]
    await until(lambda: len(producers) == 2 and producers[1].stopped)
    assert [await kafka.names() for _ in range(3)] == [["topic-0"]] * 3
    assert len(producers) == 2  # it is tried again after a minute, not by each request
    assert not producers[0].stopped
    await kafka.stop()


async def test_idle_connections_are_left_to_the_client_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """API Gateway sends its next request on a connection that it believes open; uvicorn's 5 s would often be over."""
    made = {}

    class Server:
        def __init__(self, settings: object) -> None:
            made["settings"] = settings

        async def serve(self, sockets: object) -> None:
            pass

    monkeypatch.setattr(command.uvicorn, "Server", Server)
    settings = config.Config(host="127.0.0.1", port=0, bootstrap_servers="127.0.0.1:9", topics=["pinterest."])
    with command.listen("127.0.0.1", 0) as listener:
        await command._serve(settings, listener)
    assert made["settings"].timeout_keep_alive == 75
    assert made["settings"].limit_concurrency is None, "it would count idle connections as requests"
