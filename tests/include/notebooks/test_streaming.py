"""The streams' way in over whole histories: any crash, any replay, a lost checkpoint; the tables are the model's."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pinterest_lake import streaming, tables
from pinterest_lake.lake import SettingsError
from pinterest_lake.ledger import PLANNED, Ledger, OverlapError
from pinterest_lake.marks import RenumberedError, StreamView
from pinterest_lake.objects import StorageError
from pinterest_lake.schemas import clean_columns
from pinterest_lake.streaming import (
    StopRequested,
    StreamError,
    StreamJob,
    Streams,
    TableStream,
    trigger_of,
)
from pinterest_lake.tables import create_shared_tables
from tests.include.notebooks import model
from tests.include.notebooks.conftest import FakeDbutils, Workspace, workspace_in
from tests.include.notebooks.test_quality import HOSTILE, geo

SOURCE = (
    "partitionKey string, data binary, stream string, shardId string, sequenceNumber string,"
    " approximateArrivalTimestamp timestamp"
)
STREAM = "streaming-pinterest-geo"
FIRST = 10**55 - 20  # so that numbers of 55 and of 56 digits meet
ARRIVED = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

Records = dict[tuple[int, str], bytes]
"""(sequence number, shard) → bytes: in this order, the newest is the last."""


class Crash(Exception):
    """Stands for a driver that is killed."""


def rows_of(records: Records, arrived: dt.datetime = ARRIVED) -> list[tuple[Any, ...]]:
    return [("key", raw, "stream", shard, str(number), arrived) for (number, shard), raw in records.items()]


class Reader:
    """A stream with geo records, and the table it is taken into, start by start."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.records: Records = {}
        self.starts = 0
        self.told: Mapping[str, Any] = {}
        create_shared_tables(workspace.spark, workspace.lake())
        self.start()

    def start(self, *, told: Mapping[str, Any] | None = None, run_id: str = "") -> None:
        """A driver comes up: it knows nothing but what lies in the tables and in the bucket."""
        self.starts += 1
        self.streams = Streams(
            self.workspace.spark,
            self.workspace.lake(run_id or f"run-{self.starts}"),
            tables=["geo"],
            told={STREAM: self.told if told is None else told},
            committed=lambda: self._publish(),  # looked up anew, so that a test may break it
        )

    @property
    def progress(self) -> dict[str, Any]:
        return dict(self.streams.progress[STREAM])

    def _publish(self) -> None:
        self.told = json.loads(json.dumps(self.progress))

    def put(self, count: int, seed: int, shards: int = 2, posts: int = 12, strange: float = 0.25) -> Records:
        """New records: one that cannot be read, versions of ``posts`` posts, each in one shard, and strange ones."""
        pick = random.Random(seed)
        hostile = [
            raw if isinstance(raw, bytes) else raw.encode()
            for name, raw in HOSTILE.items()
            if name != "large"
        ]
        new: Records = {}
        for number in range(len(self.records), len(self.records) + count):
            ind = pick.randrange(posts)
            if not new:
                raw = b"hostile"
            elif pick.random() < strange:
                raw = pick.choice(hostile)
            else:
                raw = geo(ind=ind, country=f"version {number}")
            new[FIRST + number, f"shardId-{ind % shards:012d}"] = raw
        self.records |= new
        return new

    def take(self, records: Records) -> None:
        frame = self.workspace.spark.createDataFrame(rows_of(records), SOURCE)
        self.take_frame(frame)

    def take_frame(self, frame: DataFrame) -> None:
        self.streams.take_in(self.streams.records({"geo": frame}), 0)

    def table(self, name: str) -> Any:
        return self.workspace.spark.table(self.workspace.lake().table(name))

    def check(self) -> None:
        """Rows, quarantine, ledger and progress are the model's."""
        check(self.workspace, {"geo": self.records})
        assert self.progress["committed"] == ends(self.records)


def ends(records: Records) -> dict[str, str]:
    shards = sorted({shard for _, shard in records})
    return {shard: str(max(number for number, of in records if of == shard)) for shard in shards}


