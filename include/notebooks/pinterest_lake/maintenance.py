"""Keeps the tables small: OPTIMIZE puts small files together, VACUUM deletes those that no version needs.

The tables of the streams put their files together themselves: a stream that writes while somebody else does would
have to try again.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from pinterest_lake.answers import ANSWER_SETS_TABLE, ANSWERS
from pinterest_lake.expectations import QUALITY_TABLE
from pinterest_lake.lake import Lake, SettingsError
from pinterest_lake.ledger import LEDGER_TABLE
from pinterest_lake.schemas import STREAMS, TABLES, TOPICS
from pinterest_lake.tables import QUARANTINE_TABLE

SAFE_HOURS = 168
"""Delta refuses less: a reader or a writer may need the files of a version that is no longer the newest."""


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
    alone += [table for table, _ in ANSWERS.values()] + [ANSWER_SETS_TABLE, QUALITY_TABLE]
    parts = {**dict.fromkeys(alone, ""), **shared}
    done = {}
    for name in [*parts, *(lake.clean(table, STREAMS) for table in TABLES)]:
        table = lake.table(name)
        if not spark.catalog.tableExists(table):
            continue
        if name in parts:
            metrics = spark.sql(f"OPTIMIZE {table}{parts[name]}").select("metrics.numFilesRemoved").collect()
            done[name] = int(metrics[0][0])
        spark.sql(f"VACUUM {table} RETAIN {hours} HOURS")
    return done
