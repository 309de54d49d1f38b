"""A Spark data source named ``kinesis`` with the schema and the options of the one on Databricks.

Offsets are positions of shards, so a micro-batch is an exact range of sequence numbers, and reading it again gives
the same records: exactly once, together with a sink that knows its batches. To name the end of a batch its records
have to be fetched; they are kept in Arrow files until the batch is committed, and tasks read these. Where the files
are gone (the query was restarted) the task fetches its range anew. While there is a backlog, the records of the next
micro-batch are fetched beside the one that is being processed.

Options: ``streamName`` (several with commas), ``region``, ``endpoint``, ``initialPosition`` (``latest``,
``trim_horizon``, ``earliest``), ``awsAccessKey`` and ``awsSecretKey`` (else the machine's own credentials),
``maxRecordsPerFetch``. Those that tune Databricks' own fetcher are taken and have no effect; what Databricks does not
know is refused.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
from botocore.config import Config
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.types import StructType

# A position: {"trim_horizon": true}, {"at": milliseconds since the epoch} or {"after": sequence number}.
# In an offset, {"closed": true} is added once the shard has ended and all of it has been read.
Position = dict[str, Any]
Offset = dict[str, Position]

_SCHEMA = (
    "partitionKey string, data binary, stream string, shardId string, sequenceNumber string,"
    " approximateArrivalTimestamp timestamp"
)
_KNOWN = (
    *("streamName", "streamARN", "region", "endpoint", "stsEndpoint", "initialPosition"),
    *("serviceCredential", "awsAccessKey", "awsSecretKey", "roleArn", "roleExternalId", "roleSessionName"),
    *("consumerMode", "consumerName", "consumerNamePrefix", "consumerRefreshInterval"),
    *("registeredConsumerId", "registeredConsumerIdType", "requireConsumerDeregistration"),
    *("maxRecordsPerFetch", "maxFetchRate", "minFetchPeriod", "maxFetchDuration", "fetchBufferSize"),
    *("shardsPerTask", "shardFetchInterval", "maxShardsPerDescribe"),
    *("coalesceThresholdBlockSize", "coalesceBinSize"),
)
_MOST_RECORDS = 10_000
_MOST_OF_A_SHARD = 60_000
"""Records of one shard in a micro-batch, give or take one fetch: a backlog is worked off in steps of some seconds.

