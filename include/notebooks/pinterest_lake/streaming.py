"""The streams' way in: micro-batches of Kinesis records → clean tables, each record once.

Spark gives a micro-batch again after a crash, and everything again when a checkpoint is lost. What has been taken
is therefore decided by the data: within a shard, sequence numbers only grow, so the ledger keeps for each shard
how far records have been *counted*, and the progress object how far they have surely been *written*. Records that
were counted by a batch that died are written again, which changes nothing, and not counted again; those that were
written are passed over. So rows and counts are the same whatever is replayed.

One query reads all streams. A micro-batch costs one Spark job to read it, one commit to the ledger, and one to each
table, side by side. What becomes of its records is decided in plain Python, by an index of each table (post → place
of its row) that is read at the start and kept: this job is the tables' only writer. It takes some 200 MB of the
driver for a million posts. New posts are appended without Delta's own guard against doubled batches, which would
read the whole state of the table each time: the marks say that they were never written.

No plan that a micro-batch makes has a number or a time in it that the last one's had not: Spark would compile its
code anew, which takes longer than all the rest.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import inheritable_thread_target
from pyspark.errors import StreamingQueryException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import StreamingQuery
from pyspark.sql.utils import is_remote

from pinterest_lake import tables
from pinterest_lake.addresses import redacted
from pinterest_lake.intake import Intake
from pinterest_lake.lake import Lake, SettingsError, endpoint
from pinterest_lake.ledger import INCREMENT, PLANNED, Ledger, Step, add_planned, run_entry
from pinterest_lake.marks import (
    Decision,
    Facts,
    Marks,
    Place,
    advanced,
    decide,
    is_after,
    place,
    within,
)
from pinterest_lake.schemas import STREAMS, TABLES, flags_of
from pinterest_lake.tables import create_clean_table, create_shared_tables, kept

AVAILABLE_NOW = "available-now"
_INTERVAL = re.compile(r"[1-9][0-9]* (second|minute)s?")
_POLL_SECONDS = 1.0
_SECONDS_BETWEEN_LINES = 600
_BATCHES_TOLD = 20
"""Micro-batches that the progress object tells one by one."""
_STEPS_KEPT = 500
"""Rows that a run may have in the ledger before they are made one."""
_ROWS_OF_A_FILE = 10_000
"""Up to so many rows, a micro-batch adds one file to a table, from however many shards they come."""
_SMALL_FILES = 50
"""Files that micro-batches may add to a table before they are put together; a MERGE reads them all."""
_LARGEST_PROGRESS = 16 * 1024 * 1024


def trigger_of(text: str) -> dict[str, Any]:
    """The widget ``trigger`` as arguments of ``writeStream.trigger``. Raises SettingsError."""
    if text == AVAILABLE_NOW:
        return {"availableNow": True}
    if _INTERVAL.fullmatch(text):
        return {"processingTime": text}
    raise SettingsError(f"widget 'trigger' is {text!r}; it must be 'available-now' or such as '1 second'")


class Log:
    """The notebook's output, a line every ten minutes at most.

    Databricks ends a run whose output exceeds 20 MB. A line for each micro-batch would do so in half a day.

    :param clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = float("-inf")

    def say(self, text: str) -> None:
        """Print a line, unless one was printed a moment ago."""
        if self._clock() >= self._next:
            self._next = self._clock() + _SECONDS_BETWEEN_LINES
            print(text, flush=True)


class StopRequested(Exception):
    """A micro-batch came after the stream was asked to stop; it is taken in at the next start."""


class StreamError(Exception):
    """A stream has failed; the text names it and gives the reason."""


class StreamIntake(Intake):
    """Takes the records of a stream in."""

    def write_decided(self, records: DataFrame, decision: Decision) -> None:
        """Writes records that have never been written, in as few commits as there can be."""
        if decision.counts.quarantined:
            tables.append(self.lake.table(tables.QUARANTINE_TABLE), self._quarantined(records))
        if decision.rows:
            readable = records.where(F.col("reason").isNull())
            rows = self._rows(_chosen(readable, decision))
            if len(decision.rows) <= _ROWS_OF_A_FILE:
                rows = rows.coalesce(1)
            if decision.counts.replaced:
                tables.merge_newest(self.target, rows, self.source)
            else:
                tables.append(self.target, rows)

    def _ingested_at(self) -> Column:
        return F.timestamp_millis("_arrived")