def check(workspace: Workspace, records: Mapping[str, Records]) -> None:
    spark, lake = workspace.spark, workspace.lake()
    for table, there in records.items():
        name = f"pinterest_{table}_table"
        rows, fate = model.newest(table, dict(there))
        found = spark.table(lake.table(name))
        columns = [F.col(column).cast("string") for column in clean_columns(table)]
        expected = spark.createDataFrame(
            [tuple(row[column] for column in clean_columns(table)) for row in rows],
            found.select(*clean_columns(table)).schema,
        ).select(*columns)
        assert sorted(map(tuple, found.select(*columns).collect()), key=str) == sorted(
            map(tuple, expected.collect()), key=str
        )
        held = [
            (int(row["position"]), row["shard"], row["reason"], bytes(row["raw"]), row["source"])
            for row in spark.table(lake.table("quarantine")).where(F.col("table") == name).collect()
        ]
        reasons = {position: model.reason(table, raw) for position, raw in there.items()}
        assert sorted(held) == sorted(
            (number, shard, reason, there[number, shard], f"streaming-pinterest-{table}")
            for (number, shard), reason in reasons.items()
            if reason
        )
        total = Ledger(spark, lake, name).counts(PLANNED)[1].standing()
        assert (total.read, total.clean, total.superseded, total.quarantined) == (
            len(there),
            fate["clean"],
            fate["superseded"],
            fate["quarantined"],
        )


@pytest.fixture
def reader(workspace: Workspace) -> Reader:
    return Reader(workspace)


def test_batches_of_several_shards_and_restarts(reader: Reader) -> None:
    for seed in range(2):
        reader.take(reader.put(40, seed, shards=3))
    reader.start()
    reader.take(reader.put(10, 3, shards=3))
    reader.check()


QUARANTINE, ROWS = 1, 2
"""Of a micro-batch's appends to its table, after the ledger's."""
POINTS = [
    (streaming, "add_planned", "before", 1),
    (streaming, "add_planned", "after", 1),
    (tables, "append", "before", QUARANTINE),
    (tables, "append", "after", QUARANTINE),
    (tables, "append", "before", ROWS),
    (tables, "append", "after", ROWS),
    (tables, "merge_newest", "before", 1),
    (tables, "merge_newest", "after", 1),
    (Reader, "_publish", "before", 1),
    (Reader, "_publish", "after", 1),
]


@pytest.mark.parametrize(("checkpoint", "points"), [("kept", POINTS), ("lost", POINTS[1:8])])
def test_a_kill_anywhere(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, checkpoint: str, points: list[tuple[Any, str, str, int]]
) -> None:
    """With its checkpoint, a new driver is given the same batch; without, all there is, in other batches."""
    reader.take(reader.put(20, 0))
    pick = random.Random(1)
    for seed, point in enumerate(points, start=1):
        # rows are appended where all posts are new, and merged where one is not
        batch = reader.put(12, seed, **({"posts": 10**6, "strange": 0} if point[1] == "append" else {}))
        with monkeypatch.context() as patched:
            _crash(patched, *point)
            with pytest.raises(Crash):
                reader.take(batch)
        reader.start()
        if checkpoint == "kept":
            reader.take(batch)
        else:
            reader.put(4, 100 + seed)
            everything = list(reader.records.items())
            # a shard's records keep their order, wherever the batches are cut
            cut = pick.randrange(len(everything) - 20, len(everything))
            for part in (everything[:cut], everything[cut:]):
                reader.take(dict(part))
    reader.check()


def _crash(patched: pytest.MonkeyPatch, where: Any, name: str, when: str, call: int) -> None:
    """Makes a function die at its nth call, before or after it has done its work."""
    function: Callable[..., Any] = getattr(where, name)
    calls = itertools.count(1)

    def dying(*args: Any, **kwargs: Any) -> Any:
        if (dies := next(calls) == call) and when == "before":
            raise Crash
        result = function(*args, **kwargs)
        if dies:
            raise Crash
        return result

    patched.setattr(where, name, dying)


def test_what_was_told_is_believed_of_the_same_ledger_only(reader: Reader) -> None:
    reader.take(reader.put(6, 0))
    written = reader.progress["committed"]
    reader.start(told={})  # the object is lost: the batch may not have been written, for all one knows
    assert reader.progress["committed"] == {}
    reader.start()
    assert reader.progress["committed"] == written
    reader.start(told={**reader.told, "ledger": "of a schema that was dropped"})
    assert reader.progress["committed"] == {}
    beyond = {shard: str(int(number) + 7) for shard, number in written.items()}
    reader.start(told={**reader.told, "committed": {**beyond, "shardId-9": "1"}})
    assert reader.progress["committed"] == written, "what was never counted was never written"
    reader.take(reader.records)
    reader.check()


