"""Compares the stream tables with the ledger of their job, from outside: rows and posts are counted, not added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pinterest_lake.lake import Lake
from pinterest_lake.ledger import PLANNED, Counts, Ledger, Step
from pinterest_lake.marks import later
from pinterest_lake.schemas import STREAMS, TABLES
from pinterest_lake.tables import QUARANTINE_TABLE


class BalanceError(Exception):
    """A stream table is not what its ledger says; the text says by how much, and what to do."""


@dataclass(frozen=True)
class Found:
    """What is counted in one clean table, and in the quarantine for it."""

    rows: int
    posts: int
    held: int
    positions: int


@dataclass(frozen=True)
class Expected:
    """How many rows, and records in quarantine, there are by the ledger: at least and at most.

    The job may be at work: what its last step has counted may not have been written, and it goes on meanwhile.
    """

    rows: tuple[int, int]
    held: tuple[int, int]

    @classmethod
    def between(cls, least: Counts, most: Counts) -> Expected:
        """What there is at any moment between two of the ledger."""
        first, last = least.standing(), most.standing()
        return cls((first.clean, last.clean), (first.quarantined, last.quarantined))


def check(spark: SparkSession, lake: Lake, told: Mapping[str, Any]) -> dict[str, Found]:
    """Counts what is in the stream tables, and in quarantine for them.

    ``told``: what the job has told in its progress object, by stream. Raises BalanceError unless each table has one
    row a post, each record is in quarantine once, and there are as many as the ledger says.
    """
    found, problems = {}, []
    for table in TABLES:
        name = lake.clean(table, STREAMS)
        least = _written(Ledger(spark, lake, name), told.get(lake.feed(table, STREAMS), {}))
        found[name] = _count(spark, lake, name)
        expected = Expected.between(least, Ledger(spark, lake, name).counts(PLANNED)[1])
        problems += [f"{name}: {problem}" for problem in _problems(found[name], expected)]
    if problems:
        raise BalanceError(
            f"The stream tables are not what their ledger says: {'; '.join(problems)}. Rows were changed by hand, or "
            "a table was restored to an older version. Run the notebook kinesis_streams with rebuild=true: it reads "
            "again what the streams still hold, leaves one row a post, and counts anew."
        )
    return found


def _written(ledger: Ledger, told: Mapping[str, Any]) -> Counts:
    """The counts of all that is surely written: without the last step, unless it is told that it is."""
    total = ledger.counts(PLANNED)[1]
    last = ledger.state().pending
    if last is None or _covers(told.get("committed", {}), last):
        return total
    return total + _negative(last.counts)


def _covers(committed: Mapping[str, str], step: Step) -> bool:
    marks = step.progress["marks"]
    return all(later(committed.get(shard, ""), mark) == committed.get(shard) for shard, mark in marks.items())


def _negative(counts: Counts) -> Counts:
    return Counts(clean=-counts.clean, quarantined=-counts.quarantined, replaced=-counts.replaced)


def _count(spark: SparkSession, lake: Lake, name: str) -> Found:
    held = spark.table(lake.table(QUARANTINE_TABLE)).where(F.col("table") == name)
    rows = spark.table(lake.table(name)).agg(F.count("*"), F.count_distinct("ind")).collect()[0]
    kept = held.agg(F.count("*"), F.count_distinct("source", "shard", "position")).collect()[0]
    return Found(*rows, *kept)


def _problems(found: Found, expected: Expected) -> list[str]:
    problems = []
    if found.rows != found.posts:
        problems.append(f"{found.rows:,} rows for {found.posts:,} posts")
    if found.held != found.positions:
        problems.append(f"{found.positions:,} records are in quarantine, in {found.held:,} rows")
    for what, number, (least, most) in (
        ("rows", found.rows, expected.rows),
        ("in quarantine", found.held, expected.held),
    ):
        if not least <= number <= most:
            wanted = f"{least:,}" if least == most else f"{least:,} to {most:,}"
            problems.append(f"{number:,} {what} ({wanted} expected)")
    return problems
