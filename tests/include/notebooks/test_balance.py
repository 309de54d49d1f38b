"""The stream tables are counted, and compared with a ledger that was not made from what is in them."""

from __future__ import annotations

from typing import Any

import pytest

from pinterest_lake import balance
from pinterest_lake.balance import BalanceError
from pinterest_lake.schemas import TABLES
from pinterest_lake.streaming import StreamJob, Streams, TableStream
from pinterest_lake.tables import create_shared_tables
from tests.include.notebooks.conftest import FakeDbutils, Workspace
from tests.include.notebooks.test_streaming import (
    SOURCE,
    Crash,
    Folders,
    check,
    progress_of,
    rows_of,
    run,
    some,
)


def test_rows_that_were_changed_are_told_and_a_rebuild_mends_them(workspace: Workspace) -> None:
    """Doubled rows and lost ones, in a clean table and in quarantine; then the job goes on as ever."""
    spark, lake = workspace.spark, workspace.lake()
    streams = Folders(workspace.storage.parent / "streams")
    records = {table: some(table, 0, 8) for table in TABLES}
    for table, there in records.items():
        streams.put(spark, table, there)
    run(workspace, streams, "a")
    counted = workspace.run("check_streams")
    assert counted["pinterest_geo_table"] == {"rows": 5, "posts": 5, "held": 1, "positions": 1}

    geo, pin, quarantine = (
        lake.table(name) for name in ("pinterest_geo_table", "pinterest_pin_table", "quarantine")
    )
    twice = spark.table(geo).where("ind < 2").collect()
    spark.createDataFrame(twice, spark.table(geo).schema).write.format("delta").mode("append").saveAsTable(
        geo
    )
    spark.sql(f"DELETE FROM {pin} WHERE ind = 3")
    held = spark.table(quarantine).where("`table` = 'pinterest_user_table'").collect()
    more = spark.createDataFrame(held, spark.table(quarantine).schema)
    more.write.format("delta").mode("append").saveAsTable(quarantine)
    spark.sql(f"DELETE FROM {quarantine} WHERE `table` = 'pinterest_pin_table'")
    with pytest.raises(BalanceError) as raised:
        workspace.run("check_streams")
    assert str(raised.value) == (
        "The stream tables are not what their ledger says: "
        "pinterest_pin_table: 4 rows (5 expected); "
        "pinterest_pin_table: 0 in quarantine (1 expected); "
        "pinterest_geo_table: 7 rows for 5 posts; "
        "pinterest_geo_table: 7 rows (5 expected); "
        "pinterest_user_table: 1 records are in quarantine, in 2 rows; "
        "pinterest_user_table: 2 in quarantine (1 expected). "
        "Rows were changed by hand, or a table was restored to an older version. Run the notebook kinesis_streams with "
        "rebuild=true: it reads again what the streams still hold, leaves one row a post, and counts anew."
    )

    checkpoints = str(workspace.storage.parent / "checkpoints")
    told = StreamJob(spark.newSession(), FakeDbutils(), workspace.lake("b")).rebuild(streams, checkpoints)
    check(workspace, records)
    assert workspace.run("check_streams") == counted
    assert progress_of(workspace)["streams"] == told
    for table in records:
        streams.put(spark, table, more_records := some(table, 20, 5))
        records[table] |= more_records
    run(workspace, streams, "c")
    check(workspace, records)
    workspace.run("check_streams")


def test_a_step_that_may_not_have_been_written_is_no_imbalance(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is in the middle of a micro-batch, or has died there: its rows may be there or not."""
    spark, lake = workspace.spark, workspace.lake()
    create_shared_tables(spark, lake)
    streams = Streams(spark, lake)

    def take(first: int) -> None:
        frames = {table: spark.createDataFrame(rows_of(some(table, first, 8)), SOURCE) for table in TABLES}
        streams.take_in(streams.records(frames), 0)

    take(0)
    write = TableStream.write

    def dying(stream: TableStream, *arguments: Any) -> None:
        if stream.table == "geo":
            raise Crash
        write(stream, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(TableStream, "write", dying)
        with pytest.raises(Crash):
            take(20)
    found = balance.check(spark, lake, {})
    assert [counts.held for counts in found.values()] == [2, 1, 2]
    settled = {stream: {"committed": {"shardId-000000000000": "9" * 60}} for stream in streams.names.values()}
    with pytest.raises(BalanceError, match=r"geo_table: 1 in quarantine \(2 expected\)\."):
        balance.check(spark, lake, settled)
