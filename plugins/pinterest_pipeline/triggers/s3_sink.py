"""Waiting until the S3 sink has written given offsets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook

from pinterest_pipeline import offsets
from pinterest_pipeline.hooks.kafka import KafkaHook
from pinterest_pipeline.offsets import Range
from pinterest_pipeline.triggers.aws import AwsPollingTrigger
from pinterest_pipeline.triggers.base import Look

# How many offsets before the wanted one the listing starts at first: what an object holds at most (flush.size
# of msk/connector.json). Where a sink is set up to write more, the listing starts further back.
LOOK_BACK = 10_000
CHUNK_BYTES = 1 << 20
READS_AT_ONCE = 8
RECORDS = "records"
"""The object's metadata in which the sink notes how many lines it holds."""


class S3SinkLandedTrigger(AwsPollingTrigger):
    """
    Fires when every given offset lies in the bucket.

    Landed means: an object that starts at or before the offset has enough lines to hold it. Only objects
    that may overlap the given ranges are listed, and only those are looked at, each version once. The sink notes how
    many lines an object has; one without that note is read.

    :param positions: topic → partition → list of inclusive offset ranges ``[first, last]``.
    :param bucket: bucket the sink writes to.
    :param topics_dir: the sink's ``topics.dir``.
    :param kafka_conn_id: the Kafka connection, which is asked why nothing lands; None: nobody is asked.
    :param kwargs: arguments of :class:`~pinterest_pipeline.triggers.aws.AwsPollingTrigger`.
    """

    def __init__(
        self,
        *,
        positions: dict[str, dict[str, list[list[int]]]],
        bucket: str,
        topics_dir: str = "topics",
        kafka_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.positions = positions
        self.bucket = bucket
        self.topics_dir = topics_dir
        self.kafka_conn_id = kafka_conn_id

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of this class alone."""
        arguments = {"positions": self.positions, "bucket": self.bucket, "topics_dir": self.topics_dir}
        return arguments if self.kafka_conn_id is None else {**arguments, "kafka_conn_id": self.kafka_conn_id}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Callable[[], Awaitable[Look]]]:
        """Open the client."""
        waits = [
            _Partition(self.topics_dir, topic, partition, offsets.merge(ranges))
            for topic, partitions in self.positions.items()
            for partition, ranges in partitions.items()
        ]
        async with await self.open_client(S3Hook) as client:
            objects = _Objects(client, self.bucket)

            before: list[str] = []

            async def look() -> Look:
                nonlocal before
                for wait in waits:
                    await wait.look(objects)
                landed = _landed(waits)
                missing = [str(wait) for wait in waits if wait.missing]
                if not missing:
                    total = sum(counts["landed"] for counts in landed.values())
                    return Look(f"all {total} record(s) have landed", done=True, value=landed)
                reasons = await self._reasons(waits) if missing == before else []
                before = missing
                return Look(f"not landed yet: {'; '.join([*missing, *reasons])}", value=landed)

            yield look

    async def _reasons(self, waits: list[_Partition]) -> list[str]:
        """Ask Kafka whether open transactions hold back what is missing; the sink reads committed records only."""
        if self.kafka_conn_id is None:
            return []
        missing = {(wait.topic, int(wait.partition)): wait.missing[-1][1] for wait in waits if wait.missing}
        hook = KafkaHook(self.kafka_conn_id)
        try:
            held = await asyncio.to_thread(hook.open_transactions, list(missing))
        except Exception as error:
            self.log.info("Kafka does not say why: %s", error)
            return []
        return [
            f"{topic} partition {partition} has an open transaction: until its producer or Kafka ends it, the sink "
            f"gets nothing from offset {offset} on"
            for (topic, partition), offset in held.items()
            if offset <= missing[topic, partition]
        ]


@dataclass
class _Partition:
    """What is waited for in one partition."""

    topics_dir: str
    topic: str
    partition: str
    wanted: list[Range]
    missing: list[Range] = field(init=False)
    fruitless: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.missing = list(self.wanted)

    def __str__(self) -> str:
        return (
            f"{self.topic} partition {self.partition}: {offsets.count(self.missing)} of "
            f"{offsets.count(self.wanted)} record(s), offsets {offsets.describe(self.missing)}"
        )

    async def look(self, objects: _Objects) -> None:
        """Take off `missing` what has landed by now."""
        before = self.missing
        # An object that is longer than the look-back may hold it, and lie before shorter ones. Listing all of a large
        # partition takes many calls, so the second look does it, and ever fewer of the later ones.
        await self._look(objects, everywhere=self.fruitless.bit_count() == 1)
        self.fruitless = self.fruitless + 1 if self.missing == before else 0

    async def _look(self, objects: _Objects, *, everywhere: bool) -> None:
        back = LOOK_BACK
        while self.missing:
            first, last = self.missing[0][0], self.missing[-1][1]
            start = max(0, first - back)
            keys = await objects.list_from(self.topics_dir, self.topic, self.partition, start, last)
            before = [key for offset, key in keys if offset <= first]
            # Usually the last object that starts at or before the first missing offset holds it. But after
            # a crash the sink may cut its objects elsewhere: an older one grows, and a younger, shorter one
            # stays. So if need be those before it are read as well.
            await self._take(objects, before[-1:] + [key for offset, key in keys if first < offset <= last])
            if self.missing:
                await self._take(objects, before[:-1])
            if start == 0 or not self.missing:
                return
            passed = any(offset > self.missing[0][0] for offset, _ in keys)
            if before and not passed and not everywhere:
                return  # the sink has not come that far
            back *= 10

    async def _take(self, objects: _Objects, keys: list[str]) -> None:
        covered = offsets.merge(await objects.cover(keys)) if keys else []
        self.missing = offsets.subtract(self.missing, covered)


class _Objects:
    """The sink's objects, the lines of each version counted once."""

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket
        self._tags: dict[str, str] = {}
        self._lines: dict[tuple[str, str], int] = {}
        self._reading = asyncio.Semaphore(READS_AT_ONCE)

    async def list_from(
        self, topics_dir: str, topic: str, partition: str, start: int, last: int
    ) -> list[tuple[int, str]]:
        """
        Return first offset and key of the objects that start at `start` … `last`, ascending.

        The one after them, if any, is the last item: it shows that the sink is past them.
        """
        paginator = self.client.get_paginator("list_objects_v2")
        pages = paginator.paginate(
            Bucket=self.bucket,
            Prefix=offsets.partition_prefix(topics_dir, topic, partition),
            StartAfter=offsets.key_before(topics_dir, topic, partition, start),
        )
        found: list[tuple[int, str]] = []
        async for page in pages:
            for item in page.get("Contents", ()):
                offset = offsets.first_offset(item["Key"])
                if offset is None:
                    continue
                self._tags[item["Key"]] = item["ETag"]
                found.append((offset, item["Key"]))
                if offset > last:
                    return found
        return found

    async def cover(self, keys: list[str]) -> list[Range]:
        """Return the offsets that the objects hold."""
        lines = await asyncio.gather(*(self._count(key) for key in keys))
        return [
            (first, first + count - 1)
            for key, count in zip(keys, lines, strict=True)
            if count and (first := offsets.first_offset(key)) is not None
        ]

    async def _count(self, key: str) -> int:
        version = (key, self._tags[key])
        if version not in self._lines:
            async with self._reading:
                noted = await self._noted(key)
                self._lines[version] = await self._read(key) if noted is None else noted
        return self._lines[version]

    async def _noted(self, key: str) -> int | None:
        """Return how many lines the sink says that the object has; None: it does not say."""
        reply = await self.client.head_object(Bucket=self.bucket, Key=key)
        noted = reply["Metadata"].get(RECORDS, "")
        return int(noted) if noted.isascii() and noted.isdecimal() else None

    async def _read(self, key: str) -> int:
        """Count the lines; the last one may lack its line feed."""
        reply = await self.client.get_object(Bucket=self.bucket, Key=key)
        lines, end = 0, b"\n"
        async with reply["Body"] as body:
            async for chunk in body.iter_chunks(CHUNK_BYTES):
                lines += chunk.count(b"\n")
                end = chunk[-1:] or end
        return lines if end == b"\n" else lines + 1


def _landed(waits: list[_Partition]) -> dict[str, dict[str, int]]:
    landed: dict[str, dict[str, int]] = {}
    for wait in waits:
        counts = landed.setdefault(wait.topic, {"acknowledged": 0, "landed": 0})
        counts["acknowledged"] += offsets.count(wait.wanted)
        counts["landed"] += offsets.count(wait.wanted) - offsets.count(wait.missing)
    return landed
