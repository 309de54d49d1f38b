"""The streams' way in: micro-batches of Kinesis records → clean tables, each record once.

Spark gives a micro-batch again after a crash, and everything again when a checkpoint is lost. What has been taken
is therefore decided by the data: within a shard, sequence numbers only grow, so the ledger keeps for each shard
how far records have been *counted* and how far they have surely been *written*. Records that were counted by a
batch that died are written again, which changes nothing, and not counted again; those that were written are
passed over. So rows and counts are the same whatever is replayed.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import StreamingQuery

from pinterest_lake.intake import Intake
from pinterest_lake.lake import Lake, SettingsError
from pinterest_lake.ledger import INCREMENT, PLANNED, Ledger, Step, run_entry
from pinterest_lake.objects import first_line
from pinterest_lake.schemas import STREAMS, TABLES
from pinterest_lake.tables import create_clean_table, create_shared_tables, kept

Marks = dict[str, str]
"""Shard → sequence number of the last record taken; a shard that is not named has not been begun."""

AVAILABLE_NOW = "available-now"
_INTERVAL = re.compile(r"[1-9][0-9]* (second|minute)s?")
_POLL_SECONDS = 1.0


def trigger_of(text: str) -> dict[str, Any]:
    """The widget ``trigger`` as arguments of ``writeStream.trigger``. Raises SettingsError."""
    if text == AVAILABLE_NOW:
        return {"availableNow": True}
    if _INTERVAL.fullmatch(text):
        return {"processingTime": text}
    raise SettingsError(f"widget 'trigger' is {text!r}; it must be 'available-now' or such as '1 second'")


def later(one: str, other: str) -> str:
    """The later of two sequence numbers: numbers of more digits than Spark's decimals hold, as text."""
    return max(one, other, key=lambda number: (len(number), number))


def advanced(marks: Mapping[str, str], ends: Mapping[str, str]) -> Marks:
    """Marks that include ``ends``; none goes back."""
    return {shard: later(marks.get(shard, ""), ends.get(shard, "")) for shard in sorted({*marks, *ends})}


def is_after(marks: Mapping[str, str]) -> Column:
    """Whether a record (``_shard``, ``_sequence_number``) lies behind the mark of its shard."""
    number, mark = F.col("_sequence_number"), F.lit("")
    for shard, last in marks.items():
        mark = F.when(F.col("_shard") == shard, F.lit(last)).otherwise(mark)
    return F.struct(F.length(number), number) > F.struct(F.length(mark), mark)


def ends_of(records: DataFrame) -> Marks:
    """The last sequence number of each shard among the records."""
    number = F.col("_sequence_number")
    last = F.max_by(number, F.struct(F.length(number), number)).alias("last")
    return {row["_shard"]: row["last"] for row in records.groupBy("_shard").agg(last).collect()}


class StopRequested(Exception):
    """A micro-batch came after the stream was asked to stop; it is taken in at the next start."""


class StreamError(Exception):
    """A stream has failed; the text names it and gives the reason."""


class TableStream:
    """Takes the micro-batches of one stream into one table; ``take_in`` is what ``foreachBatch`` calls."""

    def __init__(
        self, spark: SparkSession, lake: Lake, table: str, committed: Callable[[], None] = lambda: None
    ) -> None:
        """``committed`` is called after each micro-batch that is in the tables."""
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
        self._writer = ledger.identity()
        self._interval = last.interval if last else 0
        self._counted: Marks = dict(last.progress) if last else {}
        self._written: Marks = dict(last.taken) if last else {}
        self._run, self._total = ledger.counts(PLANNED)
        self._tell()

    def take_in(self, frame: DataFrame, batch: int) -> None:
        """Takes one micro-batch in. ``frame`` has the columns of Databricks' kinesis source."""
        del batch  # belongs to one checkpoint; what is new is decided by the records
        with self._lock:
            if self._stopping:
                raise StopRequested(self.stream)
            intake = Intake(frame.sparkSession, self._lake, self.table, STREAMS)
            lines = frame.select(
                F.col("shardId").alias("_shard"),
                F.col("sequenceNumber").alias("_sequence_number"),
                F.col("data").alias("raw"),
            )
            with kept(intake.records(lines.where(is_after(self._written)))) as records:
                self._take_in(intake, records)

    def stop(self) -> None:
        """Lets a micro-batch that is being taken in end, and takes no other."""
        self._stopping = True
        with self._lock:
            pass

    def _take_in(self, intake: Intake, records: DataFrame) -> None:
        ends = ends_of(records)
        if not ends:
            return
        if self._written != self._counted:
            self._write_again(intake, records.where(~is_after(self._counted)))
        self._take_new(intake, records.where(is_after(self._counted)), ends)
        self._written = advanced(self._written, ends)
        self._tell()
        self._committed()

    def _write_again(self, intake: Intake, records: DataFrame) -> None:
        """Writes what a micro-batch that died had counted and perhaps not written."""
        with kept(intake.judged(records, refresh=False)) as verdicts:
            intake.write(records, intake.weigh(records, verdicts))

    def _take_new(self, intake: Intake, records: DataFrame, ends: Mapping[str, str]) -> None:
        with kept(intake.judged(records, refresh=False)) as verdicts:
            weighed = intake.weigh(records, verdicts)
            if weighed.counts.read == 0:
                return
            counted, run = advanced(self._counted, ends), self._run + weighed.counts
            step = Step(self._interval + 1, INCREMENT, run, taken=self._written, progress=counted)
            Ledger(intake.spark, self._lake, self._name).replace(step)
            self._counted, self._run, self._interval = counted, run, step.interval
            self._total += weighed.counts
            intake.write(records, weighed, writer=self._writer, interval=step.interval)

    def _tell(self) -> None:
        """Says what is in the tables: the last record of each shard, and the counts of all runs."""
        self.progress = {
            "table": self._name,
            "committed": self._written,
            **run_entry(self.table, self._total.standing()),
        }


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
        self._streams = [TableStream(spark, lake, table, self._publish) for table in TABLES]
        self._publish()

    def run(self, kinesis: Kinesis, checkpoint_dir: str, trigger: str, stop_path: str) -> dict[str, Any]:
        """Runs until all that is available is taken, or until ``stop_path`` exists; gives the progress.

        Each stream has its own checkpoint under ``checkpoint_dir``. Raises StreamError when a stream fails.
        """
        arguments = trigger_of(trigger)
        queries = [
            kinesis
            .read(self._spark, stream.stream)
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
            if stop_path and self._exists(stop_path):
                return
            active[0].awaitTermination(_POLL_SECONDS)
            _raise_failed(queries)
        _raise_failed(queries)

    def _exists(self, path: str) -> bool:
        try:
            return bool(self._dbutils.fs.ls(path))
        except Exception:  # no such object; and a storage that is away for a moment stops no stream
            return False

    def _progress(self) -> dict[str, Any]:
        return {stream.stream: stream.progress for stream in self._streams}

    def _publish(self) -> None:
        with self._lock:
            told = {
                "run_id": self._lake.run_id,
                "updated_at": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
                "streams": self._progress(),
            }
            path = f"{self._lake.storage}/streams/{self._lake.prefix}/progress.json"
            self._dbutils.fs.put(path, json.dumps(told), True)


def _raise_failed(queries: Sequence[StreamingQuery]) -> None:
    for query in queries:
        error = query.exception()
        if error is not None:
            raise StreamError(f"{query.name}: {first_line(error)}") from error
