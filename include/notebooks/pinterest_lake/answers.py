"""Asks the eight questions, writes the ten answer tables, and gives the object that is published."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession

from pinterest_lake import questions
from pinterest_lake.lake import Lake
from pinterest_lake.ledger import COMMITTED, PLANNED, Counts, Ledger, LedgerError, run_entry
from pinterest_lake.schemas import STREAMS, TABLES, TOPICS, Source, clean_columns
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


def source_named(name: str) -> Source:
    """``batch`` or ``stream``. Raises ValueError for anything else."""
    for source in (TOPICS, STREAMS):
        if source.name == name:
            return source
    raise ValueError(f"widget 'source' is {name!r}; it must be 'batch' or 'stream'")


def ask(spark: SparkSession, lake: Lake, source: Source) -> dict[str, DataFrame]:
    """The answers by their name in the published object, each a small frame that is already computed."""
    clean = {
        table: spark.table(lake.table(lake.clean(table, source))).select(*clean_columns(table))
        for table in TABLES
    }
    with kept(questions.posts(clean["pin"], clean["geo"], clean["user"])) as posts:
        return {
            name: _computed(spark, function(clean["user"] if name == "q6" else posts))
            for name, (_, function) in ANSWERS.items()
        }


def write(spark: SparkSession, lake: Lake, answers: dict[str, DataFrame]) -> None:
    """Puts the answers in the place of those that were there, each table in one commit."""

    def store(name: str) -> None:
        table, _ = ANSWERS[name]
        answers[name].coalesce(1).write.format("delta").mode("overwrite").option(
            "overwriteSchema", "true"
        ).saveAsTable(lake.table(table))

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(store, ANSWERS))


def ledger(spark: SparkSession, lake: Lake, source: Source) -> dict[str, dict[str, Any]]:
    """The counts of this run and of all runs, for each table. Raises LedgerError when they do not balance.

    The total of what was read and superseded comes from the ledger, clean and quarantined from the rows of the
    tables themselves: so the equation holds only when nothing was lost or taken twice.
    """
    result: dict[str, dict[str, Any]] = {"run": {}, "total": {}}
    for table in TABLES:
        name = lake.clean(table, source)
        run, total = Ledger(spark, lake, name).counts(COMMITTED if source is TOPICS else PLANNED)
        found = _found(spark, lake, table, name, total)
        _check(name, total, found)
        result["run"][table] = run_entry(table, run)
        result["total"][table] = run_entry(table, found)
    return result


def published(lake: Lake, answers: dict[str, DataFrame], counts: dict[str, Any]) -> str:
    """The object that is published, as JSON."""
    return json.dumps(
        {
            "run_id": lake.run_id,
            "generated_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "ledger": counts,
            "answers": {name: [row.asDict() for row in frame.collect()] for name, frame in answers.items()},
        },
        ensure_ascii=False,
    )


def _computed(spark: SparkSession, answer: DataFrame) -> DataFrame:
    rows: list[Row] = answer.collect()
    return spark.createDataFrame(rows, answer.schema)


def _found(spark: SparkSession, lake: Lake, table: str, name: str, counted: Counts) -> Counts:
    """What the tables hold, beside what only the ledger knows."""
    rows = spark.table(lake.table(name))
    held = spark.table(lake.table(QUARANTINE_TABLE)).where(f"`table` = '{name}'").groupBy("reason").count()
    by_reason = {row["reason"]: row["count"] for row in held.orderBy("reason").collect()}
    unparsable = rows.where("follower_count_unparsable").count() if table == "pin" else 0
    return Counts(
        read=counted.read,
        clean=rows.count(),
        superseded=counted.superseded + counted.replaced,
        quarantined=sum(by_reason.values()),
        unparsable=unparsable,
        by_reason=by_reason,
    )


def _check(name: str, counted: Counts, found: Counts) -> None:
    expected = counted.clean - counted.replaced
    accounted = found.clean + found.superseded + found.quarantined
    if found.read == accounted and found.clean == expected and found.quarantined == counted.quarantined:
        return
    raise LedgerError(
        f"The ledger of {name} does not balance: {found.read} records were read, but {accounted} are accounted "
        f"for ({found.clean} clean rows, {found.superseded} superseded, {found.quarantined} in quarantine; "
        f"the ledger expects {expected} rows and {counted.quarantined} in quarantine). Records were lost or "
        f"rows changed by hand. Nothing is published. Run clean_{name} with full_refresh=true to rebuild {name}."
    )
