"""Two stream jobs on one schema, and a driver that was thought dead: what the earlier one writes, is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyspark.sql import functions as F

from pinterest_lake import streaming, tables, writers
from pinterest_lake.ledger import Ledger, LedgerError, OverlapError
from pinterest_lake.tables import Transaction
from pinterest_lake.writers import Writer
from tests.include.notebooks.conftest import Workspace
from tests.include.notebooks.test_overlap import meanwhile
from tests.include.notebooks.test_streaming import SOURCE, Crash, Reader, Records, rows_of


@pytest.fixture
def reader(workspace: Workspace) -> Reader:
    return Reader(workspace)


NEW_POSTS = {"posts": 10**6, "strange": 0}


def test_of_two_jobs_the_one_that_came_last_writes(reader: Reader) -> None:
    """Each has its own checkpoint, so that both are given everything."""
    reader.take(reader.put(8, 0))
    early = reader.streams
    reader.start(told={})
    for seed in (1, 2):
        batch = reader.put(10, seed)
        frame = reader.workspace.spark.createDataFrame(rows_of(batch), SOURCE)
        with pytest.raises(
            OverlapError, match="another stream job, run run-2, has taken over the stream tables"
        ):
            early.take_in(early.records({"geo": frame}), 0)
        reader.take(reader.records)
    reader.check()


def is_held_up(reader: Reader, batch: Records, where: Any, name: str, heir: Callable[[], None]) -> None:
    """The driver is held up at a function, and another takes its place meanwhile; then it goes on."""
    zombie = reader.streams
    frame = reader.workspace.spark.createDataFrame(rows_of(batch), SOURCE)
    with meanwhile(where, name, heir), pytest.raises(OverlapError, match="has taken over"):
        zombie.take_in(zombie.records({"geo": frame}), 0)


def test_a_driver_that_was_held_up_anywhere_writes_nothing_more(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes late what its heir has written meanwhile: together with more, or it alone, or nothing yet."""
    reader.take(reader.put(20, 0))
    points: list[tuple[Any, str, dict[str, Any]]] = [
        (streaming, "add_planned", {}),
        (tables, "append", {}),  # to the quarantine: the batch begins with a record that cannot be read
        (tables, "append", NEW_POSTS),
        (tables, "merge_newest", {}),
        (Writer, "check", {}),
    ]
    for seed, (where, name, kind) in enumerate(points, start=1):
        batch = reader.put(10, seed, **kind)
        if kind:  # no record that cannot be read: the first append is that of the rows
            reader.records = {
                at: raw for at, raw in reader.records.items() if raw != b"hostile" or at not in batch
            }
            batch = {at: raw for at, raw in batch.items() if raw != b"hostile"}

        def heir(seed: int = seed, batch: Records = batch) -> None:
            reader.start()
            if seed % 3 == 0:
                return
            reader.take(batch if seed % 3 == 1 else {**batch, **reader.put(3, 50 + seed)})

        is_held_up(reader, batch, where, name, heir)
        reader.take(reader.records)

    monkeypatch.setattr(streaming, "_STEPS_KEPT", 0)
    batch = reader.put(6, 90)

    def another() -> None:
        reader.start()
        reader.take(batch)

    is_held_up(reader, batch, Ledger, "replace", another)
    reader.check()


def test_what_a_driver_writes_again_is_left_out_too_once_there_is_another(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has found a micro-batch that was counted and not written, and is held up before it merges it."""
    reader.take(reader.put(8, 0))
    batch = reader.put(8, 1)
    with monkeypatch.context() as patched, pytest.raises(Crash):
        patched.setattr(streaming.TableStream, "write", lambda *_: (_ for _ in ()).throw(Crash))
        reader.take(batch)
    reader.start()

    def heir() -> None:
        reader.start()
        reader.take({**batch, **reader.put(8, 2)})

    frame = reader.workspace.spark.createDataFrame(rows_of(batch), SOURCE)
    zombie = reader.streams
    # it has nothing to count, and nothing else to write
    with meanwhile(tables, "merge_newest", heir), pytest.raises(OverlapError, match="run-3, has taken over"):
        zombie.take_in(zombie.records({"geo": frame}), 0)
    reader.check()


def test_a_transaction_is_left_out_unless_it_is_later(workspace: Workspace) -> None:
    """Appends, merges and overwrites alike, whatever else the session writes."""
    spark, lake = workspace.spark, workspace.lake()
    tables.create_shared_tables(spark, lake)
    name = tables.create_clean_table(spark, lake, "geo", tables.STREAMS)
    columns = spark.table(name).columns

    def rows(ind: int) -> Any:
        made = {"ind": F.lit(ind), "_shard": F.lit("s"), "_sequence_number": F.lit(str(ind))}
        return spark.range(1).select(*[
            made.get(column, F.lit(None)).cast(spark.table(name).schema[column].dataType).alias(column)
            for column in columns
        ])

    def inds() -> list[int]:
        return sorted(row["ind"] for row in spark.table(name).select("ind").collect())

    tables.append(name, rows(1), Transaction("w", 5))
    tables.append(name, rows(2), Transaction("w", 5))
    tables.merge_newest(name, rows(3), tables.STREAMS, Transaction("w", 4))
    tables.replace_where(name, rows(4), "ind = 4", Transaction("w", 5))
    assert inds() == [1]
    tables.merge_newest(name, rows(5), tables.STREAMS, Transaction("w", 6))
    tables.merge_newest(name, rows(6), tables.STREAMS)
    tables.append(name, rows(7), Transaction("another", 1))
    tables.append(name, rows(8))
    assert inds() == [1, 5, 6, 7, 8]


def test_drivers_that_claim_at_the_same_moment_get_different_numbers(workspace: Workspace) -> None:
    spark = workspace.spark
    tables.create_shared_tables(spark, workspace.lake())
    Writer(spark, workspace.lake("first"))
    claimed: list[Writer] = []
    with meanwhile(writers, "append_new", lambda: claimed.append(Writer(spark, workspace.lake("second")))):
        third = Writer(spark, workspace.lake("third"))
    third.check()
    with pytest.raises(OverlapError, match="run third, has taken over"):
        claimed[0].check()
    numbers = {row["run_id"]: row["number"] for row in workspace.rows("stream_writers")}
    assert numbers == {"first": 1, "second": 2, "third": 3}
    spark.sql(f"RESTORE TABLE {workspace.lake().table('stream_writers')} TO VERSION AS OF 1")
    with pytest.raises(LedgerError, match="does not take claim 2"):
        Writer(spark, workspace.lake("fourth"))


def test_a_record_that_comes_twice_in_a_micro_batch_is_one(reader: Reader) -> None:
    """New posts and such as have a row, readable or not; also where a batch is written again."""
    reader.take(reader.put(10, 0))
    batch = reader.put(10, 1)
    twice = reader.workspace.spark.createDataFrame([*rows_of(batch), *rows_of(batch)], SOURCE)
    reader.take_frame(twice)
    reader.check()
