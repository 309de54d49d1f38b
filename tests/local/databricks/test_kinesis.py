"""The data source ``kinesis``: every record once, whatever is restarted in between."""

import datetime as dt
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials

from local.databricks import kinesis_source
from local.databricks.kinesis_source import KinesisReader, LostRecords, Options, Range
from tests.local.databricks.conftest import Lab, Part

STREAM = "lab-stream"

# reads what there is, appends it to a table, and gives back how many rows that has and how many numbers
DRAIN = """
import json
reader = (
    spark.readStream.format("kinesis")
    .option("streamName", dbutils.widgets.get("streams"))
    .option("region", "us-east-1")
    .option("endpoint", dbutils.widgets.get("endpoint"))
    .option("initialPosition", dbutils.widgets.get("position"))
    .option("maxRecordsPerFetch", 7)
)
def append(frame, batch):
    frame.write.mode("append").saveAsTable(table)
    if dbutils.widgets.get("fail") == str(batch):
        raise RuntimeError("after the write, before the commit")
table = dbutils.widgets.get("table")
query = (
    reader.load().writeStream.foreachBatch(append)
    .option("checkpointLocation", f"dbfs:/checkpoints/{table}")
    .trigger(availableNow=True).start()
)
query.awaitTermination()
rows = spark.table(table)
dbutils.notebook.exit(json.dumps({
    "rows": rows.count(),
    "numbers": rows.selectExpr("count(DISTINCT stream, shardId, sequenceNumber)").first()[0],
    "data": sorted(row.text for row in rows.selectExpr("CAST(data AS STRING) AS text").collect()),
    "schema": rows.schema.simpleString(),
}))
"""


@pytest.fixture
def kinesis(aws_client: Callable[[str], Any]) -> Iterator[Any]:
    client = aws_client("kinesis")
    for name in (STREAM, STREAM + "-2"):
        client.create_stream(StreamName=name, ShardCount=2)
        client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    yield client
    for name in (STREAM, STREAM + "-2"):
        client.delete_stream(StreamName=name)


def put(kinesis: Any, numbers: range, stream: str = STREAM) -> list[str]:
    records: list[dict[str, Any]] = [
        {"Data": f"{stream} {n}".encode(), "PartitionKey": str(n)} for n in numbers
    ]
    answer = kinesis.put_records(StreamName=stream, Records=records)
    assert answer["FailedRecordCount"] == 0
    return [record["Data"].decode() for record in records]


def drain(lab: Lab, endpoint: str, table: str, **parameters: str) -> dict[str, Any]:
    path = lab.notebook("drain", DRAIN)
    defaults = {
        "endpoint": endpoint,
        "streams": STREAM,
        "position": "trim_horizon",
        "fail": "",
        "table": table,
    }
    ended = lab.run(path, {**defaults, **parameters})
    assert ended.error == "", ended.trace
    drained: dict[str, Any] = json.loads(ended.result)
    return drained


def test_all_records_arrive_once_over_restarts_and_a_failed_batch(
    lab: Lab, kinesis: Any, aws_part: Part
) -> None:
    sent = put(kinesis, range(50))
    first = drain(lab, aws_part.url, "drained")
    assert first["data"] == sorted(sent)
    assert first["schema"] == (
        "struct<partitionKey:string,data:binary,stream:string,shardId:string,"
        "sequenceNumber:string,approximateArrivalTimestamp:timestamp>"
    )
    assert drain(lab, aws_part.url, "drained")["rows"] == 50

    sent += put(kinesis, range(50, 80))
    path = lab.notebook("drain", DRAIN)
    parameters = {"endpoint": aws_part.url, "streams": STREAM, "position": "trim_horizon", "table": "drained"}
    failed = lab.run(path, {**parameters, "fail": "1"})
    assert "after the write, before the commit" in failed.trace
    # The batch is written but not committed: it comes again, with the same records and no later ones.
    put(kinesis, range(80, 90))
    replayed = drain(lab, aws_part.url, "drained")
    assert replayed["numbers"] == 90
    assert replayed["rows"] == 50 + 30 + 30 + 10


