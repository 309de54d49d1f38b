"""The Kafka side of the proxy: acknowledged by all replicas, written once, answered in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import struct
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    BrokerResponseError,
    InvalidProducerEpoch,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    UnknownProducerId,
)

from msk.rest_proxy.records import Record

log = logging.getLogger(__name__)

_BATCH_BYTES = 256 * 1024
_METADATA_MAX_AGE_MS = 30_000
_PING_SECONDS = 5
_CLOSE_SECONDS = 2
# MSK ends a connection 15 minutes after its login, and aiokafka does not log in again on one that exists.
_RENEW_SECONDS = 600
_RENEW_AGAIN_SECONDS = 60
# The broker refused these because of the batch before: the record itself is fine.
_SEQUENCE_ERRORS = (OutOfOrderSequenceNumber, InvalidProducerEpoch, UnknownProducerId)
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Ack:
    """Where Kafka put a record."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a record has no offset, and whether sending it again can help."""

    reason: str
    retriable: bool


Outcome = Ack | Refusal


class UnknownTopicError(Exception):
    """Kafka has no such topic."""


class KafkaAwayError(Exception):
    """Kafka did not answer in time; the message says what was tried."""


class Topics(Protocol):
    """What the HTTP side needs of Kafka."""

    async def produce(self, topic: str, records: Sequence[Record]) -> list[Outcome]:
        """Write the records in order and return one outcome each; raise UnknownTopicError, KafkaAwayError."""

    async def names(self) -> list[str]:
        """Return the topics' names, sorted; raise KafkaAwayError."""

    async def describe(self, topic: str) -> dict[str, Any]:
        """Return name, configs and partitions of a topic; raise UnknownTopicError, KafkaAwayError."""

    async def start(self) -> None:
        """Begin to connect; return at once."""

    async def stop(self) -> None:
        """Write what is pending, if Kafka answers, and disconnect."""