@dataclass(frozen=True)
class Part:
    """The records of a micro-batch for one table: what is known of those not yet written, and those never counted."""

    facts: Facts
    new: Facts
    records: DataFrame
    decision: Decision


class TableStream:
    """One stream and the table it is taken into: how far it has come, and what its next step is."""

    def __init__(self, spark: SparkSession, lake: Lake, table: str, told: Mapping[str, Any] | None) -> None:
        """``told`` is this stream's entry in the progress object an earlier run has left, if there is one."""
        self.table = table
        self.stream = lake.feed(table, STREAMS)
        self.name = lake.clean(table, STREAMS)
        self._lake = lake
        self._target = create_clean_table(spark, lake, table, STREAMS)
        # large ones among them, if it has any: then the first OPTIMIZE finds little to do
        self.small_files = int(spark.sql(f"DESCRIBE DETAIL {self._target}").collect()[0]["numFiles"])
        ledger = Ledger(spark, lake, self.name)
        last = ledger.state().pending
        self._ledger_id = ledger.identity()
        self._interval = last.interval if last else 0
        self._counted: Marks = dict(last.progress["marks"]) if last else {}
        self._arrived: dict[str, int] = dict(last.progress["arrived"]) if last else {}
        self._written: Marks = dict(last.taken) if last else {}
        if told and told.get("ledger") == self._ledger_id:
            # written after each batch, the ledger's own marks only with the next one
            self._written = advanced(self._written, within(told["committed"], self._counted))
        self._run, self._total = ledger.counts(PLANNED)
        self._index = self._read_index(spark)
        self._batches: deque[dict[str, Any]] = deque(maxlen=_BATCHES_TOLD)
        self._log = Log()

    def intake(self, spark: SparkSession) -> StreamIntake:
        return StreamIntake(spark, self._lake, self.table, STREAMS)

    def judge(self, records: DataFrame, facts: Facts) -> Part | None:
        """Decides what becomes of records; None when all of them have been written.

        What a micro-batch that died had counted, and perhaps not written, is written here.
        """
        facts.check(self._written, self._arrived)
        unwritten = facts.after(self._written)
        if not unwritten.number:
            return None
        new = unwritten.after(self._counted)
        if len(new.number) < len(unwritten.number):
            again = records.where(is_after(self._written) & ~is_after(self._counted))
            self._write_again(self.intake(records.sparkSession), again)
        if len(new.number) < len(facts.number):
            records = records.where(is_after(self._counted))
        return Part(unwritten, new, records, decide(new, self._index))

    def count(self, part: Part) -> Step:
        """Counts a part: the step is what the ledger is to say before the part is written."""
        self._interval += 1
        step = Step(
            self._interval,
            INCREMENT,
            part.decision.counts,
            taken=self._written,
            progress={
                "marks": advanced(self._counted, part.new.ends),
                "arrived": {**self._arrived, **part.new.arrivals},
            },
        )
        self._counted, self._arrived = step.progress["marks"], step.progress["arrived"]
        self._run, self._total = self._run + step.counts, self._total + step.counts
        return step

    def of_the_run(self, step: Step) -> Step:
        """The step with the counts of all steps of this run."""
        return replace(step, counts=self._run)

    def write(self, part: Part) -> None:
        """Writes a part, once the ledger has its step."""
        if part.new.number:
            self.intake(part.records.sparkSession).write_decided(part.records, part.decision)
            self._index.update(part.decision.rows)
            if part.decision.rows:
                self.small_files += 1
        self._written = advanced(self._written, part.facts.ends)

    def put_files_together(self, spark: SparkSession) -> None:
        """Makes the table's files few again.

        Not by autoCompact, which at the first commit of a driver, and after a MERGE, does so whatever their number.
        """
        spark.sql(f"OPTIMIZE {self._target}")
        self.small_files = 1

    def _write_again(self, intake: StreamIntake, records: DataFrame) -> None:
        with kept(intake.judged(records, refresh=False), self._lake) as verdicts:
            intake.write(records, intake.weigh(records, verdicts))
        self._index = self._read_index(intake.spark)

    def _read_index(self, spark: SparkSession) -> dict[int, Place]:
        rows = spark.table(self._target).select("ind", "_shard", "_sequence_number").toArrow()
        inds, shards, numbers = (rows.column(name).to_pylist() for name in rows.column_names)
        return {ind: place(shard, number) for ind, shard, number in zip(inds, shards, numbers, strict=True)}

    def note(self, facts: Facts, at: dt.datetime, seconds: float) -> None:
        """Remembers, and logs, what one micro-batch was, that was in the tables at this moment."""
        self._batches.append({
            "at": at.isoformat(timespec="milliseconds"),
            "records": len(facts.number),
            "bytes": sum(facts.size),
            "seconds": round(seconds, 3),
            "latency_seconds": round(at.timestamp() - min(facts.arrived) / 1000, 3),
        })
        self._log.say(f"{self.stream}: {json.dumps(self._batches[-1])}")

    @property
    def progress(self) -> dict[str, Any]:
        """What is in the table: the last record of each shard, and the counts of all runs."""
        return {
            "table": self.name,
            "ledger": self._ledger_id,
            "committed": self._written,
            **run_entry(self.table, self._total.standing()),
            "batches": list(self._batches),
        }


