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
from pyspark.sql.types import StructField, StructType

from pinterest_lake import questions
from pinterest_lake.expectations import Facts, unmatched
from pinterest_lake.lake import Lake
from pinterest_lake.ledger import COMMITTED, PLANNED, Counts, Ledger, OverlapError, run_entry
from pinterest_lake.schemas import ANSWER_SETS, STREAMS, TABLES, TOPICS, Source, clean_columns, flags_of
from pinterest_lake.tables import QUARANTINE_TABLE, append, create_table, frame_of, kept

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

TITLES = {
    "q1": "Most popular category in each country",
    "q2_counts": "Posts of each category in each year, 2018 to 2022",
    "q2_winners": "Most popular category in each year, 2018 to 2022",
    "q3_per_country": "User with the most followers in each country",
    "q3_top_country": "Country with the most followed user",
    "q4": "Most popular category in each age group",
    "q5": "Median follower count of each age group",
    "q6": "Users who joined in each year, 2015 to 2020",
    "q7": "Median follower count by joining year, 2015 to 2020",
    "q8": "Median follower count by joining year, 2015 to 2020, and age group",
}
"""What each answer tells: the comment of its table."""

_COLUMNS = {
    "country": "country of the post",
    "category": "category of the pin",
    "category_count": "posts of that category",
    "post_year": "year the post was made in",
    "poster_name": "who posted the pin",
    "follower_count": "most followers that the poster shows in that country",
    "age_group": "ages of the users, both ends included; +50 starts at 51",
    "median_follower_count": "exact median over posts; the mean of the two middle counts where there are two",
    "year_joined": "year the user joined in",
    "number_users_joined": "different users: name, age and joining date",
}

ANSWER_SETS_TABLE = "answer_sets"
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
    title: str
    schema: StructType
    rows: list[Row]

    def frame(self, spark: SparkSession) -> DataFrame:
        """The answer as a frame of one partition, so that it keeps its order."""
        return frame_of(spark, [row.asDict() for row in self.rows], self.schema)


@dataclass(frozen=True)
class Snapshot:
    """The clean tables and the quarantine as of one moment, and the ledger of each table then."""

    spark: SparkSession
    lake: Lake
    source: Source
    versions: dict[str, int]
    ledgers: dict[str, Ledger]

    def table(self, name: str) -> DataFrame:
        """A table as it was then."""
        return _at(self.spark, self.lake.table(name), self.versions[name])

    def clean(self, table: str) -> DataFrame:
        """The clean table of pin, geo or user as it was then."""
        return self.table(self.lake.clean(table, self.source))


def snapshot(spark: SparkSession, lake: Lake, source: Source) -> Snapshot:
    """Take the tables at a moment in which no run is at work on them.

    Everything that a run writes lies between the plan and the commit of a step. So the versions belong together if no
    step was open before they were read, and none was begun until after. Raises OverlapError otherwise. The streams
    have no commits, and are taken as they are.
    """

    def ledgers() -> dict[str, Ledger]:
        return {table: Ledger(spark, lake, lake.clean(table, source)) for table in TABLES}

    def steps(of: dict[str, Ledger]) -> dict[str, int]:
        return {table: ledger.check_settled() for table, ledger in of.items()} if source is TOPICS else {}

    before = steps(ledgers())
    names = [*(lake.clean(table, source) for table in TABLES), QUARANTINE_TABLE]
    versions = {name: _version(spark, lake.table(name)) for name in names}
    after = ledgers()
    if steps(after) != before:
        raise OverlapError("another run has taken in records while the tables were looked at: try again")
    return Snapshot(spark, lake, source, versions, after)


def ask(moment: Snapshot) -> dict[str, Answer]:
    """The answers by their name in the published object."""
    clean = {table: moment.clean(table).select(*clean_columns(table)) for table in TABLES}
    with kept(questions.posts(clean["pin"], clean["geo"], clean["user"]), moment.lake) as posts:
        result = {}
        for name, (table, function) in ANSWERS.items():
            answer = function(clean["user"] if name == "q6" else posts)
            result[name] = Answer(table, TITLES[name], _commented(answer.schema), answer.collect())
        return result