class KafkaTopics:
    """Topics of a Kafka cluster, behind one idempotent producer that is replaced whenever it is in doubt.

    An idempotent producer numbers its batches. A batch that the broker refuses, or that is given up, leaves a
    hole in that numbering and every later batch of its partition would be refused: such a producer is retired. One
    that has been connected for ten minutes is replaced too, before its broker ends the connection under a request.

    A record whose fate is unknown may be sent again by its caller, and a newer version after it. So before anybody
    is told of the doubt, the producer is cut off: nothing that it still holds is written behind the newer version.
    """

    def __init__(
        self, client_settings: dict[str, Any], *, timeout_seconds: float, max_record_bytes: int
    ) -> None:
        self._client_settings = client_settings
        self._timeout = timeout_seconds
        self._max_record_bytes = max_record_bytes
        self._producer: AIOKafkaProducer | None = None
        self._renew_at = 0.0
        self._leases: dict[AIOKafkaProducer, set[asyncio.Future[None]]] = {}
        self._connecting: asyncio.Task[AIOKafkaProducer] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to connect; return at once, whether Kafka is there or not."""
        self._connect_soon()

    async def stop(self) -> None:
        """Write what is pending, if Kafka answers, and disconnect."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._producer is not None:
            self._retire(self._producer)
        if self._retiring:
            await asyncio.wait(self._retiring)

    async def produce(self, topic: str, records: Sequence[Record]) -> list[Outcome]:
        """Write the records in order and return one outcome each."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        outcomes = await self._write(topic, records, deadline)
        if len(records) > 1 and any(isinstance(outcome, _BatchTooLarge) for outcome in outcomes):
            await self._write_singly(topic, records, outcomes, deadline)
        return outcomes

    async def names(self) -> list[str]:
        """Return the topics' names, sorted, without Kafka's internal ones."""
        async with self._bounded("list the topics"), self._leased() as producer:
            metadata = await producer.client.fetch_all_metadata()
        return sorted(metadata.topics())

    async def describe(self, topic: str) -> dict[str, Any]:
        """Return name, configs and partitions of a topic as Confluent REST v2 shows them."""
        async with self._bounded("describe the topic"):
            async with self._leased() as producer:
                await self._check_known(producer, topic)
            admin = AIOKafkaAdminClient(**self._client_settings)
            try:
                await admin.start()
                (description,) = await admin.describe_topics([topic])
                (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            finally:
                await admin.close()
        _error_code, _error, _kind, _name, entries, *_ = answer.resources[0]
        return {
            "name": topic,
            "configs": {name: value for name, value, *_ in entries},
            "partitions": [
                _partition(each) for each in sorted(description["partitions"], key=lambda p: p["partition"])
            ],
        }

    async def _write_singly(
        self, topic: str, records: Sequence[Record], outcomes: list[Outcome], deadline: float
    ) -> None:
        """Find out which record of a batch was too large: write each alone, and replace its outcome.

        A later record of the same key that another batch has brought through is written again: it must stay the last.
        """
        written: set[bytes] = set()
        for i, record in enumerate(records):
            if not isinstance(outcomes[i], _BatchTooLarge) and record.key not in written:
                continue
            outcome = outcomes[i] = await self._write_alone(topic, record, deadline)
            if record.key is not None and (isinstance(outcome, Ack) or outcome.retriable):
                written.add(record.key)

    async def _write_alone(self, topic: str, record: Record, deadline: float) -> Outcome:
        """Write one record of several; what cannot be written is this record's own outcome."""
        try:
            return (await self._write(topic, [record], deadline))[0]
        except KafkaAwayError as error:
            return Refusal(str(error), retriable=True)
        except UnknownTopicError:
            return Refusal(f"topic {topic} is gone", retriable=False)

    async def _write(self, topic: str, records: Sequence[Record], deadline: float) -> list[Outcome]:
        async with contextlib.AsyncExitStack() as stack:
            async with self._bounded("write", deadline):
                producer = await stack.enter_async_context(self._leased())
                await self._check_known(producer, topic)
                partitions = await producer.partitions_for(topic)
            try:
                return await self._write_to(producer, topic, records, partitions, deadline)
            except KafkaAwayError:
                raise
            except BaseException:  # the caller hears of an error, or of nothing: that is doubt as well
                await self._give_up(producer)
                raise

    async def _write_to(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        records: Sequence[Record],
        partitions: set[int],
        deadline: float,
    ) -> list[Outcome]:
        queued: list[Outcome | asyncio.Future[Any]] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                for record in records:
                    queued.append(await self._queue(producer, topic, record, partitions))
        futures = [each for each in queued if isinstance(each, asyncio.Future)]
        if futures:
            await asyncio.wait(futures, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
        late = Refusal(f"Kafka did not acknowledge within {self._timeout:g} s", retriable=True)
        outcomes = [_outcome(each, late) for each in queued] + [late] * (len(records) - len(queued))
        if any(map(_is_in_doubt, futures)) or len(queued) < len(records):
            await self._give_up(producer)
        elif not all(map(_is_acknowledged, futures)):
            self._retire(producer)
        if all(each is late for each in outcomes):
            raise KafkaAwayError(late.reason)
        return outcomes

    async def _queue(
        self, producer: AIOKafkaProducer, topic: str, record: Record, partitions: set[int]
    ) -> Outcome | asyncio.Future[Any]:
        if record.partition is not None and record.partition not in partitions:
            return Refusal(f"topic {topic} has no partition {record.partition}", retriable=False)
        if record.key is None and record.value is None:
            return Refusal("a record needs a key or a value", retriable=False)
        try:
            queued: asyncio.Future[Any] = await producer.send(
                topic, value=record.value, key=record.key, partition=record.partition
            )
        except MessageSizeTooLargeError:
            size = len(record.key or b"") + len(record.value or b"")
            return Refusal(
                f"the record has {size} bytes, more than fit in {self._max_record_bytes}", retriable=False
            )
        except KafkaError as error:
            self._retire(producer)
            return Refusal(str(error), retriable=True)
        return queued

    async def _check_known(self, producer: AIOKafkaProducer, topic: str) -> None:
        if producer.client.cluster.partitions_for_topic(topic) is None:
            metadata = await producer.client.fetch_all_metadata()
            if metadata.partitions_for_topic(topic) is None:
                raise UnknownTopicError(topic)

    @contextlib.asynccontextmanager
    async def _bounded(self, action: str, deadline: float | None = None) -> Any:
        """Turn a Kafka that is silent or says no into KafkaAwayError."""
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + min(self._timeout, _PING_SECONDS)
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as error:
            raise KafkaAwayError(f"Kafka did not answer in time: cannot {action}") from error
        except (KafkaError, OSError) as error:
            raise KafkaAwayError(f"cannot {action}: {error}") from error

    @contextlib.asynccontextmanager
    async def _leased(self) -> AsyncIterator[AIOKafkaProducer]:
        """Hold the producer: one that is replaced meanwhile is not closed before this ends."""
        producer = await self._connected()
        lease = asyncio.get_running_loop().create_future()
        self._leases.setdefault(producer, set()).add(lease)
        try:
            yield producer
        finally:
            lease.set_result(None)
            self._leases.get(producer, set()).discard(lease)

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is not None:
            now = asyncio.get_running_loop().time()
            if now >= self._renew_at:
                self._renew_at = now + _RENEW_AGAIN_SECONDS
                self._connect_soon()
            return self._producer
        # All requests wait for the same attempt; one that runs out of time does not end it for the others.
        return await asyncio.shield(self._connect_soon())

    def _connect_soon(self) -> asyncio.Task[AIOKafkaProducer]:
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(_consume_error)
        return self._connecting

    async def _connect(self) -> AIOKafkaProducer:
        try:
            producer = AIOKafkaProducer(
                **self._client_settings,
                acks="all",
                enable_idempotence=True,
                linger_ms=1,
                max_batch_size=_BATCH_BYTES,
                max_request_size=self._max_record_bytes,
                metadata_max_age_ms=_METADATA_MAX_AGE_MS,
                request_timeout_ms=int(self._timeout * 1000),
            )
            try:
                async with asyncio.timeout(self._timeout):
                    await producer.start()
            except BaseException:
                await producer.stop()
                raise
            before, self._producer = self._producer, producer
            # Not all machines of a group at once, each of which takes connections from the same brokers.
            self._renew_at = asyncio.get_running_loop().time() + _RENEW_SECONDS * random.uniform(0.8, 1)
            if before is not None:
                self._close_soon(self._close_unused(before))
            return producer
        finally:
            self._connecting = None

    def _retire(self, producer: AIOKafkaProducer) -> None:
        """Let no new record use the producer, and close it in the background."""
        if self._producer is producer:
            self._producer = None
            self._leases.pop(producer, None)
            self._close_soon(_close(producer))

    async def _give_up(self, producer: AIOKafkaProducer) -> None:
        """Let nothing more of the producer reach Kafka; return once that is so, and tidy up in the background."""
        if self._producer is producer:
            self._producer = None
            self._leases.pop(producer, None)
        await _cut_off(producer)
        self._close_soon(_end(producer))

    def _close_soon(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(closing)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _close_unused(self, producer: AIOKafkaProducer) -> None:
        if leases := self._leases.pop(producer, None):
            await asyncio.wait(leases)
        await _close(producer)


class _BatchTooLarge(Refusal):
    """The batch a record travelled in was too large for the broker."""


def _outcome(queued: Outcome | asyncio.Future[Any], late: Refusal) -> Outcome:
    if not isinstance(queued, asyncio.Future):
        return queued
    if not queued.done():
        return late
    error = queued.exception()
    if error is None:
        position = queued.result()
        if position.offset < 0:
            return Refusal("Kafka has the record, but no longer knows where", retriable=True)
        return Ack(position.partition, position.offset)
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        return _BatchTooLarge("the record is larger than the topic allows", retriable=False)
    return Refusal(str(error), retriable=isinstance(error, _SEQUENCE_ERRORS) or not _is_refused(error))


def _is_acknowledged(queued: asyncio.Future[Any]) -> bool:
    return queued.done() and queued.exception() is None


def _is_in_doubt(queued: asyncio.Future[Any]) -> bool:
    """Return whether the record may be in Kafka, or get there yet, although nobody has said so."""
    if not queued.done():
        return True
    error = queued.exception()
    return error is not None and not _is_refused(error)


def _is_refused(error: BaseException) -> bool:
    """Return whether the broker has answered that it does not have the record."""
    return isinstance(error, _SEQUENCE_ERRORS) or (
        isinstance(error, BrokerResponseError) and not error.retriable
    )


async def _close(producer: AIOKafkaProducer) -> None:
    """Close a producer: politely for a moment, then with whatever it still holds.

    aiokafka's own stop() waits for every record, which is for ever when Kafka is away.
    """
    with contextlib.suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await producer.stop()
            return
    await _cut_off(producer)
    await _end(producer)


class _NoConnections(dict[Any, Any]):
    """Stands in for an aiokafka client's connections: one that was being made is reset, as if it had failed."""

    def __setitem__(self, key: Any, connection: Any) -> None:
        _reset(connection)

    def __getitem__(self, key: Any) -> None:
        return None


async def _cut_off(producer: AIOKafkaProducer) -> None:
    """Cut a producer off from Kafka: what has not left this machine never will.

    aiokafka has no such call; what must be ended it only keeps in private attributes.
    """
    connections, producer.client._conns = producer.client._conns, _NoConnections()
    producer._sender.sender_task.cancel()
    if closed := [_reset(each) for each in list(connections.values())]:
        await asyncio.wait(closed, timeout=_CLOSE_SECONDS)


def _reset(connection: Any) -> asyncio.Future[Any]:
    """Close a connection without sending what is buffered, by this process or by the kernel."""
    if (writer := connection._writer) is not None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        writer.transport.abort()
    closed: asyncio.Future[Any] = connection.close()
    return closed


async def _end(producer: AIOKafkaProducer) -> None:
    """End the tasks of a producer that is cut off, and tell whoever still waits for a record."""
    sender = producer._sender.sender_task
    await producer.client.close()
    await asyncio.wait([sender], timeout=_CLOSE_SECONDS)
    producer._message_accumulator.fail_all(KafkaError("the connection to Kafka was given up"))
    sender.cancel()
    await asyncio.wait([sender], timeout=_CLOSE_SECONDS)
    await producer.stop()


def _consume_error(task: asyncio.Task[Any]) -> None:
    """Log why a connection failed; whoever waits for it gets the error too."""
    if not task.cancelled() and (error := task.exception()):
        log.warning("Kafka cannot be reached: %s", error)


def _partition(described: dict[str, Any]) -> dict[str, Any]:
    leader, in_sync = described["leader"], set(described["isr"])
    return {
        "partition": described["partition"],
        "leader": leader,
        "replicas": [
            {"broker": broker, "leader": broker == leader, "in_sync": broker in in_sync}
            for broker in described["replicas"]
        ],
    }