def test_latest_goes_on_where_the_checkpoint_is(lab: Lab, kinesis: Any, aws_part: Part) -> None:
    put(kinesis, range(5))
    latest = {"position": "latest", "streams": f"{STREAM}, {STREAM}-2"}
    assert drain(lab, aws_part.url, "latest", **latest)["rows"] == 0
    # put while no query runs: a query that starts at "now" again would lose these
    sent = put(kinesis, range(10, 20)) + put(kinesis, range(3), STREAM + "-2")
    second = drain(lab, aws_part.url, "latest", **latest)
    assert second["data"] == sorted(sent)


def test_a_stream_that_is_not_there_fails_the_run_with_its_name(lab: Lab, aws_part: Part) -> None:
    ended = lab.run(
        lab.notebook("drain", DRAIN),
        {
            "endpoint": aws_part.url,
            "streams": "no-such-stream",
            "position": "latest",
            "fail": "",
            "table": "none",
        },
    )
    assert ended.state == "FAILED"
    assert "no-such-stream" in ended.error


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"region": "r"}, "streamName is missing"),
        ({"streamname": "s"}, "region is missing"),
        ({"streamname": "s", "region": "r", "initialposition": "now"}, "initialPosition must be"),
        ({"streamname": "s", "region": "r", "awsaccesskey": "a"}, "must be given together"),
        ({"streamname": "s", "region": "r", "maxrecordsperfetch": "10001"}, "maxRecordsPerFetch"),
        ({"streamname": "s", "region": "r", "maxrecordsperfetch": "0"}, "maxRecordsPerFetch"),
    ],
)
def test_an_option_that_cannot_be_is_named(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options.of(given)


def test_keys_among_the_options_are_not_in_its_text() -> None:
    options = Options.of({
        "streamname": "s",
        "region": "r",
        "awsaccesskey": "AKIA",
        "awssecretkey": "hidden-key",
    })
    assert options.credentials == {"aws_access_key_id": "AKIA", "aws_secret_access_key": "hidden-key"}
    assert "hidden-key" not in repr(options)


class Query:
    """What Spark does with the source, without Spark: batches from one offset to the next, over restarts."""

    def __init__(self, url: str, key: Credentials) -> None:
        self.options = Options.of({
            "streamname": STREAM,
            "region": "us-east-1",
            "endpoint": url,
            "initialposition": "earliest",
            "awsaccesskey": key.access_key,
            "awssecretkey": key.secret_key,
            "maxrecordsperfetch": "7",
        })
        self.reader = KinesisReader(self.options)
        self.offset = self.reader.initialOffset()
        self.read: list[str] = []

    def restart(self) -> None:
        """A new reader, that is asked for the batch that was last."""
        self.reader.stop()
        self.reader = KinesisReader(self.options)
        self.reader.partitions(self.offset, self.offset)

    def batch(self) -> None:
        end = self.reader.latestOffset()
        for partition in self.reader.partitions(self.offset, end):
            for rows in self.reader.read(partition):
                self.read += [data.decode() for data in rows.column("data").to_pylist()]
        self.offset = end
        self.reader.commit(end)


def test_a_range_whose_records_are_gone_is_not_taken_for_an_empty_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The query was off for longer than the stream keeps its records: what was planned cannot be read."""
    kept = {
        "PartitionKey": "k",
        "Data": b"{}",
        "SequenceNumber": "5",
        "ApproximateArrivalTimestamp": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    }
    answers: list[list[dict[str, Any]]] = [[kept], []]
    monkeypatch.setattr(kinesis_source, "_fetch", lambda *_: iter([(answer, False) for answer in answers]))
    monkeypatch.setattr(Options, "client", lambda _: None)
    reader = KinesisReader(Options.of({"streamname": "s", "region": "us-east-1"}))
    whole = Range("s", "shardId-0", {"trim_horizon": True}, "5", None)
    assert [batch.num_rows for batch in reader.read(whole)] == [1]
    for last, left in (("7", answers), ("5", [])):
        answers[:] = left
        with pytest.raises(LostRecords, match=f"records of s, shardId-0, up to {last} are gone"):
            list(reader.read(Range("s", "shardId-0", {"after": "3"}, last, None)))


@pytest.mark.parametrize("restarted", [False, True])
def test_shards_may_come_and_go(kinesis: Any, aws_part: Part, key: Credentials, restarted: bool) -> None:
    """Streams are resharded, and made anew with shards under the ids of shards that were closed or are gone."""
    sent = put(kinesis, range(20))
    query = Query(aws_part.url, key)
    query.batch()
    steps: list[tuple[str, int]] = [
        *[("scale", shards) for shards in (4, 2, 1)],
        *[("make anew", shards) for shards in (1, 2, 3)],
    ]
    for step, shards in steps:
        if restarted:
            query.restart()
        sent += put(kinesis, range(len(sent), len(sent) + 10))
        if step == "scale":
            kinesis.update_shard_count(
                StreamName=STREAM, TargetShardCount=shards, ScalingType="UNIFORM_SCALING"
            )
        else:
            query.batch()  # what is in a stream that is deleted is gone
            kinesis.delete_stream(StreamName=STREAM)
            kinesis.create_stream(StreamName=STREAM, ShardCount=shards)
        sent += put(kinesis, range(len(sent), len(sent) + 10))
        query.batch()
        assert sorted(query.read) == sorted(sent), (step, shards)
    query.reader.stop()


def test_a_backlog_comes_in_batches_of_so_many_records_of_a_shard(
    kinesis: Any, aws_part: Part, key: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinesis_source, "_MOST_OF_A_SHARD", 14)
    sent = put(kinesis, range(100))
    query = Query(aws_part.url, key)
    taken, before = [], -1
    while before < len(query.read):
        before = len(query.read)
        query.batch()
        taken.append(len(query.read) - before)
        if len(taken) == 2:
            query.restart()
    assert sorted(query.read) == sorted(sent)
    # of two shards, with 7 records fetched at once: two fetches of each, until one has no more
    assert taken[:2] == [28, 28]
    assert max(taken) == 28
    query.reader.stop()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_backlog_is_read_over_shards_that_end_meanwhile(
    kinesis: Any, aws_part: Part, key: Credentials, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    monkeypatch.setattr(kinesis_source, "_MOST_OF_A_SHARD", 7)
    sent = put(kinesis, range(60))
    query = Query(aws_part.url, key)
    for shards in (4, 2, 1):
        query.batch()
        kinesis.update_shard_count(StreamName=STREAM, TargetShardCount=shards, ScalingType="UNIFORM_SCALING")
        sent += put(kinesis, range(len(sent), len(sent) + 30))
        if restarted:
            query.restart()
    while len(query.read) < len(sent):
        query.batch()
    assert sorted(query.read) == sorted(sent)
    query.reader.stop()


def test_of_a_backlog_the_next_batch_is_fetched_while_one_is_taken(
    lab: Lab,
    kinesis: Any,
    aws_part: Part,
    key: Credentials,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(kinesis_source, "_MOST_OF_A_SHARD", 14)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def files() -> int:
        return len(list(tmp_path.glob("kinesis-*/*.arrow")))

    sent = put(kinesis, range(60))
    query = Query(aws_part.url, key)
    query.batch()  # its own files are committed, and gone
    lab.wait(lambda: files() == 4, "two fetches of each of two shards")
    sent += put(kinesis, range(60, 70))
    while len(query.read) < len(sent):
        query.batch()
    assert sorted(query.read) == sorted(sent)
    assert files() == 0
    query.reader.stop()
    assert list(tmp_path.iterdir()) == []
