"""The streams' way in: micro-batches of Kinesis records → clean tables, each record once.

Spark gives a micro-batch again after a crash, and everything again when a checkpoint is lost. What has been taken
is therefore decided by the data: within a shard, sequence numbers only grow, so the ledger keeps for each shard
how far records have been *counted*, and the progress object how far they have surely been *written*. Records that
were counted by a batch that died are written again, which changes nothing, and not counted again; those that were
written are passed over. So rows and counts are the same whatever is replayed.

One query reads all streams. A micro-batch costs one Spark job to read it, one commit to the ledger, and one to each
table, side by side. What becomes of its records is decided in plain Python, by an index of each table (post → place
of its row) that is read at the start and kept: this job is the tables' only writer. It takes some 200 MB of the
driver for a million posts.

No plan that a micro-batch makes has a number or a time in it that the last one's had not: Spark would compile its
code anew, which takes longer than all the rest.

Each commit is a transaction of the driver that has claimed the tables last (``writers``): what another one writes,
Delta leaves out, and it ends when it looks at the claims after its micro-batch.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import inheritable_thread_target
from pyspark.errors import StreamingQueryException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.streaming import StreamingQuery
from pyspark.sql.utils import is_remote

from pinterest_lake import tables
from pinterest_lake.addresses import redacted
from pinterest_lake.intake import Intake
from pinterest_lake.lake import Lake, SettingsError, endpoint
from pinterest_lake.ledger import (
    INCREMENT,
    LEDGER_TABLE,
    PLANNED,
    REFRESH,
    Counts,
    Ledger,
    Step,
    add_planned,
    run_entry,
)
from pinterest_lake.marks import (
    Decision,
    Facts,
    Marks,
    Place,
    StreamView,
    advanced,
    decide,
    is_after,
    place,
    within,
)
from pinterest_lake.merging import chosen
from pinterest_lake.progress import read_progress
from pinterest_lake.schemas import STREAMS, TABLES, flags_of
from pinterest_lake.tables import Transaction, create_clean_table, create_shared_tables, kept
from pinterest_lake.writers import Writer

AVAILABLE_NOW = "available-now"
_INTERVAL = re.compile(r"[1-9][0-9]* (second|minute)s?")
_POLL_SECONDS = 1.0
_SECONDS_BETWEEN_LINES = 600
_TELL_SECONDS = 60.0
"""So often it is told how far the tables are, also when nothing comes."""
_BATCHES_TOLD = 20
"""Micro-batches that the progress object tells one by one."""
_STEPS_KEPT = 500
"""Rows that a run may have in the ledger before they are made one."""
_ROWS_OF_A_FILE = 10_000
"""Up to so many rows, a micro-batch adds one file to a table, from however many shards they come."""
_SMALL_FILES = 50
"""Files that micro-batches may add to a table before they are put together; a MERGE reads them all."""


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

    def write_decided(self, records: DataFrame, decision: Decision, transaction: Transaction) -> None:
        """Writes records that have never been written, in as few commits as there can be."""
        if decision.counts.quarantined:
            held = self.lake.table(tables.QUARANTINE_TABLE)
            tables.append(held, self._quarantined(records), transaction.of(self.name))
        if decision.rows:
            readable = records.where(F.col("reason").isNull())
            rows = self._rows(_chosen(readable, decision))
            if len(decision.rows) <= _ROWS_OF_A_FILE:
                rows = rows.coalesce(1)
            if decision.counts.replaced:
                tables.merge_newest(self.target, rows, self.source, transaction)
            else:
                tables.append(self.target, rows, transaction)

    def write_again(self, records: DataFrame, transaction: Transaction) -> None:
        """Writes records that may have been written."""
        with kept(self.judged(records, refresh=False), self.lake) as verdicts:
            weighed = self.weigh(records, verdicts)
            if weighed.counts.quarantined:
                held, mine = self._quarantined(records), transaction.of(self.name)
                tables.append_quarantine(self.lake, held, self.name, mine.writer, mine.version)
            if weighed.written:
                readable = records.where(F.col("reason").isNull())
                wins = chosen(readable, verdicts, self.source, written=weighed.written, left=weighed.left)
                tables.merge_newest(self.target, self._rows(wins), self.source, transaction)

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

    def __init__(
        self, spark: SparkSession, lake: Lake, table: str, told: Mapping[str, Any] | None, writer: Writer
    ) -> None:
        """``told`` is this stream's entry in the progress object an earlier run has left, if there is one.

        ``writer`` has claimed the tables, and the ledger is fenced by it.
        """
        self.table = table
        self._writer = writer
        self.stream = lake.feed(table, STREAMS)
        self.name = lake.clean(table, STREAMS)
        self._lake = lake
        self._target = create_clean_table(spark, lake, table, STREAMS)
        transaction = writer.transaction()
        writer.fence(self._target, transaction)
        writer.fence(lake.table(tables.QUARANTINE_TABLE), transaction.of(self.name))
        # large ones among them, if it has any: then the first OPTIMIZE finds little to do
        self.small_files = int(spark.sql(f"DESCRIBE DETAIL {self._target}").collect()[0]["numFiles"])
        ledger = Ledger(spark, lake, self.name)
        last = ledger.state().pending
        self.ledger_id = ledger.identity()
        self._interval = last.interval if last else 0
        self._counted: Marks = dict(last.progress["marks"]) if last else {}
        self._arrived: dict[str, int] = dict(last.progress["arrived"]) if last else {}
        self._written: Marks = dict(last.taken) if last else {}
        self._gaps: list[dict[str, str]] = list(last.progress.get("gaps", [])) if last else []
        if told and told.get("ledger") == self.ledger_id:
            # written after each batch, the ledger's own marks only with the next one
            self._written = advanced(self._written, within(told["committed"], self._counted))
        self._run, self._total = ledger.counts(PLANNED)
        self._kind = REFRESH if ledger.has_refreshed(PLANNED) else INCREMENT
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
            self.intake(records.sparkSession).write_again(again, self._writer.transaction())
            self._index = self._read_index(records.sparkSession)
        if len(new.number) < len(facts.number):
            records = records.where(is_after(self._counted))
        return Part(unwritten, new, records, decide(new, self._index))

    def count(self, part: Part) -> Step:
        """Counts a part: the step is what the ledger is to say before the part is written."""
        self._counted = advanced(self._counted, part.new.ends)
        self._arrived = {**self._arrived, **part.new.arrivals}
        return self.step(part.decision.counts)

    def step(self, counts: Counts, kind: str = INCREMENT) -> Step:
        """The next step, as the ledger is to have it."""
        self._interval += 1
        self._run, self._total = self._run + counts, self._total + counts
        progress = {"marks": self._counted, "arrived": self._arrived, "gaps": self._gaps}
        return Step(self._interval, kind, counts, taken=self._written, progress=progress)

    def look_back(self, view: StreamView, now: int, caught_up: int) -> list[dict[str, str]]:
        """Gives, and remembers, of which time records of shards may be gone unread; forgets shards that are gone.

        ``now`` and ``caught_up``, until when everything had been read, are in milliseconds since the epoch.
        """
        # when a gap was told, a reader came back, and has read since
        told = {gap["shard"]: _milliseconds(gap["to"]) + view.retention for gap in self._gaps}
        read_until = {
            shard: max(arrived, caught_up, told.get(shard, 0)) for shard, arrived in self._arrived.items()
        }
        gaps = [
            {"shard": shard, "from": _moment(start), "to": _moment(end)}
            for shard, (start, end) in view.may_be_lost(read_until, self._counted, now).items()
        ]
        self._gaps += gaps
        self._counted = {shard: mark for shard, mark in self._counted.items() if shard in view.parents}
        self._written = within(self._written, self._counted)
        self._arrived = {shard: at for shard, at in self._arrived.items() if shard in view.parents}
        return gaps

    def of_the_run(self, step: Step) -> Step:
        """The step with the counts of all steps of this run, and in the place of them."""
        return replace(step, counts=self._run, kind=self._kind)

    def write(self, part: Part) -> None:
        """Writes a part, once the ledger has its step."""
        if part.new.number:
            intake = self.intake(part.records.sparkSession)
            intake.write_decided(part.records, part.decision, self._writer.last)
            self._index.update(part.decision.rows)
            if part.decision.rows:
                self.small_files += 1

    def settle(self, part: Part) -> None:
        """Remembers that a part is in the table for good."""
        self._written = advanced(self._written, part.facts.ends)

    def start_over(self, spark: SparkSession) -> None:
        """Leaves one row a post and each record in quarantine once, and takes nothing for written."""
        transaction = self._writer.transaction()
        rows = spark.table(self._target)
        if rows.count() != rows.select("ind").distinct().count():
            newest = F.row_number().over(Window.partitionBy("ind").orderBy(STREAMS.order().desc()))
            rows = rows.withColumn("_rank", newest).where("_rank = 1").drop("_rank")
            tables.replace_rows(self._target, rows, transaction.writer, transaction.version)
        held = spark.table(self._lake.table(tables.QUARANTINE_TABLE)).where(F.col("table") == self.name)
        once = held.dropDuplicates(["source", "shard", "position"])
        if held.count() != once.count():
            mine = transaction.of(self.name)
            tables.replace_quarantine(self._lake, once, self.name, mine.writer, mine.version)
        self._written = {}
        self._index = self._read_index(spark)

    def recount(self, spark: SparkSession) -> Step:
        """The step with which the counts of all runs start anew: from what is in the tables now."""
        flags = [F.coalesce(F.sum(F.col(name).cast("int")), F.lit(0)) for name in flags_of(self.table)]
        clean, *flagged = spark.table(self._target).agg(F.count("*"), *flags).collect()[0]
        held = spark.table(self._lake.table(tables.QUARANTINE_TABLE)).where(F.col("table") == self.name)
        by_reason = {row["reason"]: row["count"] for row in held.groupBy("reason").count().collect()}
        quarantined = sum(by_reason.values())
        read = max(self._total.read, clean + quarantined)
        counts = Counts(
            read=read,
            clean=clean,
            superseded=read - clean - quarantined,
            quarantined=quarantined,
            unparsable=sum(flagged),
            by_reason=dict(sorted(by_reason.items())),
        )
        self._run, self._total, self._kind = Counts(), Counts(), REFRESH
        return self.step(counts, REFRESH)

    def put_files_together(self, spark: SparkSession) -> None:
        """Makes the table's files few again.

        Not by autoCompact, which at the first commit of a driver, and after a MERGE, does so whatever their number.
        """
        spark.sql(f"OPTIMIZE {self._target}")
        self.small_files = 1

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
            "ledger": self.ledger_id,
            "committed": self._written,
            "gaps": list(self._gaps),
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
        self._spark = spark
        self._lake = lake
        self._committed = committed
        self._steps = 0
        self._lock = threading.Lock()
        self._stopping = False
        self._threads = ThreadPoolExecutor(len(tables), "table")
        # nothing is read before earlier drivers are fenced off: what they still write would be missed
        self._writer = Writer(spark, lake)
        self._writer.fence(lake.table(LEDGER_TABLE), self._writer.transaction())
        self._tables: dict[str, TableStream] = self._side_by_side(
            spark,
            tables,
            lambda table: TableStream(spark, lake, table, told.get(lake.feed(table, STREAMS)), self._writer),
        )

    @property
    def names(self) -> dict[str, str]:
        """The stream of each table."""
        return {table: stream.stream for table, stream in self._tables.items()}

    @property
    def ledger_id(self) -> str:
        """The ledger that counts the records: another one knows nothing of them."""
        return next(iter(self._tables.values())).ledger_id.partition("/")[0]

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
            try:
                parts = self._take(records)
            finally:  # whatever came of it: it does not count if the tables are another's
                self._writer.check()
            if not parts:
                return
            at, seconds = dt.datetime.now(dt.UTC), time.monotonic() - began
            for table, part in parts.items():
                self._tables[table].settle(part)
                self._tables[table].note(part.facts, at, seconds)
            self._committed()
            self._keep_files_few(records.sparkSession)

    def _take(self, records: DataFrame) -> dict[str, Part]:
        """Counts and writes what is new among records; gives it by table."""
        with kept(records, self._lake) as all_of_it:
            parts = {
                table: part
                for table, facts in _facts(all_of_it).items()
                if (part := self._tables[table].judge(_once(all_of_it, table, facts), facts.once))
            }
            self._count(records.sparkSession, parts)
            self._write(records.sparkSession, parts)
        return parts

    def check(self) -> None:
        """Raises OverlapError when another driver has claimed the tables."""
        self._writer.check()

    def start_over(self) -> None:
        """Leaves one row a post, and has everything that comes written again, without counting it again."""
        self._side_by_side(
            self._spark, self._tables, lambda table: self._tables[table].start_over(self._spark)
        )

    def recount(self) -> None:
        """Counts what is in the tables, as the ledger's new start."""
        steps = {stream.name: stream.recount(self._spark) for stream in self._tables.values()}
        add_planned(self._spark, self._lake, steps, self._writer.transaction())
        self.check()

    def look_back(
        self, view: Callable[[str], StreamView], caught_up_at: str | None
    ) -> dict[str, list[dict[str, str]]]:
        """Writes into the ledger of which time each stream's records may have been lost, and gives it.

        ``view`` looks at a stream; until ``caught_up_at`` everything had been read.
        """
        caught_up = 0 if caught_up_at is None else _milliseconds(caught_up_at)
        missed = {
            stream: gaps
            for stream in self._tables.values()
            if (gaps := stream.look_back(view(stream.stream), round(time.time() * 1000), caught_up))
        }
        if missed:
            steps = {stream.name: stream.step(Counts()) for stream in missed}
            add_planned(self._spark, self._lake, steps, self._writer.transaction())
            self.check()
        return {stream.stream: gaps for stream, gaps in missed.items()}

    def stop(self) -> None:
        """Lets a micro-batch that is being taken in end, and takes no other."""
        self._stopping = True
        with self._lock:
            self._threads.shutdown()

    def _count(self, spark: SparkSession, parts: Mapping[str, Part]) -> None:
        """Counts records that were never counted, in the ledger, before they are written."""
        streams = {self._tables[table]: part for table, part in parts.items() if part.new.number}
        steps = {stream: stream.count(part) for stream, part in streams.items()}
        if not steps:
            return
        if self._steps < _STEPS_KEPT:
            planned = {stream.name: step for stream, step in steps.items()}
            add_planned(spark, self._lake, planned, self._writer.transaction())
            self._steps += 1
        else:
            for stream, step in steps.items():
                ledger = Ledger(spark, self._lake, stream.name)
                ledger.replace(stream.of_the_run(step), self._writer.transaction())
            self._steps = 1

    def _keep_files_few(self, spark: SparkSession) -> None:
        """Puts the files of one table together, if it has many: all tables at once would hold the next records up."""
        table = max(self._tables.values(), key=lambda each: each.small_files)
        if table.small_files >= _SMALL_FILES:
            table.put_files_together(spark)

    def _write(self, spark: SparkSession, parts: Mapping[str, Part]) -> None:
        """Writes each part into its table, all at the same time; raises when one could not be written."""
        self._writer.transaction()  # one for all tables: merges of one transaction run side by side
        self._side_by_side(spark, parts, lambda table: self._tables[table].write(parts[table]))

    def _side_by_side[T](
        self, spark: SparkSession, tables: Iterable[str], do: Callable[[str], T]
    ) -> dict[str, T]:
        """Does something for each table at the same time; raises, once all have ended, what one of them raised."""
        # with what the query has set for its thread, so that whoever cancels it cancels these too
        do = inheritable_thread_target(spark)(do)
        done = {table: self._threads.submit(do, table) for table in tables}
        wait(done.values())
        return {table: future.result() for table, future in done.items()}


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