def write(spark: SparkSession, lake: Lake, source: Source, answers: dict[str, Answer]) -> list[str]:
    """Puts answers in the place of those that were there; gives the tables that have changed.

    Each table is replaced in one commit; one whose rows are the same is left alone. Ten commits cannot be one:
    which versions belong together is told, in one commit after the last, by a row of ``answer_sets``. A reader
    who takes the tables as of the versions of its newest row never sees answers of two runs. Raises OverlapError,
    and tells of no set, when somebody else has written one of the tables meanwhile.
    """
    tables = [answer.table for answer in answers.values()]
    with ThreadPoolExecutor(max_workers=_WRITERS) as pool:
        written = list(
            pool.map(lambda answer: _write(spark, lake.table(answer.table), answer), answers.values())
        )
        versions = list(pool.map(lambda table: _version(spark, lake.table(table)), tables))
    for answer, (_, version), found in zip(answers.values(), written, versions, strict=True):
        if version != found and not _holds(spark, lake.table(answer.table), answer, found):
            raise OverlapError(f"{answer.table}: another run has written it meanwhile. Run queries again.")
    _tell_set(spark, lake, source, dict(zip(tables, versions, strict=True)))
    return [table for table, (new, _) in zip(tables, written, strict=True) if new]


def _tell_set(spark: SparkSession, lake: Lake, source: Source, versions: dict[str, int]) -> None:
    """Appends a row for a set of answers, unless the newest row tells of the same."""
    name = lake.table(ANSWER_SETS_TABLE)
    create_table(spark, name, ANSWER_SETS, "Which versions of the ten answer tables belong together")
    last = spark.table(name).orderBy(F.desc("at")).limit(1).collect()
    if last and last[0]["versions"] == versions and last[0]["source"] == source.name:
        return
    row = {"run_id": lake.run_id, "source": source.name, "at": dt.datetime.now(dt.UTC), "versions": versions}
    append(name, frame_of(spark, [row], ANSWER_SETS))


def _commented(schema: StructType) -> StructType:
    return StructType([
        StructField(field.name, field.dataType, True, {"comment": _COLUMNS[field.name]})
        for field in schema.fields
    ])


def _version(spark: SparkSession, table: str) -> int:
    return int(spark.sql(f"DESCRIBE HISTORY {table} LIMIT 1").select("version").collect()[0][0])


def _holds(spark: SparkSession, table: str, answer: Answer, version: int) -> bool:
    """Return whether a version of an answer table has exactly the rows of an answer."""
    there = _at(spark, table, version)
    return bool(there.columns == answer.schema.names and there.collect() == answer.rows)


def _at(spark: SparkSession, table: str, version: int) -> DataFrame:
    return spark.read.option("versionAsOf", version).table(table)


def _write(spark: SparkSession, table: str, answer: Answer) -> tuple[bool, int]:
    """Write an answer unless it is there; return whether it was written, and the version that holds it."""
    create_table(spark, table, answer.schema, answer.title)
    version = _version(spark, table)
    if _holds(spark, table, answer, version):
        return False, version
    answer.frame(spark).write.format("delta").mode("overwrite").option("overwriteSchema", "true").saveAsTable(
        table
    )
    return True, version + 1


def facts(moment: Snapshot) -> dict[str, Facts]:
    """What is known of each clean table: its counts, of this run and of all runs, and what they are judged by.

    The total of what was read and superseded comes from the ledger, clean and quarantined from the rows of the
    tables themselves: so the equation holds only when nothing was lost or taken twice.
    """
    missing = unmatched({table: moment.clean(table) for table in TABLES})
    held: dict[str, dict[str, int]] = {}
    groups = moment.table(QUARANTINE_TABLE).groupBy("table", "reason").count().orderBy("reason")
    for row in groups.collect():
        held.setdefault(row["table"], {})[row["reason"]] = row["count"]
    result = {}
    for table in TABLES:
        name = moment.lake.clean(table, moment.source)
        run, total = moment.ledgers[table].counts(COMMITTED if moment.source is TOPICS else PLANNED)
        found, posts, last = _found(table, moment.clean(table), held.get(name, {}), total)
        batch = moment.source is TOPICS
        result[table] = Facts(
            run=run,
            total=found,
            imbalance=_imbalance(name, total, found, posts, _remedy(table, moment.source))
            or (_rolled_back(moment, name) if batch else ""),
            missing=moment.ledgers[table].missing() if batch else {},
            unmatched=missing.get(table, 0),
            age_hours=None if last is None else (dt.datetime.now(dt.UTC).timestamp() - last) / 3600,
        )
    return result


