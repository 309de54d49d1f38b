"""The streams' way in: micro-batches of Kinesis records → clean tables, each record once.

Spark gives a micro-batch again after a crash, and everything again when a checkpoint is lost. What has been taken
is therefore decided by the data: within a shard, sequence numbers only grow, so the ledger keeps for each shard
how far records have been *counted*, and the progress object how far they have surely been *written*. Records that
were counted by a batch that died are written again, which changes nothing, and not counted again; those that were
written are passed over. So rows and counts are the same whatever is replayed.

A micro-batch costs one Spark job to read it and one commit each to the ledger and to the table. What becomes of
its records is decided in plain Python, by an index of the table (post → place of its row) that is read at the
start and kept: this job is the table's only writer. It takes some 200 MB of the driver for a million posts. New
posts are appended without Delta's own guard against doubled batches, which would read the whole state of the table
each time: the marks say that they were never written.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import StreamingQuery

from pinterest_lake import tables
from pinterest_lake.intake import Intake
from pinterest_lake.lake import Lake, SettingsError
from pinterest_lake.ledger import INCREMENT, PLANNED, Ledger, Step, run_entry
from pinterest_lake.marks import (
    Decision,
    Facts,
    Marks,
    Place,
    advanced,
    came_later,
    decide,
    is_after,
    place,
    within,
)
from pinterest_lake.schemas import STREAMS, TABLES, columns_of, flags_of
from pinterest_lake.tables import create_clean_table, create_shared_tables, kept

AVAILABLE_NOW = "available-now"
_INTERVAL = re.compile(r"[1-9][0-9]* (second|minute)s?")
_POLL_SECONDS = 1.0
_BATCHES_TOLD = 20
"""Micro-batches that the progress object tells one by one."""
_STEPS_KEPT = 500
"""Rows that a run may have in the ledger before they are made one."""
_LARGEST_PROGRESS = 16 * 1024 * 1024


def trigger_of(text: str) -> dict[str, Any]:
    """The widget ``trigger`` as arguments of ``writeStream.trigger``. Raises SettingsError."""
    if text == AVAILABLE_NOW:
        return {"availableNow": True}
    if _INTERVAL.fullmatch(text):
        return {"processingTime": text}
    raise SettingsError(f"widget 'trigger' is {text!r}; it must be 'available-now' or such as '1 second'")


class StopRequested(Exception):
    """A micro-batch came after the stream was asked to stop; it is taken in at the next start."""


class StreamError(Exception):
    """A stream has failed; the text names it and gives the reason."""


class StreamLedger(Ledger):
    """The ledger of a stream's table: nobody else writes it, and its steps are seconds apart."""

    def add(self, step: Step) -> None:
        """Writes down what the step will do, without a look at what is there."""
        tables.append(self._name, self._row(step, PLANNED))


class StreamIntake(Intake):
    """Takes the records of a stream in."""

    def write_decided(self, records: DataFrame, decision: Decision) -> None:
        """Writes records that have never been written, in as few commits as there can be."""
        if decision.counts.quarantined:
            tables.append(self.lake.table(tables.QUARANTINE_TABLE), self._quarantined(records))
        if decision.rows:
            readable = records.where(F.col("reason").isNull())
            rows = (
                _chosen(readable, decision)
                .withColumn("_ingested_at", F.lit(dt.datetime.now(dt.UTC)))
                .select(*columns_of(self.table, self.source).names)
            )
            if decision.counts.replaced:
                tables.merge_newest(self.target, rows, self.source)
            else:
                tables.append(self.target, rows)