With a third of it, the cost of a micro-batch is felt: a backlog takes a sixth longer.
"""


class KinesisDataSource(DataSource):
    """``spark.readStream.format("kinesis")``."""

    @classmethod
    def name(cls) -> str:
        return "kinesis"

    def schema(self) -> str:
        return _SCHEMA

    def streamReader(self, schema: StructType) -> KinesisReader:
        return KinesisReader(Options.of({key.lower(): value for key, value in self.options.items()}))


class LostRecords(Exception):
    """A micro-batch is to be read whose records Kinesis does not hold any more."""


@dataclass(frozen=True)
class Options:
    """The options of a query, checked."""

    streams: tuple[str, ...]
    region: str
    endpoint_url: str | None
    earliest: bool
    fetch: int
    credentials: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Options:
        """Reads options by their lower-case names. Raises ValueError that names the option."""
        unknown = sorted(set(given) - {name.lower() for name in _KNOWN})
        if unknown:
            raise ValueError(f"kinesis: there is no option {unknown[0]}; there are {', '.join(_KNOWN)}")
        streams = tuple(name.strip() for name in given.get("streamname", "").split(",") if name.strip())
        if not streams:
            raise ValueError("kinesis: option streamName is missing")
        if not given.get("region"):
            raise ValueError("kinesis: option region is missing")
        position = given.get("initialposition", "latest").lower()
        if position not in ("latest", "earliest", "trim_horizon"):
            raise ValueError(
                f"kinesis: initialPosition must be latest, earliest or trim_horizon, not {position!r}"
            )
        key, secret = given.get("awsaccesskey"), given.get("awssecretkey")
        if bool(key) != bool(secret):
            raise ValueError("kinesis: awsAccessKey and awsSecretKey must be given together")
        fetch = given.get("maxrecordsperfetch", str(_MOST_RECORDS))
        if not fetch.isdecimal() or not 1 <= int(fetch) <= _MOST_RECORDS:
            raise ValueError(f"kinesis: maxRecordsPerFetch must be from 1 to {_MOST_RECORDS}, not {fetch!r}")
        return cls(
            streams=streams,
            region=given["region"],
            endpoint_url=given.get("endpoint") or None,
            earliest=position != "latest",
            credentials={"aws_access_key_id": key, "aws_secret_access_key": secret} if key and secret else {},
            fetch=int(fetch),
        )

    def client(self) -> Any:
        config = Config(retries={"mode": "standard", "total_max_attempts": 8})
        where: dict[str, Any] = {"endpoint_url": self.endpoint_url, "region_name": self.region}
        keys: dict[str, Any] = dict(self.credentials)
        return boto3.client("kinesis", config=config, **where, **keys)


@dataclass(frozen=True)
class Range(InputPartition):
    """What one task reads: a range of one shard, and the file that holds it if there is one."""

    stream: str
    shard: str
    start: Position
    last: str
    file: Path | None


@dataclass(frozen=True)
class _Chunk:
    """Records fetched at once: those after ``start`` up to ``end``. They are kept in a file, if they were kept."""

    start: Position
    end: Position
    file: Path | None = None


@dataclass
class _Fetched:
    """How far shards have been fetched, what was fetched of each, and whether one was left before its newest record."""

    offset: Offset
    chunks: dict[str, list[_Chunk]] = field(default_factory=dict)
    more: bool = False


class KinesisReader(DataSourceStreamReader):
    """Lives in one Python process for as long as the query; only ``read`` runs in tasks."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._initial: Offset | None = None
        self._position: Offset | None = None
        self._chunks: dict[str, list[_Chunk]] = {}
        self._fetcher = ThreadPoolExecutor(1, "fetch")
        self._ahead: Future[_Fetched] | None = None
        self._folder: Path | None = None
        self._kinesis: Any = None

    def initialOffset(self) -> Offset:
        """Where a query without a checkpoint starts. Spark may ask after it has asked for the latest offset."""
        if self._initial is None:
            at = int(time.time() * 1000)
            start: Position = {"trim_horizon": True} if self._options.earliest else {"at": at}
            self._initial = {
                _key(stream, shard["ShardId"]): start
                for stream in self._options.streams
                for shard in self._shards(stream)
            }
        return self._initial

    def latestOffset(self) -> Offset:
        """Fetches what there is by now, of each shard up to so much, and returns where that ends.

        Of a backlog, that was begun when the last micro-batch was handed out; what follows is begun here.
        """
        known = self._position or self._initial
        if known is None:
            # The trigger AvailableNow asks for its end before anything tells where the query stands. So does a query
            # without a checkpoint: its first batch is all there is, fetched by tasks.
            return self._newest()
        fetched = self._ahead.result() if self._ahead else self._fetch_on(known)
        self._ahead = self._fetcher.submit(self._fetch_on, fetched.offset) if fetched.more else None
        for key, chunks in fetched.chunks.items():
            self._chunks.setdefault(key, []).extend(chunks)
        self._position = dict(sorted(fetched.offset.items()))
        return self._position

    def partitions(self, start: Offset, end: Offset) -> Sequence[Range]:
        if self._position is None:
            # A query that goes on from its checkpoint asks for its last batch first: that is where it stands.
            self._position = end
        ranges = []
        for key, position in end.items():
            first, last = _open(start.get(key, {"trim_horizon": True})), _open(position)
            if first != last and "after" in last:
                stream, shard = key.split("/")
                kept = self._kept(key, first, last) or [_Chunk(first, last)]
                ranges += [
                    Range(stream, shard, chunk.start, chunk.end["after"], chunk.file) for chunk in kept
                ]
        return ranges

    def read(self, partition: Range) -> Iterator[pa.RecordBatch]:  # type: ignore[override]
        _without_archives()
        if partition.file and partition.file.exists():
            with pa.memory_map(str(partition.file)) as source:
                yield pa.ipc.open_file(source).get_batch(0)
            return
        kinesis, last = self._options.client(), int(partition.last)
        for records, _ in _fetch(
            kinesis, partition.stream, partition.shard, partition.start, self._options.fetch
        ):
            wanted = [record for record in records if int(record["SequenceNumber"]) <= last]
            if wanted:
                yield _arrow(partition.stream, partition.shard, wanted)
            if records and int(records[-1]["SequenceNumber"]) >= last:
                return
        if "at" in partition.start:  # "latest", which may begin behind the newest record
            return
        raise LostRecords(
            f"kinesis: records of {partition.stream}, {partition.shard}, up to {partition.last} are gone: the stream "
            "has not kept them until they were read. To go on with what is left, delete the query's checkpoint"
        )

    def commit(self, end: Offset) -> None:
        """Forgets what Spark will not ask for again."""
        for key, chunks in self._chunks.items():
            last = int(end.get(key, {}).get("after", 0))
            for chunk in chunks:
                if chunk.file and int(chunk.end["after"]) <= last:
                    chunk.file.unlink(missing_ok=True)
            self._chunks[key] = [chunk for chunk in chunks if int(chunk.end["after"]) > last]

    def stop(self) -> None:
        self._fetcher.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __getstate__(self) -> dict[str, Any]:
        """What tasks need: the options."""
        return {"_options": self._options}

    @property
    def _client(self) -> Any:
        self._kinesis = self._kinesis or self._options.client()
        return self._kinesis

    def _shards(self, stream: str) -> list[dict[str, Any]]:
        pages = self._client.get_paginator("list_shards").paginate(StreamName=stream)
        return sorted(
            (shard for page in pages for shard in page["Shards"]), key=lambda shard: shard["ShardId"]
        )

    def _with_new_shards(self, offset: Offset) -> Offset:
        """With shards that came by resharding, from their start, once their parents have been read to the end."""
        shards = {
            _key(stream, shard["ShardId"]): (stream, shard)
            for stream in self._options.streams
            for shard in self._shards(stream)
        }
        # A shard that is gone, by its age or with its stream, is forgotten; one that is open again is another one.
        found = {
            key: {"trim_horizon": True} if at.get("closed") and _is_open(shards[key][1]) else at
            for key, at in offset.items()
            if key in shards
        }
        for key, (stream, shard) in shards.items():
            parents = [shard.get("ParentShardId"), shard.get("AdjacentParentShardId")]
            known = [
                found[_key(stream, parent)] for parent in parents if parent and _key(stream, parent) in found
            ]
            if key not in found and all(parent.get("closed") for parent in known):
                found[key] = {"trim_horizon": True}
        return found

    def _newest(self) -> Offset:
        """The ends of all shards, without keeping what lies before them."""
        ends = {}
        for stream in self._options.streams:
            for shard in self._shards(stream):
                ends[_key(stream, shard["ShardId"])] = self._end(stream, shard["ShardId"])
        return dict(sorted(ends.items()))

    def _end(self, stream: str, shard: str) -> Position:
        """The newest record of a shard, looked for in its last minute, its last hour, and all of it."""
        now = int(time.time() * 1000)
        starts: list[Position] = [{"at": now - 60_000}, {"at": now - 3_600_000}, {"trim_horizon": True}]
        for start in starts:
            position = start
            for records, ended in _fetch(self._client, stream, shard, start, self._options.fetch):
                position = _reached(position, records, ended)
            if "after" in position:
                return position
        return position

    def _fetch_on(self, offset: Offset) -> _Fetched:
        """Fetches what follows an offset, of each shard up to so much."""
        fetched = _Fetched(offset)
        while True:
            fetched.offset = self._with_new_shards(fetched.offset)
            closed = _closed(fetched.offset)
            for key in [key for key, position in fetched.offset.items() if not position.get("closed")]:
                self._drain(key, fetched)
            if _closed(fetched.offset) == closed:  # else look for the children of shards that have just ended
                return fetched

    def _drain(self, key: str, fetched: _Fetched) -> None:
        stream, shard = key.split("/")
        number = 0
        for records, ended in _fetch(self._client, stream, shard, fetched.offset[key], self._options.fetch):
            reached = _reached(fetched.offset[key], records, ended)
            if records:
                file = self._keep(_arrow(stream, shard, records))
                chunk = _Chunk(fetched.offset[key], _open(reached), file)
                fetched.chunks.setdefault(key, []).append(chunk)
            fetched.offset[key] = reached
            number += len(records)
            if number >= _MOST_OF_A_SHARD:
                fetched.more = True
                return

    def _keep(self, batch: pa.RecordBatch) -> Path:
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="kinesis-"))
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=".arrow")
        with os.fdopen(handle, "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        return Path(name)

    def _kept(self, key: str, first: Position, last: Position) -> list[_Chunk]:
        """The chunks that together are this range, or none."""
        chunks, reached = [], first
        for chunk in self._chunks.get(key, []):
            if chunk.start == reached:
                chunks.append(chunk)
                reached = chunk.end
            if reached == last:
                return chunks
        return []


def _without_archives() -> None:
    """Takes pyspark.zip and py4j's off this worker's path: both are installed as folders too.

    A worker looks for changed modules before each task, and for that reads the lists of the archives again: 0.1 s.
    """
    sys.path[:] = [entry for entry in sys.path if not entry.endswith(".zip")]
    for entry in [entry for entry in sys.path_importer_cache if entry.endswith(".zip")]:
        del sys.path_importer_cache[entry]


def _is_open(shard: Mapping[str, Any]) -> bool:
    return "EndingSequenceNumber" not in shard["SequenceNumberRange"]


def _key(stream: str, shard: str) -> str:
    return f"{stream}/{shard}"


def _reached(position: Position, records: Sequence[Mapping[str, Any]], ended: bool) -> Position:
    """The position after these records."""
    reached = {"after": records[-1]["SequenceNumber"]} if records else position
    return {**reached, "closed": True} if ended else reached


def _open(position: Position) -> Position:
    return {name: value for name, value in position.items() if name != "closed"}


def _closed(offset: Offset) -> int:
    return sum(1 for position in offset.values() if position.get("closed"))


def _fetch(
    kinesis: Any, stream: str, shard: str, position: Position, limit: int
) -> Iterator[tuple[list[dict[str, Any]], bool]]:
    """Yields records after a position until the newest, and whether the shard has ended there."""
    iterator = _iterator(kinesis, stream, shard, position)
    while True:
        try:
            answer = kinesis.get_records(ShardIterator=iterator, Limit=limit)
        except kinesis.exceptions.ExpiredIteratorException:  # after 5 minutes: a task that waits for its sink
            iterator = _iterator(kinesis, stream, shard, position)
            continue
        records, iterator = answer["Records"], answer.get("NextShardIterator")
        if records:
            position = {"after": records[-1]["SequenceNumber"]}
        yield records, iterator is None
        at_the_tip = not answer.get("MillisBehindLatest") and len(records) < limit
        if iterator is None or at_the_tip:
            return


def _iterator(kinesis: Any, stream: str, shard: str, position: Position) -> str:
    start: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
    if "after" in position:
        start = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": position["after"]}
    elif "at" in position:
        start = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": position["at"] / 1000}
    iterator: str = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, **start)["ShardIterator"]
    return iterator


def _arrow(stream: str, shard: str, records: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    columns = {
        "partitionKey": pa.array([record["PartitionKey"] for record in records], pa.string()),
        "data": pa.array([record["Data"] for record in records], pa.binary()),
        "stream": pa.array([stream] * len(records), pa.string()),
        "shardId": pa.array([shard] * len(records), pa.string()),
        "sequenceNumber": pa.array([record["SequenceNumber"] for record in records], pa.string()),
        "approximateArrivalTimestamp": pa.array(
            [record["ApproximateArrivalTimestamp"] for record in records], pa.timestamp("us", "UTC")
        ),
    }
    return pa.RecordBatch.from_pydict(columns)