def test_a_stream_that_was_made_anew_with_smaller_numbers_is_refused(reader: Reader) -> None:
    reader.take(reader.put(4, 0, shards=1))
    again = {(FIRST - 100, "shardId-000000000000"): geo(ind=1)}
    late = reader.workspace.spark.createDataFrame(rows_of(again, ARRIVED + dt.timedelta(hours=1)), SOURCE)
    with pytest.raises(RenumberedError, match="the stream was deleted and made anew"):
        reader.take_frame(late)
    reader.check()


def test_the_ledger_of_a_long_run_stays_short(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_STEPS_KEPT", 2)
    rows = []
    for seed in range(5):
        reader.take(reader.put(5, seed))
        rows.append(reader.table("ledger").count())
    assert rows == [1, 2, 1, 2, 1]
    reader.check()
    reader.start(run_id="run-1")  # another try of the same run
    reader.take(reader.put(5, 9))
    reader.check()
    run, total = Ledger(reader.workspace.spark, reader.workspace.lake("run-1"), "pinterest_geo_table").counts(
        PLANNED
    )
    assert run == total


def test_small_files_are_put_together_now_and_then_also_across_starts(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_SMALL_FILES", 4)
    name = reader.workspace.lake().table("pinterest_geo_table")
    files = []
    for seed in range(6):
        if seed in (1, 5):
            reader.start()
        reader.take(reader.put(5, seed, shards=1, posts=10**6, strange=0))
        files.append(reader.workspace.spark.sql(f"DESCRIBE DETAIL {name}").collect()[0]["numFiles"])
    assert files == [1, 2, 3, 1, 2, 3]
    operations = [
        row["operation"] for row in reader.workspace.spark.sql(f"DESCRIBE HISTORY {name}").collect()
    ]
    assert operations.count("OPTIMIZE") == 1
    reader.check()


def test_each_batch_is_told(reader: Reader) -> None:
    reader.take(reader.put(7, 0))
    [batch] = reader.progress["batches"]
    assert (batch["records"], batch["bytes"]) == (7, sum(map(len, reader.records.values())))
    assert batch["seconds"] > 0
    passed = (dt.datetime.fromisoformat(batch["at"]) - ARRIVED).total_seconds()
    assert batch["latency_seconds"] == pytest.approx(passed, abs=0.01)


def test_a_row_tells_when_kinesis_took_its_record(reader: Reader) -> None:
    reader.take(reader.put(6, 0, strange=0.5))
    for table, column in (("pinterest_geo_table", "_ingested_at"), ("quarantine", "ingested_at")):
        [(moment,)] = reader.table(table).select(F.unix_seconds(column)).distinct().collect()
        assert moment == ARRIVED.timestamp()


def test_a_micro_batch_like_the_last_one_compiles_nothing(reader: Reader, tmp_path: Path) -> None:
    """A number or a time in a plan is a constant in its code, and other code is compiled anew: for seconds."""
    spark = reader.workspace.spark
    compiled = spark._jvm.org.apache.spark.metrics.source.CodegenMetrics.METRIC_COMPILATION_TIME()  # type: ignore[union-attr]
    settings = {"spark.sql.codegen.wholeStage": "true", "spark.sql.codegen.factoryMode": "CODEGEN_ONLY"}
    before = {name: spark.conf.get(name) for name in settings}
    counts = []
    try:
        for name, value in settings.items():
            spark.conf.set(name, value)
        for minute in range(4):
            batch = reader.put(8, minute, shards=1, posts=10**6, strange=0)
            arrived = ARRIVED + dt.timedelta(minutes=2 * minute)
            path = str(tmp_path / str(minute))  # of rows in memory, Spark works much out before it compiles
            spark.createDataFrame(rows_of(batch, arrived), SOURCE).coalesce(1).write.parquet(path)
            reader.take_frame(spark.read.schema(SOURCE).parquet(path))
            counts.append(compiled.getCount())
    finally:
        for name, value in before.items():
            spark.conf.set(name, value)
    assert counts[0] > 0
    assert counts[3] == counts[2]
    reader.check()


def test_what_was_written_is_known_though_checkpoint_and_progress_are_lost_and_nothing_is_doubled(
    reader: Reader,
) -> None:
    for seed in range(2):
        reader.take(reader.put(10, seed))
    reader.start(told={})
    everything = list(reader.records.items())
    for part in (everything[:7], everything[7:]):
        reader.take(dict(part))
    reader.check()


def test_a_kill_between_the_tables_of_a_ledger_that_is_made_short(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each table has its own row, so that one may be short and the others not yet."""
    spark = workspace.spark
    create_shared_tables(spark, workspace.lake())
    records: dict[str, Records] = {table: {} for table in ("pin", "geo", "user")}

    def take(streams: Streams, first: int) -> None:
        for table in records:
            records[table] |= some(table, first, 3)
        frames = {table: spark.createDataFrame(rows_of(there), SOURCE) for table, there in records.items()}
        streams.take_in(streams.records(frames), 0)

    streams = Streams(spark, workspace.lake("a"))
    take(streams, 0)
    monkeypatch.setattr(streaming, "_STEPS_KEPT", 1)
    with monkeypatch.context() as patched:
        _crash(patched, Ledger, "replace", "after", 2)
        with pytest.raises(Crash):
            take(streams, 10)
    take(Streams(spark, workspace.lake("b")), 20)
    check(workspace, records)


def test_of_which_time_records_may_be_lost_stands_in_the_ledger_once(reader: Reader) -> None:
    """Nobody has read since the first of January, and the stream keeps a day. A shard that is gone is forgotten."""
    reader.take(reader.put(6, 0, shards=3, strange=0))
    shards = [f"shardId-{number:012d}" for number in range(3)]
    view = StreamView(24 * 3_600_000, {shards[0]: [], shards[1]: []})
    before = Ledger(reader.workspace.spark, reader.workspace.lake(), "pinterest_geo_table").counts(PLANNED)
    missed = reader.streams.look_back(lambda _: view, None)[STREAM]
    assert [gap["shard"] for gap in missed] == shards
    assert {gap["from"] for gap in missed} == {ARRIVED.isoformat(timespec="milliseconds")}
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(missed[0]["to"])
    assert dt.timedelta(hours=24) <= age < dt.timedelta(hours=25)
    assert reader.progress["gaps"] == missed
    assert sorted(reader.progress["committed"]) == shards[:2]

    reader.start()
    assert reader.progress["gaps"] == missed, "it stands in the ledger"
    assert reader.streams.look_back(lambda _: view, None) == {}
    run = Ledger(reader.workspace.spark, reader.workspace.lake(), "pinterest_geo_table")
    assert run.counts(PLANNED) == before
    reader.take(reader.put(4, 1, shards=2, strange=0))
    assert reader.progress["gaps"] == missed


def test_what_was_read_to_its_end_is_not_missed(reader: Reader) -> None:
    reader.take(reader.put(6, 0, strange=0))
    view = StreamView(24 * 3_600_000, dict.fromkeys(ends(reader.records), ()))
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(hours=23)
    assert reader.streams.look_back(lambda _: view, yesterday.isoformat()) == {}
    assert reader.progress["gaps"] == []


def test_a_stream_that_stops_takes_no_batch(reader: Reader) -> None:
    reader.streams.stop()
    with pytest.raises(StopRequested, match="streaming-pinterest-geo"):
        reader.take(reader.put(3, 0))
    reader.start()
    reader.take(reader.records)
    reader.check()


@pytest.mark.parametrize(
    ("text", "arguments"),
    [("available-now", {"availableNow": True}), ("5 seconds", {"processingTime": "5 seconds"})],
)
def test_trigger(text: str, arguments: dict[str, Any]) -> None:
    assert trigger_of(text) == arguments


@pytest.mark.parametrize("text", ["", "now", "0 seconds", "1 hour", "1 second; drop"])
def test_a_trigger_that_is_none_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="widget 'trigger' is"):
        trigger_of(text)


class Folders:
    """Stands for Kinesis: streams of files, which Spark reads in real micro-batches with real checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, spark: SparkSession, table: str, records: Records) -> None:
        target = self.folder / f"streaming-pinterest-{table}"
        target.mkdir(parents=True, exist_ok=True)
        rows = rows_of(records, dt.datetime.now(dt.UTC))
        spark.createDataFrame(rows, SOURCE).coalesce(1).write.mode("append").parquet(str(target))

    def read(self, spark: SparkSession, stream: str) -> DataFrame:
        target = self.folder / stream
        target.mkdir(parents=True, exist_ok=True)
        return spark.readStream.schema(SOURCE).option("maxFilesPerTrigger", 1).parquet(str(target))


def some(table: str, first: int, count: int) -> Records:
    ind = "index" if table == "pin" else "ind"
    extra = {"pin": "title", "geo": "country", "user": "first_name"}[table]
    return {
        (FIRST + number, "shardId-000000000000"): json.dumps({ind: number % 5, extra: f"v{number}"}).encode()
        for number in range(first, first + count)
    } | {(FIRST + first + count, "shardId-000000000000"): b"hostile"}


@pytest.fixture
def streams(workspace: Workspace) -> Folders:
    return Folders(workspace.storage.parent / "streams")


def run(workspace: Workspace, streams: Any, run_id: str, **arguments: str) -> dict[str, Any]:
    given = {"trigger": "available-now", "stop_path": "", **arguments}
    checkpoints = str(workspace.storage.parent / "checkpoints")
    spark = workspace.spark.newSession()
    return StreamJob(spark, FakeDbutils(), workspace.lake(run_id)).run(streams, checkpoints, **given)


def progress_of(workspace: Workspace) -> dict[str, Any]:
    return dict(json.loads(progress_file(workspace).read_text()))


def progress_file(workspace: Workspace) -> Path:
    return workspace.storage / "streams" / "pinterest" / workspace.schema / "progress.json"


def test_the_job_from_its_streams_to_the_tables(workspace: Workspace, streams: Folders) -> None:
    """Three streams; then the checkpoint is deleted; then it is stopped."""
    records = {table: some(table, 0, 10) for table in ("pin", "geo", "user")}
    for table, there in records.items():
        streams.put(workspace.spark, table, there)
    told = run(workspace, streams, "a")
    check(workspace, records)
    assert progress_of(workspace)["streams"] == told
    pin = told["streaming-pinterest-pin"]
    assert (pin["table"], pin["read"], pin["clean"], pin["superseded"]) == ("pinterest_pin_table", 11, 5, 5)
    assert pin["by_reason"] == {"not_json": 1}
    checkpoints = workspace.storage.parent / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["streaming-pinterest"]
    ledger = pin["ledger"].removesuffix("/pinterest_pin_table")
    assert [path.name for path in (checkpoints / "streaming-pinterest").iterdir()] == [ledger]

    shutil.rmtree(checkpoints)
    for table in records:
        streams.put(workspace.spark, table, more := some(table, 20, 5))
        records[table] = records[table] | more
    run(workspace, streams, "b")
    check(workspace, records)

    stop = workspace.storage / "streams" / "pinterest" / "stop" / "c"
    ended: dict[str, Any] = {}
    job = threading.Thread(
        target=lambda: ended.update(run(workspace, streams, "c", trigger="1 second", stop_path=str(stop)))
    )
    job.start()
    streams.put(workspace.spark, "geo", more := some("geo", 40, 5))
    records["geo"] = records["geo"] | more
    deadline = time.monotonic() + 300
    while progress_of(workspace)["streams"]["streaming-pinterest-geo"]["read"] < len(records["geo"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stop.mkdir(parents=True)
    (stop / "asked").touch()
    job.join(300)
    assert ended["streaming-pinterest-geo"]["committed"] == ends(records["geo"])
    check(workspace, records)


def test_each_schema_tells_its_own_progress_and_begins_at_the_first_record(
    workspace: Workspace, streams: Folders, tmp_path: Path
) -> None:
    """Same bucket, prefix and folder of checkpoints: what one schema has taken is no news of the other."""
    records = {"geo": some("geo", 0, 4)}
    streams.put(workspace.spark, "geo", records["geo"])
    told = run(workspace, streams, "a")
    with workspace_in(workspace.spark, tmp_path / "other") as other:
        other.storage = workspace.storage
        checkpoints = str(workspace.storage.parent / "checkpoints")
        job = StreamJob(workspace.spark.newSession(), FakeDbutils(), other.lake("b"))
        job.run(streams, checkpoints, "available-now", "")
        check(other, records)
        assert progress_of(other)["run_id"] == "b"
    assert progress_of(workspace)["run_id"] == "a"
    assert progress_of(workspace)["streams"] == told


@pytest.mark.parametrize("command", ["ls", "head"])
def test_only_a_missing_progress_object_is_none(workspace: Workspace, command: str) -> None:
    """A storage that fails once says nothing of how far the tables have come."""
    StreamJob(workspace.spark, made := FakeDbutils(), workspace.lake())

    def refused(*_: Any) -> Any:
        raise PermissionError("403 Forbidden")

    setattr(made.fs, command, refused)
    with pytest.raises(StorageError, match=r"progress\.json cannot be read: 403 Forbidden"):
        StreamJob(workspace.spark, made, workspace.lake())


def test_a_job_that_has_been_overtaken_fails_though_nothing_comes(
    workspace: Workspace, streams: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it does not tell its progress in the place of the one that has taken over."""
    early = StreamJob(workspace.spark.newSession(), FakeDbutils(), workspace.lake("early"))
    StreamJob(workspace.spark, FakeDbutils(), workspace.lake("late"))
    checkpoints = str(workspace.storage.parent / "checkpoints")
    monkeypatch.setattr(streaming, "_TELL_SECONDS", 0.0)
    with pytest.raises(OverlapError, match="run late, has taken over"):
        early.run(streams, checkpoints, "1 second", "")
    with pytest.raises(OverlapError, match="run late, has taken over"):
        early.run(streams, checkpoints, "available-now", "")
    assert progress_of(workspace)["run_id"] == "late"


def test_a_job_tells_until_when_it_has_read_everything(workspace: Workspace, streams: Folders) -> None:
    run(workspace, streams, "a")
    told = progress_of(workspace)
    assert told["caught_up_at"] == told["started_at"]
    StreamJob(workspace.spark, FakeDbutils(), workspace.lake("b"))
    assert progress_of(workspace)["caught_up_at"] == told["started_at"]
    progress_file(workspace).write_text(json.dumps({**told, "ledger": "of a schema that was dropped"}))
    StreamJob(workspace.spark, FakeDbutils(), workspace.lake("c"))
    assert progress_of(workspace)["caught_up_at"] is None


def test_a_table_that_cannot_be_written_holds_up_no_other_and_loses_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark = workspace.spark
    records = {table: some(table, 0, 6) for table in ("pin", "geo", "user")}
    frames = {table: spark.createDataFrame(rows_of(there), SOURCE) for table, there in records.items()}
    create_shared_tables(spark, workspace.lake())

    def take_in(run_id: str) -> None:
        streams = Streams(spark, workspace.lake(run_id))
        streams.take_in(streams.records(frames), 0)

    write = TableStream.write
    with monkeypatch.context() as patched:

        def dying(stream: TableStream, part: Any) -> None:
            if stream.table == "geo":
                raise Crash
            write(stream, part)

        patched.setattr(TableStream, "write", dying)
        with pytest.raises(Crash):
            take_in("a")
    check(workspace, {"pin": records["pin"], "user": records["user"]})
    take_in("b")
    check(workspace, records)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "[STREAM_FAILED] Query [id = 1, runId = 2] terminated with exception: Python worker failed to connect "
            "back. SQLSTATE: XXKST\n=== Streaming Query ===\nIdentifier: x",
            "Python worker failed to connect back. SQLSTATE: XXKST",
        ),
        (
            '[STREAM_FAILED] Query [id = 1] terminated with exception: An error. Traceback:\n  File "x", line 1\n'
            "pinterest_lake.marks.RenumberedError: shard holds less\n SQLSTATE: 39000\n\n=== Streaming Query ===",
            "pinterest_lake.marks.RenumberedError: shard holds less",
        ),
        ("boom", "boom"),
    ],
)
def test_the_reason_of_a_failed_query_is_found(text: str, reason: str) -> None:
    assert streaming._reason(text) == reason


def test_a_stream_that_fails_is_named(workspace: Workspace, streams: Folders) -> None:
    class Broken(Folders):
        def read(self, spark: SparkSession, stream: str) -> DataFrame:
            frame = super().read(spark, stream)
            return frame.withColumn("data", F.raise_error(F.lit("no such shard")).cast("binary"))

    streams.put(workspace.spark, "pin", some("pin", 0, 1))
    with pytest.raises(StreamError, match=r"streaming-pinterest: .*no such shard"):
        run(workspace, Broken(streams.folder), "a")
    run(workspace, streams, "a")
    check(workspace, {"pin": some("pin", 0, 1)})


@pytest.fixture(autouse=True)
def no_stream_is_left(spark: SparkSession) -> Iterator[None]:
    yield
    for query in spark.streams.active:
        query.stop()
