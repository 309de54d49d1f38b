"""Keeps the tables small: OPTIMIZE puts small files together, VACUUM deletes those that no version needs."""

from __future__ import annotations

from pyspark.sql import SparkSession

from pinterest_lake.answers import ANSWER_SETS_TABLE, ANSWERS
from pinterest_lake.expectations import QUALITY_TABLE
from pinterest_lake.lake import Lake, SettingsError
from pinterest_lake.ledger import LEDGER_TABLE
from pinterest_lake.schemas import TABLES, TOPICS
from pinterest_lake.tables import QUARANTINE_TABLE

SAFE_HOURS = 168
"""Delta refuses less: a reader or a writer may need the files of a version that is no longer the newest."""


def hours_of(text: str) -> int:
    """The widget ``retention_hours``. Raises SettingsError."""
    if not text.strip().isdecimal() or int(text) < SAFE_HOURS:
        raise SettingsError(f"widget 'retention_hours' is {text!r}; it must be at least {SAFE_HOURS}")
    return int(text)


def maintain(spark: SparkSession, lake: Lake, hours: int) -> dict[str, int]:
    """Looks after the batch's tables; gives how many files of each were put together."""
    mine = ", ".join(f"'{lake.clean(table, TOPICS)}'" for table in TABLES)
    # the streams write these two as well, each its own partitions
    shared = dict.fromkeys((QUARANTINE_TABLE, LEDGER_TABLE), f" WHERE `table` IN ({mine})")
    alone = [lake.clean(table, TOPICS) for table in TABLES]
    alone += [table for table, _ in ANSWERS.values()] + [ANSWER_SETS_TABLE, QUALITY_TABLE]
    done = {}
    for name, part in {**dict.fromkeys(alone, ""), **shared}.items():
        table = lake.table(name)
        if spark.catalog.tableExists(table):
            metrics = spark.sql(f"OPTIMIZE {table}{part}").select("metrics.numFilesRemoved").collect()
            done[name] = int(metrics[0][0])
            spark.sql(f"VACUUM {table} RETAIN {hours} HOURS")
    return done