class Streams:
    """Takes the micro-batches of one query over all streams; ``take_in`` is what ``foreachBatch`` calls."""

    def __init__(
        self,
        spark: SparkSession,
        lake: Lake,
        *,
        tables: Sequence[str] = TABLES,
        told: Mapping[str, Any] | None = None,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        """``told``: what an earlier run has left in the progress object, by stream.

        ``committed`` is called after each micro-batch that is in the tables.
        """
        told = told or {}
        self._lake = lake
        self._tables = {
            table: TableStream(spark, lake, table, told.get(lake.feed(table, STREAMS))) for table in tables
        }
        self._committed = committed
        self._steps = 0
        self._lock = threading.Lock()
        self._stopping = False
        self._writers = ThreadPoolExecutor(len(tables), "table")

    @property
    def names(self) -> dict[str, str]:
        """The stream of each table."""
        return {table: stream.stream for table, stream in self._tables.items()}

    @property
    def progress(self) -> dict[str, Any]:
        """How far each stream has come."""
        return {stream.stream: stream.progress for stream in self._tables.values()}

    def records(self, frames: Mapping[str, DataFrame]) -> DataFrame:
        """Reads records strictly. ``frames``: for each table, the columns of Databricks' kinesis source.

        It belongs into the query, not into each of its micro-batches: making the plan takes a second.
        """
        read = [self._records(table, frame) for table, frame in frames.items()]
        return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), read)

    def _records(self, table: str, frame: DataFrame) -> DataFrame:
        lines = frame.select(
            F.lit(table).alias("_table"),
            F.col("shardId").alias("_shard"),
            F.col("sequenceNumber").alias("_sequence_number"),
            F.unix_millis("approximateArrivalTimestamp").alias("_arrived"),
            F.length("data").alias("_size"),
            F.col("data").alias("raw"),
        )
        return self._tables[table].intake(frame.sparkSession).records(lines)

    def take_in(self, records: DataFrame, batch: int) -> None:
        """Takes one micro-batch of ``records`` in."""
        del batch  # belongs to one checkpoint; what is new is decided by the records
        with self._lock:
            if self._stopping:
                raise StopRequested(", ".join(self.names.values()))
            began = time.monotonic()
            with kept(records, self._lake) as all_of_it:
                parts = {
                    table: part
                    for table, facts in _facts(all_of_it).items()
                    if (part := self._tables[table].judge(all_of_it.where(F.col("_table") == table), facts))
                }
                if not parts:
                    return
                self._count(records.sparkSession, parts)
                self._write(records.sparkSession, parts)
            at, seconds = dt.datetime.now(dt.UTC), time.monotonic() - began
            for table, part in parts.items():
                self._tables[table].note(part.facts, at, seconds)
            self._committed()
            self._keep_files_few(records.sparkSession)

    def stop(self) -> None:
        """Lets a micro-batch that is being taken in end, and takes no other."""
        self._stopping = True
        with self._lock:
            self._writers.shutdown()

    def _count(self, spark: SparkSession, parts: Mapping[str, Part]) -> None:
        """Counts records that were never counted, in the ledger, before they are written."""
        streams = {self._tables[table]: part for table, part in parts.items() if part.new.number}
        steps = {stream: stream.count(part) for stream, part in streams.items()}
        if not steps:
            return
        if self._steps < _STEPS_KEPT:
            add_planned(spark, self._lake, {stream.name: step for stream, step in steps.items()})
            self._steps += 1
        else:
            for stream, step in steps.items():
                Ledger(spark, self._lake, stream.name).replace(stream.of_the_run(step))
            self._steps = 1

    def _keep_files_few(self, spark: SparkSession) -> None:
        """Puts the files of one table together, if it has many: all tables at once would hold the next records up."""
        table = max(self._tables.values(), key=lambda each: each.small_files)
        if table.small_files >= _SMALL_FILES:
            table.put_files_together(spark)

    def _write(self, spark: SparkSession, parts: Mapping[str, Part]) -> None:
        """Writes each part into its table, all at the same time; raises when one could not be written."""
        # with what the query has set for its thread, so that whoever cancels it cancels these too
        write = inheritable_thread_target(spark)(lambda table: self._tables[table].write(parts[table]))
        for _ in self._writers.map(write, parts):
            pass