def ledger(facts: dict[str, Facts]) -> dict[str, dict[str, Any]]:
    """The counts of this run and of all runs, for each table, as they are published."""
    return {
        "run": {table: run_entry(table, fact.run) for table, fact in facts.items()},
        "total": {table: run_entry(table, fact.total) for table, fact in facts.items()},
    }


def published(
    lake: Lake, counts: dict[str, Any], quality: list[dict[str, Any]], answers: dict[str, Answer] | None
) -> str:
    """The object of a run, as JSON; of one that did not pass the gate, without answers."""
    found: dict[str, Any] = {
        "run_id": lake.run_id,
        "generated_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "ledger": counts,
        "quality": quality,
    }
    if answers is not None:
        found["answers"] = {name: [row.asDict() for row in answer.rows] for name, answer in answers.items()}
    return json.dumps(found, ensure_ascii=False)


def _found(
    table: str, rows: DataFrame, held: dict[str, int], counted: Counts
) -> tuple[Counts, int, float | None]:
    """What the tables hold, beside what only the ledger knows.

    And how many different posts; and when the newest row was taken in (Unix time).
    """
    flags = [F.coalesce(F.sum(F.col(name).cast("int")), F.lit(0)) for name in flags_of(table)]
    last = F.unix_micros(F.max("_ingested_at")) / 1e6
    clean, posts, last_row, *flagged = rows.agg(
        F.count("*"), F.count_distinct("ind"), last, *flags
    ).collect()[0]
    counts = Counts(
        read=counted.read,
        clean=clean,
        superseded=counted.superseded + counted.replaced,
        quarantined=sum(held.values()),
        unparsable=sum(flagged),
        by_reason=held,
    )
    return counts, posts, last_row


def _rolled_back(moment: Snapshot, name: str) -> str:
    """Say that a table was restored to an older version and not rebuilt since; empty when it was not.

    Where newer versions of posts had replaced older ones, no count tells.
    """
    history = moment.spark.sql(f"DESCRIBE HISTORY {moment.lake.table(name)}")
    known = history.where(F.col("version") <= moment.versions[name]).orderBy(F.desc("version"))
    for row in known.select("version", "operation", "operationParameters").collect():
        if row["operation"] == "RESTORE":
            return (
                f"{name} was restored to an older version (by version {row['version']}), and records that were taken "
                f"in are not read again: run clean_{name} with full_refresh=true to rebuild it"
            )
        if "REPLACE" in row["operation"] or (row["operationParameters"] or {}).get("mode") == "Overwrite":
            break
    return ""


def _remedy(table: str, source: Source) -> str:
    return (
        f"clean_{table} with full_refresh=true" if source is TOPICS else "kinesis_streams with rebuild=true"
    )


def _imbalance(name: str, counted: Counts, found: Counts, posts: int, remedy: str) -> str:
    """Where the tables are not what the ledger says; empty when they are."""
    if posts != found.clean:
        return (
            f"{name} has {found.clean:,} rows of {posts:,} posts: {found.clean - posts:,} rows are doubled. Somebody "
            f"else has written to it: run {remedy} to rebuild it"
        )
    expected = counted.clean - counted.replaced
    accounted = found.clean + found.superseded + found.quarantined
    if found.read == accounted and found.clean == expected and found.quarantined == counted.quarantined:
        return ""
    return (
        f"{found.read:,} records were read, but {accounted:,} are accounted for ({found.clean:,} clean rows, "
        f"{found.superseded:,} superseded, {found.quarantined:,} in quarantine; the ledger expects {expected:,} "
        f"rows and {counted.quarantined:,} in quarantine). Records were lost or rows changed by hand: run {remedy} "
        f"to rebuild {name}"
    )
