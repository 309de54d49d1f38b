"""What the batch and the streams have in common: lines → records → counts → tables."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pinterest_lake import tables
from pinterest_lake.cleaning import clean
from pinterest_lake.lake import Lake
from pinterest_lake.ledger import Counts
from pinterest_lake.merging import WRITTEN, Verdict, chosen, judge
from pinterest_lake.quality import classify
from pinterest_lake.schemas import RECORDS, Source, columns_of, flags_of


@dataclass(frozen=True)
class Weighed:
    """What becomes of the records of a step: the counts, and the verdict on each readable one."""

    counts: Counts
    verdicts: DataFrame
    written: int

    @property
    def left(self) -> int:
        """Readable records that are not written: older ones, and those that are rows already."""
        return self.counts.read - self.counts.quarantined - self.written


class Intake:
    """Takes records of one kind into their clean table and the quarantine."""

    def __init__(self, spark: SparkSession, lake: Lake, table: str, source: Source) -> None:
        self.spark = spark
        self.lake = lake
        self.table = table
        self.source = source
        self.name = lake.clean(table, source)
        self.target = lake.table(self.name)

    def records(self, lines: DataFrame) -> DataFrame:
        """Reads lines (position, ``raw``): adds ``reason`` and the clean columns; ``raw`` stays where unreadable."""
        records = clean(classify(lines, RECORDS[self.table], one_line=self.source.lines), self.table)
        return records.withColumn("raw", F.when(F.col("reason").isNotNull(), F.col("raw")))

    def judged(self, records: DataFrame, *, refresh: bool) -> DataFrame:
        """The verdict on each readable record, given the rows of the table (none when it is filled anew)."""
        rows = self.spark.table(self.target).where(F.lit(not refresh))
        narrow = records.where(F.col("reason").isNull())
        return judge(narrow.select("ind", *self.source.columns, *flags_of(self.table)), rows, self.source)

    def weigh(self, records: DataFrame, verdicts: DataFrame) -> Weighed:
        """Counts what becomes of the records, before anything is written."""
        reasons = {row["reason"]: row["count"] for row in records.groupBy("reason").count().collect()}
        flag = F.coalesce(*[F.col(name) for name in flags_of(self.table)], F.lit(False))
        groups = verdicts.groupBy("verdict", flag.alias("flag")).count().collect()

        def sum_of(*wanted: Verdict, flagged: bool | None = None) -> int:
            return sum(
                row["count"] for row in groups if row["verdict"] in wanted and flagged in {None, row["flag"]}
            )

        current = (*WRITTEN, Verdict.SAME)
        by_reason = {reason: count for reason, count in sorted(reasons.items(), key=str) if reason}
        counts = Counts(
            read=sum(reasons.values()),
            clean=sum_of(*current),
            superseded=sum_of(Verdict.OLDER),
            quarantined=sum(by_reason.values()),
            replaced=sum_of(Verdict.NEWER),
            unparsable=sum_of(*current, flagged=True),
            by_reason=by_reason,
        )
        return Weighed(counts, verdicts, sum_of(*WRITTEN))

    def write(
        self,
        records: DataFrame,
        weighed: Weighed,
        *,
        writer: str = "",
        interval: int = 0,
        refresh: bool = False,
    ) -> None:
        """Writes records. Repeating it, whole or after a crash, changes nothing.

        What ``writer`` has written as ``interval``, or as a later one, is not written again, whoever else tries at the
        same time; without a writer nothing is appended: rows are merged.
        """
        if refresh or weighed.counts.quarantined:
            held = self._quarantined(records)
            store = tables.replace_quarantine if refresh else tables.append_quarantine
            store(self.lake, held, self.name, writer, interval)
        readable = records.where(F.col("reason").isNull())
        wins = chosen(readable, weighed.verdicts, self.source, written=weighed.written, left=weighed.left)
        rows = self._rows(wins)
        if refresh:
            tables.replace_rows(self.target, rows, writer, interval)
        elif weighed.counts.replaced or (weighed.written and not writer):
            tables.merge_newest(self.target, rows, self.source)
        elif weighed.written:
            tables.append_new(self.target, rows, writer, interval)

    def held(self) -> DataFrame:
        """What is held of this table: its position, ``raw``, and ``_held_for``, why it is there."""
        kinds = {field.name: field.dataType for field in self.source.position}
        mine = (F.col("table") == self.name) & (F.col("source") == self.lake.feed(self.table, self.source))
        rows = self.spark.table(self.lake.table(tables.QUARANTINE_TABLE)).where(mine)
        return rows.select(
            F.col("shard").cast(kinds[self.source.shard]).alias(self.source.shard),
            F.col("position").cast(kinds[self.source.place]).alias(self.source.place),
            "raw",
            F.col("reason").alias("_held_for"),
        )

    def release(self, records: DataFrame) -> None:
        """Takes records (as ``records`` gives them) that can be read out of quarantine."""
        positions = records.select(
            F.lit(self.lake.feed(self.table, self.source)).alias("source"),
            F.col(self.source.shard).cast("string").alias("shard"),
            F.col(self.source.place).cast("string").alias("position"),
            "reason",
        )
        tables.release(self.lake, positions, self.name)

    def _rows(self, records: DataFrame) -> DataFrame:
        """Records that win as rows of the clean table."""
        timed = records.withColumn("_ingested_at", self._ingested_at())
        return timed.select(*columns_of(self.table, self.source).names)

    def _quarantined(self, records: DataFrame) -> DataFrame:
        return records.where(F.col("reason").isNotNull()).select(
            F.lit(self.name).alias("table"),
            F.lit(self.lake.feed(self.table, self.source)).alias("source"),
            F.col(self.source.shard).cast("string").alias("shard"),
            F.col(self.source.place).cast("string").alias("position"),
            "reason",
            "raw",
            F.lit(self.lake.run_id).alias("run_id"),
            self._ingested_at().alias("ingested_at"),
        )

    def _ingested_at(self) -> Column:
        """When the records were taken in."""
        return F.lit(dt.datetime.now(dt.UTC))
