"""Creates, reads and writes the tables. Every write can be repeated: the rows decide, by their positions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.utils import AnalysisException

from pinterest_lake.lake import Lake
from pinterest_lake.schemas import CONSTRAINTS, LEDGER, QUARANTINE, STREAMS, Source, columns_of

QUARANTINE_TABLE = "quarantine"
STAGING_PREFIX = "_staging_"
"""Begins the names of tables that live as long as one step. A driver that was killed may leave one behind."""
_MANY_COMMITS = {"delta.checkpointInterval": "100"}
"""For tables that get commits by the second: a checkpoint takes longer than the commits it is written between."""
_READABLE = {"delta.enableDeletionVectors": "false"}
"""Unity Catalog switches them on for new tables, and readers without Spark then refuse the table."""
_TRIES = 10
_SECONDS_BETWEEN_TRIES = 0.5
_ALTERED_MEANWHILE = (
    *("DELTA_CONSTRAINT_ALREADY_EXISTS", "DELTA_METADATA_CHANGED", "DELTA_PROTOCOL_CHANGED"),
    # the other's table before its first commit, and between that and its entry in the catalog
    *("DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION", "TABLE_OR_VIEW_ALREADY_EXISTS", "AlreadyExistsException"),
)
_QUARANTINE_KEY = ["table", "source", "shard", "position"]


@dataclass(frozen=True)
class Transaction:
    """Makes a commit one of a numbered row: Delta leaves out one that is not later than the writer's last."""

    writer: str
    version: int

    def of(self, table: str) -> Transaction:
        """The same for a writer's commits for one clean table, where others follow for other tables."""
        return Transaction(f"{self.writer}/{table}", self.version)


def create_table(
    spark: SparkSession,
    name: str,
    schema: T.StructType,
    comment: str,
    *,
    partitioned_by: Sequence[str] = (),
    properties: Mapping[str, str] | None = None,
) -> None:
    """Creates a Delta table with comments and properties, unless it exists. ``name`` is full and quoted."""
    if spark.catalog.tableExists(name):
        return
    columns = ", ".join(
        f"`{field.name}` {field.dataType.simpleString()} COMMENT '{_quoted(field.metadata['comment'])}'"
        for field in schema.fields
    )
    partitions = ", ".join(f"`{column}`" for column in partitioned_by)
    told = ", ".join(f"'{key}' = '{value}'" for key, value in {**_READABLE, **(properties or {})}.items())
    create = (
        f"CREATE TABLE IF NOT EXISTS {name} ({columns}) USING DELTA "
        + (f"PARTITIONED BY ({partitions}) " if partitions else "")
        + f"COMMENT '{_quoted(comment)}' TBLPROPERTIES ({told})"
    )
    _beside_others(lambda: spark.sql(create))


def create_shared_tables(spark: SparkSession, lake: Lake) -> None:
    """Creates the schema, the quarantine and the ledger, unless they exist."""
    spark.sql(f"CREATE SCHEMA IF NOT EXISTS {lake.namespace}")
    # parted by table, so that notebooks that write side by side never touch the same files
    create_table(
        spark,
        lake.table(QUARANTINE_TABLE),
        QUARANTINE,
        "Records that cannot be read, and why",
        partitioned_by=["table"],
    )
    create_table(
        spark,
        lake.table("ledger"),
        LEDGER,
        "What was read and what became of it",
        partitioned_by=["table", "run_id"],
        # read by its partitions alone: statistics of its columns would serve nobody
        properties={**_MANY_COMMITS, "delta.dataSkippingNumIndexedCols": "0"},
    )


def create_clean_table(spark: SparkSession, lake: Lake, table: str, source: Source) -> str:
    """Creates a clean table unless it exists; gives its full name."""
    name = lake.table(lake.clean(table, source))
    comment = f"Clean {table} records, one row for each post, the newest record of it"
    properties = _MANY_COMMITS if source is STREAMS else {}
    create_table(spark, name, columns_of(table, source), comment, properties=properties)
    for constraint, check in CONSTRAINTS[table].items():
        _constrain(spark, name, constraint, check)
    return name


