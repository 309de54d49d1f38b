"""A stream that is resharded while it is read, on a Kinesis that is not the laptop's: kinesis-local, from npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from local.databricks.kinesis_source import KinesisReader, Options
from local.ports import free_ports
from tests.include.notebooks.conftest import ROOT, Workspace
from tests.include.notebooks.test_streaming import Reader, Records, check

VERSION = "0.6.2"
FOLDER = ROOT / "build" / f"kinesis-local-{VERSION}"
STREAM = "streaming-pinterest-geo"
POSTS = range(40)
# kinesis-local listens on every address unless it is told otherwise, and has no setting for it
ON_LOOPBACK = """
const net = require("net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (options, ...others) {
  const given = typeof options === "object" ? options : { port: options };
  return listen.call(this, { ...given, host: "127.0.0.1" }, ...others);
};
"""


def installed() -> Path:
    """kinesis-local's folder, downloaded once."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no npm on this machine; resharding on our own stand-in is tested in tests/local/aws")
    package = FOLDER / "node_modules" / "kinesis-local"
    if not (package / "main.js").exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--prefix", FOLDER, f"kinesis-local@{VERSION}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        except subprocess.TimeoutExpired:
            pytest.skip("npm has not installed kinesis-local within 120 s")
        if done.returncode:
            pytest.skip(f"npm cannot install kinesis-local: {done.stderr.strip()[-300:]}")
    return package


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running kinesis-local."""
    package = installed()
    folder = tmp_path_factory.mktemp("kinesis-local")
    loopback = folder / "loopback.js"
    loopback.write_text(ON_LOOPBACK)
    port, tls_port = free_ports(2)
    settings = {
        "KINESIS_MOCK_PLAIN_PORT": str(port),
        "KINESIS_MOCK_TLS_PORT": str(tls_port),
        "LOG_LEVEL": "ERROR",
        **{f"{name}_DURATION": "50ms" for name in ("CREATE_STREAM", "UPDATE_SHARD_COUNT")},
    }
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["node", "--require", loopback, package / "main.js"],
            cwd=package,
            env={**os.environ, **settings},
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: answers(url) or server.poll() is not None, "kinesis-local to answer")
        assert server.poll() is None, log.read_text()
        yield url
    finally:
        server.kill()  # it keeps nothing, and asked to end it may wait for its open connections
        server.wait()


def client(url: str) -> Any:
    return boto3.client(
        "kinesis",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 5, "mode": "standard"}),
    )


def answers(url: str) -> bool:
    try:
        client(url).list_streams()
    except BotoCoreError:
        return False
    return True


def wait(condition: Callable[[], Any], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.1)


class Stream:
    """The geo stream, every record that was put on it, and how it is scaled."""

    def __init__(self, url: str) -> None:
        self.kinesis = client(url)
        self.records: Records = {}
        self.version = 0
        self.kinesis.create_stream(StreamName=STREAM, ShardCount=2)
        wait(self.is_active, "the stream")

    def is_active(self) -> bool:
        summary = self.kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]
        return bool(summary["StreamStatus"] == "ACTIVE")

    def put(self) -> None:
        """One more version of each post, and a record that cannot be read."""
        self.version += 1
        raws = {str(ind): self.raw(ind) for ind in POSTS} | {f"bad {self.version}": b"hostile"}
        entries = [{"Data": raw, "PartitionKey": key} for key, raw in raws.items()]
        answer = self.kinesis.put_records(StreamName=STREAM, Records=entries)
        assert answer["FailedRecordCount"] == 0
        for raw, result in zip(raws.values(), answer["Records"], strict=True):
            self.records[int(result["SequenceNumber"]), result["ShardId"]] = raw

    def raw(self, ind: int) -> bytes:
        return json.dumps({"ind": ind, "country": f"version {self.version}"}).encode()

    def scale(self, shards: int) -> None:
        self.kinesis.update_shard_count(
            StreamName=STREAM, TargetShardCount=shards, ScalingType="UNIFORM_SCALING"
        )
        wait(self.is_active, "the shards")


class Query:
    """A query of the real source into the real table, batch by batch, as Spark drives them."""

    def __init__(self, url: str, table: Reader) -> None:
        self.options = Options.of({
            "streamname": STREAM,
            "region": "us-east-1",
            "endpoint": url,
            "initialposition": "earliest",
            "awsaccesskey": "key",
            "awssecretkey": "secret",
            "maxrecordsperfetch": "9",
        })
        self.table = table
        self.begin()

    def begin(self) -> None:
        """Starts without a checkpoint."""
        self.source = KinesisReader(self.options)
        self.offset = self.source.initialOffset()

    def batch(self) -> list[tuple[str, str]]:
        """Takes the next batch in; gives shard and data of its records, as they were read."""
        end = self.source.latestOffset()
        parts = self.source.partitions(self.offset, end)
        batches = [batch for part in parts for batch in self.source.read(part)]
        rows = pa.Table.from_batches(batches)
        frame = self.table.workspace.spark.createDataFrame(rows)
        self.table.take_frame(frame)
        self.source.commit(end)
        self.offset = end
        return [
            (shard, data.decode())
            for shard, data in zip(rows["shardId"].to_pylist(), rows["data"].to_pylist(), strict=True)
        ]


def test_two_to_four_to_one_while_it_is_read(workspace: Workspace, endpoint: str) -> None:
    stream, table = Stream(endpoint), Reader(workspace)
    query = Query(endpoint, table)
    stream.put()
    read = query.batch()
    for shards in (4, 2, 1):
        stream.put()  # left behind in shards that are closed before it is read
        stream.scale(shards)
        stream.put()
        read += query.batch()
    assert len(read) == len(stream.records)
    for ind in POSTS:  # versions of a post are read in their order, over all the shards it has been in
        versions = [json.loads(data)["country"] for _, data in read if data.startswith(f'{{"ind": {ind},')]
        assert versions == [f"version {number + 1}" for number in range(stream.version)]
    assert len({shard for shard, _ in read}) == 2 + 4 + 2 + 1

    # what comes while nothing runs, and a lost checkpoint: all shards, closed ones too, come from their start
    stream.put()
    table.start()
    query.begin()
    query.batch()

    check(workspace, {"geo": stream.records})
    rows = {row["ind"]: row["country"] for row in workspace.rows("pinterest_geo_table")}
    assert rows == dict.fromkeys(POSTS, f"version {stream.version}"), (
        "each post's last version, as they were put"
    )
