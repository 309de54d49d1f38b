"""Keeps the tables small: OPTIMIZE puts small files together, VACUUM deletes those that no version needs.

The tables of the streams put their files together themselves: a stream that writes while somebody else does would
have to try again.
"""

from __future__ import annotations

import datetime as dt

from pyspark.sql import SparkSession

from pinterest_lake.answers import ANSWER_SETS_TABLE, ANSWERS
from pinterest_lake.expectations import QUALITY_TABLE
from pinterest_lake.lake import Lake, SettingsError
from pinterest_lake.ledger import LEDGER_TABLE
from pinterest_lake.schemas import STREAMS, TABLES, TOPICS
from pinterest_lake.tables import QUARANTINE_TABLE, STAGING_PREFIX
from pinterest_lake.writers import WRITERS_TABLE

SAFE_HOURS = 168
"""Delta refuses less: a reader or a writer may need the files of a version that is no longer the newest."""

_RETENTION = {"delta.deletedFileRetentionDuration": SAFE_HOURS, "delta.logRetentionDuration": 720}
_STAGING_LIVES = dt.timedelta(days=1)
"""Longer than any step may take."""


def hours_of(text: str) -> int:
    """The widget ``retention_hours``. Raises SettingsError."""
    if not text.strip().isdecimal() or int(text) < SAFE_HOURS:
        raise SettingsError(f"widget 'retention_hours' is {text!r}; it must be at least {SAFE_HOURS}")
    return int(text)


def maintain(spark: SparkSession, lake: Lake, hours: int) -> dict[str, int]:
    """Looks after all tables; gives how many files of each of the batch's were put together."""
    mine = ", ".join(f"'{lake.clean(table, TOPICS)}'" for table in TABLES)
    # the streams write these two as well, each its own partitions
    shared = dict.fromkeys((QUARANTINE_TABLE, LEDGER_TABLE), f" WHERE `table` IN ({mine})")
    alone = [lake.clean(table, TOPICS) for table in TABLES]
    alone += [table for table, _ in ANSWERS.values()] + [ANSWER_SETS_TABLE, QUALITY_TABLE, WRITERS_TABLE]
    parts = {**dict.fromkeys(alone, ""), **shared}
    done = {}
    for name in [*parts, *(lake.clean(table, STREAMS) for table in TABLES)]:
        table = lake.table(name)
        if not spark.catalog.tableExists(table):
            continue
        if name in parts:
            metrics = spark.sql(f"OPTIMIZE {table}{parts[name]}").select("metrics.numFilesRemoved").collect()
            done[name] = int(metrics[0][0])
        _retain(spark, table, hours)
        spark.sql(f"VACUUM {table}")
    _drop_staging(spark, lake)
    return done


def _retain(spark: SparkSession, table: str, hours: int) -> None:
    """Keep a table's versions readable for so long: VACUUM and time travel both go by its properties.

    What VACUUM itself is told (``RETAIN``) counts no more since Databricks Runtime 18. Delta's own value is a week for
    files and a month for the log.
    """
    found = {row["key"]: row["value"] for row in spark.sql(f"SHOW TBLPROPERTIES {table}").collect()}
    wanted = {name: f"interval {max(hours, least)} hours" for name, least in _RETENTION.items()}
    usual = {name: f"interval {least} hours" for name, least in _RETENTION.items()}
    if {**usual, **{name: found[name] for name in usual if name in found}} != wanted:
        told = ", ".join(f"'{name}' = '{value}'" for name, value in wanted.items())
        spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ({told})")


def _drop_staging(spark: SparkSession, lake: Lake) -> None:
    """Drop what drivers that were killed have left of tables that live as long as one step."""
    for row in spark.sql(f"SHOW TABLES IN {lake.namespace} LIKE '{STAGING_PREFIX}*'").collect():
        table = lake.table(row["tableName"])
        made = spark.sql(f"DESCRIBE DETAIL {table}").select("createdAt").collect()[0][0]
        if dt.datetime.now() - made > _STAGING_LIVES:
            spark.sql(f"DROP TABLE IF EXISTS {table}")