class TableStream:
    """Takes the micro-batches of one stream into one table; ``take_in`` is what ``foreachBatch`` calls."""

    def __init__(
        self,
        spark: SparkSession,
        lake: Lake,
        table: str,
        *,
        told: Mapping[str, Any] | None = None,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        """``told`` is this stream's entry in the progress object an earlier run has left, if there is one.

        ``committed`` is called after each micro-batch that is in the tables.
        """
        self.table = table
        self.stream = lake.feed(table, STREAMS)
        self.progress: dict[str, Any] = {}
        self._lake = lake
        self._committed = committed
        self._name = lake.clean(table, STREAMS)
        self._lock = threading.Lock()
        self._stopping = False
        create_clean_table(spark, lake, table, STREAMS)
        ledger = Ledger(spark, lake, self._name)
        last = ledger.state().pending
        self._ledger_id = ledger.identity()
        self._interval = last.interval if last else 0
        self._steps = 0
        self._counted: Marks = dict(last.progress["marks"]) if last else {}
        self._arrived: dict[str, int] = dict(last.progress["arrived"]) if last else {}
        self._written: Marks = dict(last.taken) if last else {}
        if told and told.get("ledger") == self._ledger_id:
            # written after each batch, the ledger's own marks only with the next one
            self._written = advanced(self._written, within(told["committed"], self._counted))
        self._run, self._total = ledger.counts(PLANNED)
        self._index = self._read_index(spark)
        self._batches: deque[dict[str, Any]] = deque(maxlen=_BATCHES_TOLD)
        self._tell()

    def records(self, frame: DataFrame) -> DataFrame:
        """Reads records strictly. ``frame`` has the columns of Databricks' kinesis source.

        It belongs into the query, not into each of its micro-batches: making the plan takes a second.
        """
        lines = frame.select(
            F.col("shardId").alias("_shard"),
            F.col("sequenceNumber").alias("_sequence_number"),
            F.unix_millis("approximateArrivalTimestamp").alias("_arrived"),
            F.length("data").alias("_size"),
            F.col("data").alias("raw"),
        )
        return self._intake(frame.sparkSession).records(lines)

    def take_in(self, records: DataFrame, batch: int) -> None:
        """Takes one micro-batch of ``records`` in."""
        del batch  # belongs to one checkpoint; what is new is decided by the records
        with self._lock:
            if self._stopping:
                raise StopRequested(self.stream)
            began = time.monotonic()
            with kept(records.where(is_after(self._written) | came_later(self._arrived))) as new:
                facts = _facts(new, self.table)
                if not facts.number:
                    return
                facts.check(self._written)
                self._take_in(self._intake(records.sparkSession), new, facts)
            self._note(facts, time.monotonic() - began)
            self._tell()
            self._committed()

    def _intake(self, spark: SparkSession) -> StreamIntake:
        return StreamIntake(spark, self._lake, self.table, STREAMS)

    def stop(self) -> None:
        """Lets a micro-batch that is being taken in end, and takes no other."""
        self._stopping = True
        with self._lock:
            pass

    def _take_in(self, intake: StreamIntake, records: DataFrame, facts: Facts) -> None:
        new = facts.after(self._counted)
        if len(new.number) == len(facts.number):
            self._take_new(intake, records, new)
        else:
            self._write_again(intake, records.where(~is_after(self._counted)))
            if new.number:
                self._take_new(intake, records.where(is_after(self._counted)), new)
        self._written = advanced(self._written, facts.ends)

    def _write_again(self, intake: StreamIntake, records: DataFrame) -> None:
        """Writes what a micro-batch that died had counted and perhaps not written."""
        with kept(intake.judged(records, refresh=False)) as verdicts:
            intake.write(records, intake.weigh(records, verdicts))
        self._index = self._read_index(intake.spark)

    def _take_new(self, intake: StreamIntake, records: DataFrame, facts: Facts) -> None:
        """Counts records that were never counted, in the ledger, and then writes them."""
        decision = decide(facts, self._index)
        self._count(intake.spark, decision, facts)
        intake.write_decided(records, decision)
        self._index.update(decision.rows)

    def _count(self, spark: SparkSession, decision: Decision, facts: Facts) -> None:
        ledger = StreamLedger(spark, self._lake, self._name)
        counted = advanced(self._counted, facts.ends)
        arrived = {**self._arrived, **facts.arrivals}
        progress = {"marks": counted, "arrived": arrived}
        run = self._run + decision.counts
        step = Step(self._interval + 1, INCREMENT, decision.counts, taken=self._written, progress=progress)
        if self._steps < _STEPS_KEPT:
            ledger.add(step)
            self._steps += 1
        else:
            ledger.replace(Step(step.interval, INCREMENT, run, taken=step.taken, progress=progress))
            self._steps = 1
        self._counted, self._arrived, self._interval = counted, arrived, step.interval
        self._run, self._total = run, self._total + decision.counts

    def _read_index(self, spark: SparkSession) -> dict[int, Place]:
        rows = spark.table(self._lake.table(self._name)).select("ind", "_shard", "_sequence_number").toArrow()
        inds, shards, numbers = (rows.column(name).to_pylist() for name in rows.column_names)
        return {ind: place(shard, number) for ind, shard, number in zip(inds, shards, numbers, strict=True)}

    def _note(self, facts: Facts, seconds: float) -> None:
        """Remembers, and logs, what one micro-batch was."""
        now = dt.datetime.now(dt.UTC)
        self._batches.append({
            "at": now.isoformat(timespec="milliseconds"),
            "records": len(facts.number),
            "bytes": sum(facts.size),
            "seconds": round(seconds, 3),
            "latency_seconds": round(now.timestamp() - min(facts.arrived) / 1000, 3),
        })
        print(f"{self.stream}: {json.dumps(self._batches[-1])}", flush=True)

    def _tell(self) -> None:
        """Says what is in the tables: the last record of each shard, and the counts of all runs."""
        self.progress = {
            "table": self._name,
            "ledger": self._ledger_id,
            "committed": self._written,
            **run_entry(self.table, self._total.standing()),
            "batches": list(self._batches),
        }


def _facts(records: DataFrame, table: str) -> Facts:
    """Computes the records, and gives what is to be known of each; ``raw`` and the clean columns stay in Spark."""
    flagged = F.coalesce(*[F.col(name) for name in flags_of(table)], F.lit(False))
    columns = ["_shard", "_sequence_number", "_arrived", "_size", "ind", "reason"]
    rows = records.select(*columns, flagged.alias("_flagged")).toArrow()
    return Facts(*(rows.column(name).to_pylist() for name in rows.column_names))


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


@dataclass(frozen=True)
class Kinesis:
    """How the notebook reaches Kinesis; without keys the cluster's own credentials are used."""

    region: str
    endpoint_url: str
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_widgets(cls, dbutils: Any) -> Kinesis:
        """Declares and reads the widgets region, endpoint_url and secret_scope."""
        for name, default in (("region", "us-east-1"), ("endpoint_url", ""), ("secret_scope", "")):
            dbutils.widgets.text(name, default)
        scope = dbutils.widgets.get("secret_scope").strip()
        keys = (
            {
                "awsAccessKey": dbutils.secrets.get(scope, "aws_access_key_id"),
                "awsSecretKey": dbutils.secrets.get(scope, "aws_secret_access_key"),
            }
            if scope
            else {}
        )
        return cls(dbutils.widgets.get("region").strip(), dbutils.widgets.get("endpoint_url").strip(), keys)

    def read(self, spark: SparkSession, stream: str) -> DataFrame:
        """The stream, from its earliest record on."""
        options = {"streamName": stream, "region": self.region, "initialPosition": "earliest", **self.keys}
        if self.endpoint_url:
            options["endpointUrl"] = self.endpoint_url
        return spark.readStream.format("kinesis").options(**options).load()


class StreamJob:
    """The three streams, and the object that tells how far they have come."""

    def __init__(self, spark: SparkSession, dbutils: Any, lake: Lake) -> None:
        create_shared_tables(spark, lake)
        self._spark = spark
        self._dbutils = dbutils
        self._lake = lake
        self._lock = threading.Lock()
        self._path = f"{lake.storage}/streams/{lake.prefix}/progress.json"
        told = self._told()
        self._streams = [
            TableStream(spark, lake, table, told=told.get(lake.feed(table, STREAMS)), committed=self._publish)
            for table in TABLES
        ]
        self._publish()

    def run(self, kinesis: Kinesis, checkpoint_dir: str, trigger: str, stop_path: str) -> dict[str, Any]:
        """Runs until all that is available is taken, or until ``stop_path`` exists; gives the progress.

        Each stream has its own checkpoint under ``checkpoint_dir``. Raises StreamError when a stream fails.
        """
        arguments = trigger_of(trigger)
        queries = [
            stream
            .records(kinesis.read(self._spark, stream.stream))
            .writeStream.queryName(stream.stream)
            .foreachBatch(stream.take_in)
            .option("checkpointLocation", f"{checkpoint_dir.rstrip('/')}/{stream.stream}")
            .trigger(**arguments)
            .start()
            for stream in self._streams
        ]
        try:
            self._wait(queries, stop_path)
        finally:
            for stream, query in zip(self._streams, queries, strict=True):
                stream.stop()
                query.stop()
        self._publish()
        return self._progress()

    def _wait(self, queries: Sequence[StreamingQuery], stop_path: str) -> None:
        while active := [query for query in queries if query.isActive]:
            if stop_path and self._listed(stop_path):
                return
            with suppress(StreamingQueryException):  # told below, whichever stream it was
                active[0].awaitTermination(_POLL_SECONDS)
            _raise_failed(queries)
        _raise_failed(queries)

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

    def _progress(self) -> dict[str, Any]:
        return {stream.stream: stream.progress for stream in self._streams}

    def _publish(self) -> None:
        with self._lock:
            told = {
                "run_id": self._lake.run_id,
                "updated_at": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
                "streams": self._progress(),
            }
            self._dbutils.fs.put(self._path, json.dumps(told), True)


def _raise_failed(queries: Sequence[StreamingQuery]) -> None:
    for query in queries:
        error = query.exception()
        if error is not None:
            raise StreamError(f"{query.name}: {_reason(str(error))}") from error


def _reason(text: str) -> str:
    """What a failed query died of: the last line that says something before Spark describes the query."""
    lines = text.partition("=== Streaming Query ===")[0].splitlines()
    said = [line.strip() for line in lines if not line.strip().startswith(("SQLSTATE", "at "))]
    last = next((line for line in reversed(said) if line), text)
    return last.rpartition("terminated with exception: ")[2]