def _facts(records: DataFrame) -> dict[str, Facts]:
    """Computes the records, and gives what is to be known of each, by table.

    ``raw`` and the clean columns stay in Spark.
    """
    flags = [name for table in TABLES for name in flags_of(table) if name in records.columns]
    flagged = F.coalesce(*[F.col(name) for name in flags], F.lit(False))
    columns = ["_shard", "_sequence_number", "_arrived", "_size", "ind", "reason"]
    rows = records.select("_table", *columns, flagged.alias("_flagged")).toArrow()
    facts = {}
    for table in pc.unique(rows["_table"]).to_pylist():
        its = rows.filter(pc.equal(rows["_table"], table)).drop_columns("_table")
        facts[table] = Facts(*(its.column(name).to_pylist() for name in its.column_names))
    return facts


def _chosen(readable: DataFrame, decision: Decision) -> DataFrame:
    """The readable records whose rows are to be written."""
    if decision.left == 0:
        return readable
    wins = pa.table({
        "_shard": [shard for _, _, shard in decision.rows.values()],
        "_sequence_number": [number for _, number, _ in decision.rows.values()],
    })
    wanted = readable.sparkSession.createDataFrame(wins)
    return readable.join(F.broadcast(wanted), on=wins.column_names, how="left_semi")


_FETCH = {"maxFetchDuration": "2s", "fetchBufferSize": "200mb"}
"""Databricks fetches ahead, for 10 s and up to 20 GB unless told otherwise.

A micro-batch waits for the fetch to end, and is all that was fetched: the driver holds the positions of its records.
"""


@dataclass(frozen=True)
class Kinesis:
    """How the notebook reaches Kinesis; without a login the cluster's own credentials are used.

    :param login: the options with which Databricks' source logs in: keys, or the name of a service credential.
    """

    region: str
    endpoint_url: str
    login: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_widgets(cls, dbutils: Any) -> Kinesis:
        """Declare and read the widgets region, endpoint_url, secret_scope and service_credential.

        :raises SettingsError: one makes no sense, or both of the last two are given.
        """
        for name, default in (("region", "us-east-1"), ("secret_scope", ""), ("service_credential", "")):
            dbutils.widgets.text(name, default)
        scope = dbutils.widgets.get("secret_scope").strip()
        credential = dbutils.widgets.get("service_credential").strip()
        if scope and credential:
            raise SettingsError(
                "widgets 'secret_scope' and 'service_credential' exclude each other; give one"
            )
        login = {"serviceCredential": credential} if credential else {}
        if scope:
            login = {
                "awsAccessKey": dbutils.secrets.get(scope, "aws_access_key_id"),
                "awsSecretKey": dbutils.secrets.get(scope, "aws_secret_access_key"),
            }
        return cls(dbutils.widgets.get("region").strip(), endpoint(dbutils, "endpoint_url"), login)

    def read(self, spark: SparkSession, stream: str) -> DataFrame:
        """The stream, from its earliest record on."""
        options = {"streamName": stream, "region": self.region, "initialPosition": "earliest"}
        options |= {**_FETCH, **self.login}
        if self.endpoint_url:
            options["endpoint"] = self.endpoint_url
        return spark.readStream.format("kinesis").options(**options).load()


