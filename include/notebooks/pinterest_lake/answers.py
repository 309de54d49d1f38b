"""Asks the eight questions, writes the ten answer tables, and gives the object that is published."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from pinterest_lake import questions
from pinterest_lake.lake import Lake
from pinterest_lake.ledger import COMMITTED, PLANNED, Counts, Ledger, LedgerError, run_entry
from pinterest_lake.schemas import STREAMS, TABLES, TOPICS, Source, clean_columns, flags_of
from pinterest_lake.tables import QUARANTINE_TABLE, kept

ANSWERS: dict[str, tuple[str, Callable[[DataFrame], DataFrame]]] = {
    "q1": ("q1_top_category_by_country", questions.top_category_by_country),
    "q2_counts": ("q2_posts_by_category_and_year", questions.posts_by_category_and_year),
    "q2_winners": ("q2_top_category_by_year", questions.top_category_by_year),
    "q3_per_country": ("q3_top_poster_by_country", questions.top_poster_by_country),
    "q3_top_country": ("q3_top_country", questions.top_country),
    "q4": ("q4_top_category_by_age_group", questions.top_category_by_age_group),
    "q5": ("q5_median_followers_by_age_group", questions.median_followers_by_age_group),
    "q6": ("q6_users_joined_by_year", questions.users_joined_by_year),
    "q7": ("q7_median_followers_by_joining_year", questions.median_followers_by_joining_year),
    "q8": (
        "q8_median_followers_by_joining_year_and_age_group",
        questions.median_followers_by_joining_year_and_age_group,
    ),
}
"""Name in the published object → name of the table, and the function of the posts (q6: of the users)."""

_WRITERS = 4


def source_named(name: str) -> Source:
    """``batch`` or ``stream``. Raises ValueError for anything else."""
    for source in (TOPICS, STREAMS):
        if source.name == name:
            return source
    raise ValueError(f"widget 'source' is {name!r}; it must be 'batch' or 'stream'")


@dataclass(frozen=True)
class Answer:
    """One answer: the table it belongs to, its columns, and its rows in their order."""

    table: str
    schema: StructType
    rows: list[Row]

    def frame(self, spark: SparkSession) -> DataFrame:
        """The answer as a frame of one partition, so that it keeps its order."""
        return spark.createDataFrame(self.rows, self.schema).coalesce(1)


def ask(spark: SparkSession, lake: Lake, source: Source) -> dict[str, Answer]:
    """The answers by their name in the published object."""
    clean = {
        table: spark.table(lake.table(lake.clean(table, source))).select(*clean_columns(table))
        for table in TABLES
    }
    with kept(questions.posts(clean["pin"], clean["geo"], clean["user"])) as posts:
        result = {}
        for name, (table, function) in ANSWERS.items():
            answer = function(clean["user"] if name == "q6" else posts)
            result[name] = Answer(table, answer.schema, answer.collect())
        return result


def write(spark: SparkSession, lake: Lake, answers: dict[str, Answer]) -> list[str]:
    """Puts answers in the place of those that were there; gives the tables that have changed.

    Each table is replaced in one commit; one whose rows are the same is left alone.
    """
    with ThreadPoolExecutor(max_workers=_WRITERS) as pool:
        changed = pool.map(lambda answer: _write(spark, lake.table(answer.table), answer), answers.values())
        return [answer.table for answer, new in zip(answers.values(), changed, strict=True) if new]


def _write(spark: SparkSession, table: str, answer: Answer) -> bool:
    if spark.catalog.tableExists(table):
        there = spark.table(table)
        if there.columns == answer.schema.names and there.collect() == answer.rows:
            return False
    answer.frame(spark).write.format("delta").mode("overwrite").option("overwriteSchema", "true").saveAsTable(
        table
    )
    return True


def ledger(spark: SparkSession, lake: Lake, source: Source) -> dict[str, dict[str, Any]]:
    """The counts of this run and of all runs, for each table. Raises LedgerError when they do not balance.

    The total of what was read and superseded comes from the ledger, clean and quarantined from the rows of the
    tables themselves: so the equation holds only when nothing was lost or taken twice.
    """
    held: dict[str, dict[str, int]] = {}
    groups = spark.table(lake.table(QUARANTINE_TABLE)).groupBy("table", "reason").count().orderBy("reason")
    for row in groups.collect():
        held.setdefault(row["table"], {})[row["reason"]] = row["count"]
    result: dict[str, dict[str, Any]] = {"run": {}, "total": {}}
    for table in TABLES:
        name = lake.clean(table, source)
        run, total = Ledger(spark, lake, name).counts(COMMITTED if source is TOPICS else PLANNED)
        found = _found(table, spark.table(lake.table(name)), held.get(name, {}), total)
        _check(table, name, total, found)
        result["run"][table] = run_entry(table, run)
        result["total"][table] = run_entry(table, found)
    return result


def published(lake: Lake, answers: dict[str, Answer], counts: dict[str, Any]) -> str:
    """The object that is published, as JSON."""
    return json.dumps(
        {
            "run_id": lake.run_id,
            "generated_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "ledger": counts,
            "answers": {name: [row.asDict() for row in answer.rows] for name, answer in answers.items()},
        },
        ensure_ascii=False,
    )


def _found(table: str, rows: DataFrame, held: dict[str, int], counted: Counts) -> Counts:
    """What the tables hold, beside what only the ledger knows."""
    flags = [F.coalesce(F.sum(F.col(name).cast("int")), F.lit(0)) for name in flags_of(table)]
    clean, *flagged = rows.agg(F.count("*"), *flags).collect()[0]
    return Counts(
        read=counted.read,
        clean=clean,
        superseded=counted.superseded + counted.replaced,
        quarantined=sum(held.values()),
        unparsable=sum(flagged),
        by_reason=held,
    )


def _check(table: str, name: str, counted: Counts, found: Counts) -> None:
    expected = counted.clean - counted.replaced
    accounted = found.clean + found.superseded + found.quarantined
    if found.read == accounted and found.clean == expected and found.quarantined == counted.quarantined:
        return
    raise LedgerError(
        f"The ledger of {name} does not balance: {found.read} records were read, but {accounted} are accounted "
        f"for ({found.clean} clean rows, {found.superseded} superseded, {found.quarantined} in quarantine; "
        f"the ledger expects {expected} rows and {counted.quarantined} in quarantine). Records were lost or "
        f"rows changed by hand. Nothing is published. Run clean_{table} with full_refresh=true to rebuild {name}."
    )