def _constrain(spark: SparkSession, name: str, constraint: str, check: str) -> None:
    """Add a constraint to a table unless it has one of that name."""

    def add() -> None:
        if constraint not in _constraints_of(spark, name):
            spark.sql(f"ALTER TABLE {name} ADD CONSTRAINT {constraint} CHECK ({check})")

    _beside_others(add)


def _beside_others(step: Callable[[], object]) -> None:
    """Take a step that makes or alters a table; again, where another run does the same at this moment.

    Delta then refuses one of the two, and what that one has left to do is less.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            step()
            return
        except Exception as error:
            if not tries_left or not any(sign in str(error) for sign in _ALTERED_MEANWHILE):
                raise
            time.sleep(_SECONDS_BETWEEN_TRIES)


def _constraints_of(spark: SparkSession, name: str) -> set[str]:
    rows = spark.sql(f"SHOW TBLPROPERTIES {name}").collect()
    prefix = "delta.constraints."
    return {row["key"].removeprefix(prefix) for row in rows if row["key"].startswith(prefix)}


def append_quarantine(lake: Lake, rows: DataFrame, table: str, writer: str, version: int) -> None:
    """Adds records to the quarantine, unless they are in it. ``rows`` have the columns of ``QUARANTINE``."""
    name = lake.table(QUARANTINE_TABLE)
    held = rows.sparkSession.table(name).where(F.col("table") == table).select(*_QUARANTINE_KEY)
    new = rows.join(held, on=_QUARANTINE_KEY, how="left_anti").select(*QUARANTINE.names)
    if writer:
        append_new(name, new, writer, version)
    else:
        append(name, new)


def replace_quarantine(lake: Lake, rows: DataFrame, table: str, writer: str, version: int) -> None:
    """Puts records in the place of all that is held of a table, unless ``writer`` has come further."""
    name, condition = lake.table(QUARANTINE_TABLE), f"`table` = '{table}'"
    overwrite = rows.select(*QUARANTINE.names).write.format("delta").mode("overwrite")
    overwrite.options(replaceWhere=condition, **_transaction(writer, version)).saveAsTable(name)


def release(lake: Lake, records: DataFrame, table: str) -> None:
    """Takes records out of the quarantine; those that still have a ``reason`` stay, with that reason.

    ``records``: ``source``, ``shard``, ``position``, ``reason``. One commit, and repeating it changes nothing.
    """
    same = " AND ".join(f"t.`{name}` = s.`{name}`" for name in _QUARANTINE_KEY if name != "table")
    _merge(
        lake.table(QUARANTINE_TABLE),
        records,
        f"""ON t.`table` = '{table}' AND {same}
        WHEN MATCHED AND s.reason IS NULL THEN DELETE
        WHEN MATCHED THEN UPDATE SET reason = s.reason""",
    )


def merge_newest(name: str, rows: DataFrame, source: Source, transaction: Transaction | None = None) -> None:
    """Puts rows, one for each post, into a clean table where they are newer than what it has."""
    with _MERGES.part_of(rows.sparkSession, transaction):
        _merge(
            name,
            rows,
            f"""ON t.ind = s.ind
            WHEN MATCHED AND {source.order_sql("s")} > {source.order_sql("t")} THEN UPDATE SET *
            WHEN NOT MATCHED THEN INSERT *""",
        )


def _merge(name: str, rows: DataFrame, clauses: str) -> None:
    """Merges rows (alias ``s``) into a table (alias ``t``).

    In SQL, which every Spark takes: Delta's Python class needs a library beside a Spark Connect server.
    """
    rows.sparkSession.sql(f"MERGE INTO {name} t USING {{rows}} s {clauses}", rows=rows)


def frame_of(spark: SparkSession, rows: Sequence[Mapping[str, Any]], schema: T.StructType) -> DataFrame:
    """A few rows as a frame of one partition. By Arrow: tuples would be sent through a Python worker."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=to_arrow_schema(schema))
    return spark.createDataFrame(table, schema).coalesce(1)


