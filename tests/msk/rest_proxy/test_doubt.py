"""Records whose fate is unknown: nothing of them is written after their caller was told so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError, OutOfOrderSequenceNumber, RecordListTooLargeError

from msk.rest_proxy import topics
from msk.rest_proxy.records import Record
from msk.rest_proxy.topics import Ack, KafkaAwayError, KafkaTopics, Outcome, Refusal

Log = list[bytes]


class Connection:
    """A connection that is closed when a test says so."""

    _writer = None

    def __init__(self) -> None:
        self.closing = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def close(self) -> asyncio.Future[None]:
        self.closing = True
        return self.closed


class Producer:
    """An aiokafka producer whose sender writes to a log once it has found the leader."""

    made: list[Producer]
    log: Log
    answers: dict[bytes, Exception]
    without_leader: set[int]

    def __init__(self, **_: object) -> None:
        self.number = len(self.made)
        self.made.append(self)
        self.client = self.cluster = self._sender = self._message_accumulator = self
        self.leader = asyncio.Event()
        self.queue: asyncio.Queue[tuple[bytes, asyncio.Future[object]]] = asyncio.Queue()
        self.waiting: list[asyncio.Future[object]] = []
        self._conns: dict[object, Connection] = {}
        self.stopped = False

    async def start(self) -> None:
        if self.number not in self.without_leader:
            self.leader.set()
        self.sender_task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while True:
            value, future = await self.queue.get()
            await self.leader.wait()
            if error := self.answers.get(value):
                future.set_exception(error)
                continue
            self.log.append(value)
            future.set_result(type("Position", (), {"partition": 0, "offset": len(self.log) - 1}))

    async def stop(self) -> None:
        """Flush politely, unless the sender has ended."""
        self.stopped = True
        if self.sender_task.done():
            return
        if self.waiting:
            await asyncio.wait(self.waiting)
        self.sender_task.cancel()
        await asyncio.wait([self.sender_task])

    async def close(self) -> None:
        pass

    def fail_all(self, error: Exception) -> None:
        for future in self.waiting:
            if not future.done():
                future.set_exception(error)

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    async def send(self, topic: str, *, value: bytes, **_: object) -> asyncio.Future[object]:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        self.queue.put_nowait((value, future))
        return future


@pytest.fixture
def producers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Producer]]:
    monkeypatch.setattr(topics, "AIOKafkaProducer", Producer)
    for name, value in {"made": [], "log": [], "answers": {}, "without_leader": set()}.items():
        monkeypatch.setattr(Producer, name, value, raising=False)
    yield Producer.made
    assert all(each.sender_task.done() for each in Producer.made)


def proxy(timeout_seconds: float = 30) -> KafkaTopics:
    return KafkaTopics({}, timeout_seconds=timeout_seconds, max_record_bytes=1000)


async def produce(kafka: KafkaTopics, *values: bytes) -> Sequence[Outcome]:
    return await kafka.produce("topic", [Record(key=b"7", value=value, partition=None) for value in values])


async def test_an_old_version_is_not_written_behind_a_newer_one(producers: list[Producer]) -> None:
    Producer.without_leader = {0}
    kafka = proxy(timeout_seconds=0.1)
    with pytest.raises(KafkaAwayError):
        await produce(kafka, b"v1")
    assert await produce(kafka, b"v1") == [Ack(0, 0)]
    assert await produce(kafka, b"v2") == [Ack(0, 1)]
    producers[0].leader.set()  # which it finds while it is being closed
    await kafka.stop()
    assert Producer.log == [b"v1", b"v2"]


async def test_the_doubt_is_told_once_the_connections_are_closed(producers: list[Producer]) -> None:
    Producer.without_leader = {0}
    kafka = proxy(timeout_seconds=0.1)
    await kafka._connected()
    producers[0]._conns["node"] = connection = Connection()
    answer = asyncio.create_task(produce(kafka, b"v1"))
    async with asyncio.timeout(30):
        while not connection.closing:  # noqa: ASYNC110 - each turn lets the others run
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not answer.done()
    assert producers[0].sender_task.done()
    connection.closed.set_result(None)
    with pytest.raises(KafkaAwayError):
        await answer
    await kafka.stop()


async def test_a_connection_that_is_made_after_the_doubt_is_reset(producers: list[Producer]) -> None:
    Producer.without_leader = {0}
    kafka = proxy(timeout_seconds=0.1)
    with pytest.raises(KafkaAwayError):
        await produce(kafka, b"v1")
    producers[0]._conns["node"] = late = Connection()
    assert late.closing
    assert producers[0]._conns["node"] is None
    await kafka.stop()


async def test_a_request_that_is_cut_short_leaves_nothing_behind(producers: list[Producer]) -> None:
    """As uvicorn does with those that are under way when it has waited long enough to stop."""
    Producer.without_leader = {0}
    kafka = proxy()
    answer = asyncio.create_task(produce(kafka, b"v1"))
    async with asyncio.timeout(30):
        while not producers or not producers[0].waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
    answer.cancel()
    await asyncio.wait([answer])
    producers[0].leader.set()
    await kafka.stop()
    assert Producer.log == []


@pytest.mark.parametrize("error", [MessageSizeTooLargeError, OutOfOrderSequenceNumber])
async def test_a_refused_record_is_no_doubt_and_its_neighbours_are_written(
    producers: list[Producer], error: type[Exception]
) -> None:
    Producer.without_leader = {0}
    Producer.answers = {b"bad": error()}
    kafka = proxy()
    bad, good = (asyncio.create_task(produce(kafka, value)) for value in (b"bad", b"good"))
    async with asyncio.timeout(30):
        while not producers or producers[0].queue.qsize() < 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
    producers[0].leader.set()
    (refusal,) = await bad
    assert isinstance(refusal, Refusal)
    assert refusal.retriable is (error is OutOfOrderSequenceNumber)
    assert await good == [Ack(0, 0)]
    assert await produce(kafka, b"next") == [Ack(0, 1)]
    await kafka.stop()
    assert len(producers) == 2  # the numbering of the first has a hole
    assert producers[0].stopped


@pytest.mark.parametrize("error", [MessageSizeTooLargeError, RecordListTooLargeError])
async def test_a_batch_that_is_refused_for_its_size_is_written_record_by_record_the_newest_last(
    producers: list[Producer], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    refused: set[bytes] = set()

    class Answers(dict[bytes, Exception]):
        """Refuses the large record always, and the one in its batch once."""

        def get(self, value: bytes, default: Any = None) -> Any:
            if value == b"large" or (value == b"v1" and value not in refused):
                refused.add(value)
                return error()
            return default

    monkeypatch.setattr(Producer, "answers", Answers())
    kafka = proxy()
    records = [
        Record(key=key, value=value, partition=None)
        for key, value in [
            (b"7", b"v1"),
            (b"8", b"large"),
            (b"8", b"small"),
            (b"7", b"v2"),
            (None, b"keyless"),
        ]
    ]
    first, large, *others = await kafka.produce("topic", records)
    assert Producer.log == [b"small", b"v2", b"keyless", b"v1", b"v2"]
    assert [first, *others] == [Ack(0, 3), Ack(0, 0), Ack(0, 4), Ack(0, 2)]
    assert isinstance(large, Refusal)
    assert (large.reason, large.retriable) == ("the record is larger than the topic allows", False)
    await kafka.stop()


async def test_what_is_known_is_answered_when_a_second_write_does_not_get_through(
    producers: list[Producer],
) -> None:
    Producer.without_leader = {1}
    Producer.answers = {b"large": MessageSizeTooLargeError()}
    kafka = proxy(timeout_seconds=0.5)
    records = [Record(key=value, value=value, partition=None) for value in (b"a", b"large", b"b")]
    assert await kafka.produce("topic", records) == [
        Ack(0, 0),
        Refusal("Kafka did not acknowledge within 0.5 s", retriable=True),
        Ack(0, 1),
    ]
    await kafka.stop()


async def test_nor_is_it_lost_when_the_topic_is_gone_by_then(
    producers: list[Producer], monkeypatch: pytest.MonkeyPatch
) -> None:
    Producer.answers = {b"large": MessageSizeTooLargeError()}
    kafka = proxy()

    async def fetch_all_metadata(self: Producer) -> Producer:
        return self

    monkeypatch.setattr(Producer, "fetch_all_metadata", fetch_all_metadata, raising=False)
    monkeypatch.setattr(Producer, "partitions_for_topic", lambda self, _: {0} if self.number == 0 else None)
    assert await produce(kafka, b"a", b"large") == [
        Ack(0, 0),
        Refusal("topic topic is gone", retriable=False),
    ]
    await kafka.stop()