def _once(records: DataFrame, table: str, facts: Facts) -> DataFrame:
    """The records of a table, each of them once."""
    records = records.where(F.col("_table") == table)
    return records if facts.once is facts else records.dropDuplicates(["_shard", "_sequence_number"])


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
    :param credentials: makes the session of botocore that a service credential gives.
    """

    region: str
    endpoint_url: str
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    credentials: Callable[[], Any] | None = field(default=None, repr=False)

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
        region, url = dbutils.widgets.get("region").strip(), endpoint(dbutils, "endpoint_url")
        if credential:
            return cls(
                region,
                url,
                {"serviceCredential": credential},
                lambda: dbutils.credentials.getServiceCredentialsProvider(credential),
            )
        login = {}
        if scope:
            login = {
                "awsAccessKey": dbutils.secrets.get(scope, "aws_access_key_id"),
                "awsSecretKey": dbutils.secrets.get(scope, "aws_secret_access_key"),
            }
        return cls(region, url, login)

    def view(self, stream: str) -> StreamView:
        """What Kinesis says of a stream and its shards."""
        import boto3

        session = boto3.Session(
            aws_access_key_id=self.login.get("awsAccessKey"),
            aws_secret_access_key=self.login.get("awsSecretKey"),
            botocore_session=self.credentials() if self.credentials else None,
        )
        kinesis = session.client("kinesis", region_name=self.region, endpoint_url=self.endpoint_url or None)
        hours = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"][
            "RetentionPeriodHours"
        ]
        pages = kinesis.get_paginator("list_shards").paginate(StreamName=stream)
        parents = {
            shard["ShardId"]: [
                shard[name] for name in ("ParentShardId", "AdjacentParentShardId") if name in shard
            ]
            for page in pages
            for shard in page["Shards"]
        }
        return StreamView(hours * 3_600_000, parents)

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
        told = read_progress(dbutils, lake)
        self._spark = spark
        self._dbutils = dbutils
        self._lake = lake
        self._publishing = threading.Lock()
        self._put_at = 0.0
        self._told: dict[str, Any] = {}
        self._started_at: str | None = None
        self._caught_up_at: str | None = None
        self._streams = Streams(spark, lake, told=told.get("streams", {}), committed=self._publish)
        if told.get("ledger") == self._streams.ledger_id:
            self._caught_up_at = told.get("caught_up_at")
        self._publish()

    def look_back(self, kinesis: Kinesis) -> None:
        """Says, and writes into the ledger, of which time records may have been lost because nobody has read them.

        Kinesis keeps a record for so long. Whether there was one that nobody has read, it does not tell.
        """
        missed = self._streams.look_back(kinesis.view, self._caught_up_at)
        for stream, gaps in missed.items():
            for gap in gaps:
                print(
                    f"{stream}: records of {gap['shard']} between {gap['from']} and {gap['to']} may have been lost: "
                    "nobody has read them for longer than the stream keeps them",
                    flush=True,
                )
        if missed:
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
            .option("checkpointLocation", f"{checkpoint_dir.rstrip('/')}/{name}/{self._streams.ledger_id}")
            .trigger(**arguments)
            .start()
        )
        try:
            self._wait(query, stop_path)
        finally:
            self._streams.stop()
            query.stop()
        if trigger == AVAILABLE_NOW:
            self._caught_up_at = self._started_at
        self._streams.check()
        self._publish()
        return self._streams.progress

    def rebuild(self, kinesis: Kinesis, checkpoint_dir: str) -> dict[str, Any]:
        """Makes the tables and their ledger agree again; gives the progress.

        What a table has of a post more than once goes, but for the newest; what the streams still hold is written
        again where it is missing; then all is counted. Rows that are gone, and whose records are, stay away.
        """
        self._streams.start_over()
        self.run(kinesis, f"{checkpoint_dir.rstrip('/')}/rebuild-{uuid4().hex}", AVAILABLE_NOW, "")
        self._streams.recount()
        self._publish()
        return self._streams.progress

    def _wait(self, query: StreamingQuery, stop_path: str) -> None:
        try:
            while not query.awaitTermination(_POLL_SECONDS):
                if stop_path and self._exists(stop_path):
                    return
                last = query.lastProgress
                if last is not None and last["numInputRows"] == 0:  # it has looked, and nothing was new
                    self._caught_up_at = last["timestamp"]
                if time.monotonic() - self._put_at > _TELL_SECONDS:
                    self._tell_again()
        except StreamingQueryException as error:
            raise StreamError(f"{query.name}: {_reason(str(error))}") from error

    def _exists(self, path: str) -> bool:
        """Whether there is anything at a path; a storage that is away for a moment is asked again soon."""
        try:
            return bool(self._dbutils.fs.ls(path))
        except Exception:
            return False

    def _publish(self) -> None:
        """Tells how far the tables are, between two micro-batches."""
        with self._publishing:
            self._told = self._streams.progress
            self._put()

    def _tell_again(self) -> None:
        """Tells what was told last once more: that the job goes on, and until when it has read everything."""
        self._streams.check()
        with self._publishing:
            self._put()

    def _put(self) -> None:
        told = {
            "run_id": self._lake.run_id,
            "ledger": self._streams.ledger_id,
            "started_at": self._started_at,
            "updated_at": _now(),
            "caught_up_at": self._caught_up_at,
            "streams": self._told,
        }
        self._dbutils.fs.put(self._lake.progress_path, json.dumps(told), True)
        self._put_at = time.monotonic()


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def _moment(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).isoformat(timespec="milliseconds")


def _milliseconds(moment: str) -> int:
    return round(dt.datetime.fromisoformat(moment).timestamp() * 1000)


def _reason(text: str) -> str:
    """What a failed query died of: the last line that says something before Spark describes the query."""
    lines = text.partition("=== Streaming Query ===")[0].splitlines()
    said = [line.strip() for line in lines if not line.strip().startswith(("SQLSTATE", "at "))]
    last = next((line for line in reversed(said) if line), text)
    return redacted(last.rpartition("terminated with exception: ")[2])