def append(name: str, rows: DataFrame, transaction: Transaction | None = None) -> None:
    """Appends rows, unless the transaction's writer has come further."""
    rows.write.format("delta").mode("append").options(**_options(transaction)).saveAsTable(name)


def append_new(name: str, rows: DataFrame, writer: str, version: int) -> None:
    """Appends rows, unless ``writer`` has written as ``version``, or as a later one, before.

    To know that, Delta reads the whole state of the table: three times what the append itself takes. It refuses to
    say while the writer is at work elsewhere; then it is asked again.
    """
    write = rows.write.format("delta").mode("append").options(**_transaction(writer, version))
    for tries_left in (2, 1, 0):
        try:
            write.saveAsTable(name)
            return
        except Exception as error:
            if not tries_left or "DELTA_CONCURRENT_TRANSACTION" not in str(error):
                raise


def replace_where(name: str, rows: DataFrame, condition: str, transaction: Transaction | None = None) -> None:
    """Puts rows, which must meet the condition, in the place of all that meet it; see ``append``."""
    overwrite = rows.write.format("delta").mode("overwrite").option("replaceWhere", condition)
    overwrite.options(**_options(transaction)).saveAsTable(name)


def replace_rows(name: str, rows: DataFrame, writer: str, version: int) -> None:
    """Puts rows in the place of all that a table has, in one commit, unless ``writer`` has come further."""
    rows.write.format("delta").mode("overwrite").options(**_transaction(writer, version)).saveAsTable(name)


def _transaction(writer: str, version: int) -> dict[str, Any]:
    return {"txnAppId": writer, "txnVersion": version}


def _options(transaction: Transaction | None) -> dict[str, Any]:
    return _transaction(transaction.writer, transaction.version) if transaction else {}


class _Merges:
    """Has MERGE statements carry transactions, which Spark takes from the session's settings only.

    Those that run side by side share one transaction; one with another waits.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._transaction: Transaction | None = None
        self._running = 0

    @contextmanager
    def part_of(self, spark: SparkSession, transaction: Transaction | None) -> Iterator[None]:
        """Make what is merged within the block part of a transaction."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running or self._transaction == transaction)
            self._transaction = transaction
            self._running += 1
            for name, value in _options(transaction).items():
                spark.conf.set(f"spark.databricks.delta.write.{name}", str(value))
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                if not self._running:
                    for name in _options(transaction):
                        spark.conf.unset(f"spark.databricks.delta.write.{name}")
                    self._changed.notify_all()


_MERGES = _Merges()


@contextmanager
def kept(frame: DataFrame, lake: Lake) -> Iterator[DataFrame]:
    """Compute a frame once for all uses in the block.

    Serverless compute refuses ``persist``: there the frame is written to a table and read back. Without either,
    each use would read the objects again, perhaps longer ones, and Spark would plan all of it as one query, which
    takes minutes.
    """
    with _persisted(frame) or _staged(frame, lake) as computed:
        yield computed


def _persisted(frame: DataFrame) -> AbstractContextManager[DataFrame] | None:
    """Persist a frame for a block; None where the compute refuses to."""
    try:
        persisted = frame.persist()
    except AnalysisException:
        return None

    @contextmanager
    def block() -> Iterator[DataFrame]:
        try:
            yield persisted
        finally:
            persisted.unpersist()

    return block()


@contextmanager
def _staged(frame: DataFrame, lake: Lake) -> Iterator[DataFrame]:
    """Write a frame to a table of this block's own, which is dropped afterwards."""
    name = lake.table(f"{STAGING_PREFIX}{uuid4().hex}")
    try:
        frame.write.format("delta").saveAsTable(name)
        yield frame.sparkSession.table(name)
    finally:
        frame.sparkSession.sql(f"DROP TABLE IF EXISTS {name}")


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