class StreamJob:
    """The query over the three streams, and the object that tells how far it has come."""

    def __init__(self, spark: SparkSession, dbutils: Any, lake: Lake) -> None:
        if is_remote():
            # there a micro-batch is handled by a copy of this object in another process, which no one hears of
            raise SettingsError(
                "the streams need a cluster in dedicated access mode (data_security_mode SINGLE_USER): serverless "
                "compute and standard access mode do not run foreachBatch in the notebook's own process. "
                "Name one in the setting [pinterest] stream_compute"
            )
        create_shared_tables(spark, lake)
        self._spark = spark
        self._dbutils = dbutils
        self._lake = lake
        self._path = f"{lake.storage}/streams/{lake.prefix}/progress.json"
        self._started_at: str | None = None
        self._streams = Streams(spark, lake, told=self._told(), committed=self._publish)
        self._publish()

    def run(self, kinesis: Kinesis, checkpoint_dir: str, trigger: str, stop_path: str) -> dict[str, Any]:
        """Runs until all that is available is taken, or until ``stop_path`` exists; gives the progress.

        Raises StreamError when the query fails.
        """
        arguments = trigger_of(trigger)
        self._started_at = _now()
        name = f"streaming-{self._lake.prefix}"
        frames = {table: kinesis.read(self._spark, stream) for table, stream in self._streams.names.items()}
        query = (
            self._streams
            .records(frames)
            .writeStream.queryName(name)
            .foreachBatch(self._streams.take_in)
            .option("checkpointLocation", f"{checkpoint_dir.rstrip('/')}/{name}")
            .trigger(**arguments)
            .start()
        )
        try:
            self._wait(query, stop_path)
        finally:
            self._streams.stop()
            query.stop()
        self._publish()
        return self._streams.progress

    def _wait(self, query: StreamingQuery, stop_path: str) -> None:
        try:
            while not query.awaitTermination(_POLL_SECONDS):
                if stop_path and self._listed(stop_path):
                    return
        except StreamingQueryException as error:
            raise StreamError(f"{query.name}: {_reason(str(error))}") from error

    def _told(self) -> dict[str, Any]:
        """What an earlier run has told in the progress object, by stream."""
        folder, name = self._path.rsplit("/", 1)
        if not any(entry.name == name for entry in self._listed(folder)):
            return {}
        told: dict[str, Any] = json.loads(self._dbutils.fs.head(self._path, _LARGEST_PROGRESS))["streams"]
        return told

    def _listed(self, path: str) -> list[Any]:
        try:
            return list(self._dbutils.fs.ls(path))
        except Exception:  # no such object; and a storage that is away for a moment stops no stream
            return []

    def _publish(self) -> None:
        told = {
            "run_id": self._lake.run_id,
            "started_at": self._started_at,
            "updated_at": _now(),
            "streams": self._streams.progress,
        }
        self._dbutils.fs.put(self._path, json.dumps(told), True)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def _reason(text: str) -> str:
    """What a failed query died of: the last line that says something before Spark describes the query."""
    lines = text.partition("=== Streaming Query ===")[0].splitlines()
    said = [line.strip() for line in lines if not line.strip().startswith(("SQLSTATE", "at "))]
    last = next((line for line in reversed(said) if line), text)
    return redacted(last.rpartition("terminated with exception: ")[2])
