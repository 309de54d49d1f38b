"""The streams while their driver is killed again and again, and once without its checkpoint: nothing lost or doubled.

KILL_TEST_POSTS (300) and KILL_TEST_KILLS (1) say how many; 20000 and 5 take some ten minutes.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import batched
from pathlib import Path
from typing import Any

import psutil
import pytest
from deltalake import DeltaTable

from bench.streams import TABLES, Bench
from local.stack.supervisor import await_that
from pinterest_pipeline.gateway import StreamAck
from tests.include.notebooks import model
from tests.support import history

pytestmark = pytest.mark.timeout(3600)

POSTS = int(os.environ.get("KILL_TEST_POSTS", "300"))
KILLS = int(os.environ.get("KILL_TEST_KILLS", "1"))
FIRST = 100_000
"""Above all that other tests post to this stack."""
LONGEST_SECONDS = 6
"""From the first record of a part to the kill: the driver is anywhere in one of its first micro-batches."""

Position = tuple[int, str]
"""(sequence number, shard): of two records of a stream, the one with the larger is newer."""

Processes = Callable[[Callable[[psutil.Process], Any]], list[Any]]
"""The fixture: a fact of every process of the stack."""


class Streams:
    """The three streams of a stack: what is put into them, what they hold, and what has become of it."""

    def __init__(self, stack: Any, env: dict[str, str], processes: Processes) -> None:
        self.stack, self.env, self.processes = stack, env, processes
        self.bench = Bench(env)
        self.pick = random.Random(5)
        self.acknowledged: dict[str, dict[Position, dict[str, Any]]] = {table: {} for table in TABLES}

    def run_dag(self, job: str) -> None:
        """Without posts of its own: it drains, and leaves the stream job running, or stops it."""
        conf = {"posts": 0, "job": job, "confirm": self.env["PREFIX"]}
        self.stack.make("dag", "DAG=pinterest_kinesis_streams", f"CONF={json.dumps(conf)}")

    def put(self, numbers: Sequence[int]) -> None:
        """Puts the three records of each post; a tenth again in another version, and a hundredth spoilt."""
        for some in batched(numbers, 200):
            for table in TABLES:
                posts = [*some, *(self.pick.randrange(FIRST, some[-1] + 1) for _ in range(len(some) // 10))]
                records = [(number, self._record(table, number)) for number in posts]
                acks = self.bench.api.put_records(self.bench.stream(table), records)
                for (_, record), ack in zip(records, acks, strict=True):
                    assert isinstance(ack, StreamAck), ack
                    self.acknowledged[table][int(ack.sequence_number), ack.shard_id] = record

    def _record(self, table: str, number: int) -> dict[str, Any]:
        key = model.KEYS[table]
        version = self.pick.randrange(10**9)
        if self.pick.random() < 0.01:
            spoilt = [
                {},
                {key: number},
                {key: str(number), "x": version},
                {key: 2**31, "x": version},
                {"x": None},
            ]
            return dict(self.pick.choice(spoilt))
        if table == "pin":
            count = self.pick.choice(["5k", "1,234", "many", "User Info Error", None])
            return {key: number, "title": f" version {version} ", "follower_count": count, "category": "art"}
        if table == "geo":
            place = {"latitude": version % 90, "longitude": -version % 180 / 2}
            return {key: number, "timestamp": "2020-08-28T03:52:47", "country": f"version {version}", **place}
        return {key: number, "first_name": f"version {version}", "age": version % 90, "date_joined": None}

    def kill_driver(self) -> None:
        """Kills one of the two processes of the stream job's driver, and waits until another goes on."""
        before = self.bench.told()["started_at"]
        there = self.processes(lambda each: (each, each.ppid(), each.name(), each.cmdline()))
        [python] = [process for process, _, _, command in there if _is_driver(command)]
        [jvm] = [process for process, parent, name, _ in there if parent == python.pid and name == "java"]
        self.pick.choice([python, jvm]).kill()
        await_that(lambda: self.bench.told()["started_at"] != before, 600, "no other driver takes records")

    def held(self, table: str) -> dict[Position, bytes]:
        """What the stream holds, read by GetRecords alone."""
        kinesis, name = self.bench.client("kinesis"), self.bench.stream(table)
        held = {}
        for shard in kinesis.list_shards(StreamName=name)["Shards"]:
            start = {"StreamName": name, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            iterator, behind = kinesis.get_shard_iterator(**start)["ShardIterator"], 1
            while iterator and behind:
                answer = kinesis.get_records(ShardIterator=iterator)
                for record in answer["Records"]:
                    held[int(record["SequenceNumber"]), shard["ShardId"]] = record["Data"]
                iterator, behind = answer.get("NextShardIterator"), answer["MillisBehindLatest"]
        return held

    def rows(self, table: str) -> list[dict[str, Any]]:
        return list(DeltaTable(f"{self.env['LAKE_DIR']}/{table}").to_pyarrow_table().to_pylist())

    def check(self) -> None:
        """Each record is clean, superseded or quarantined, once, as the model has it."""
        quarantine, told = self.rows("quarantine"), self.bench.told()["streams"]
        for table in TABLES:
            name = f"{self.env['PREFIX']}_{table}_table"
            held = self.held(table)
            put = self.acknowledged[table]
            assert {at: json.loads(held[at]) for at in put} == put

            expected, fate = model.newest(table, held)
            for row in expected:
                row.pop("follower_count_unparsable", None)
            found = [{column: _plain(row[column]) for column in expected[0]} for row in self.rows(name)]
            assert sorted(found, key=_by_ind) == sorted(expected, key=_by_ind)

            reasons = {at: model.reason(table, raw) for at, raw in held.items()}
            spoilt = [
                ((int(row["position"]), row["shard"]), row["reason"], row["raw"])
                for row in quarantine
                if row["table"] == name
            ]
            assert sorted(spoilt) == sorted((at, why, held[at]) for at, why in reasons.items() if why)
            fates = ("read", "clean", "superseded", "quarantined")
            counted = told[self.bench.stream(table)]
            assert {each: counted[each] for each in fates} == {each: fate[each] for each in fates}
            assert fate["read"] == fate["clean"] + fate["superseded"] + fate["quarantined"] == len(held)
            assert not (report := self.report(table, quarantine, counted)), report

    def report(self, table: str, quarantine: list[dict[str, Any]], counted: dict[str, Any]) -> history.Report:
        """What the checker, which knows neither the pipeline nor the model, says of one stream."""
        name = f"{self.env['PREFIX']}_{table}_table"

        def records(values: dict[Position, bytes]) -> list[history.Record]:
            unread = {at for at, raw in values.items() if model.reason(table, raw)}
            return [
                replace(record, ind=None) if (place, shard) in unread else record
                for (place, shard), raw in values.items()
                if (record := history.record_of(table, shard, place, raw))
            ]

        held = self.held(table)
        return history.check(
            records({at: held[at] for at in sorted(self.acknowledged[table])}),
            written=records(held),
            rows=[
                history.Record(table, row["_shard"], int(row["_sequence_number"]), row["ind"])
                for row in self.rows(name)
            ],
            held=[
                history.Record(table, row["shard"], int(row["position"]), None, row["raw"])
                for row in quarantine
                if row["table"] == name
            ],
            counted={table: {each: counted[each] for each in ("read", "clean", "superseded", "quarantined")}},
        )


def _is_driver(command: list[str]) -> bool:
    """Whether it is the stream job's driver: the warm one is for notebooks of the batch."""
    return "local.databricks.driver" in command and not command[-1].startswith("warm")


def _plain(value: Any) -> Any:
    return value.replace(tzinfo=None) if isinstance(value, dt.datetime) else value


def _by_ind(row: dict[str, Any]) -> int:
    return int(row["ind"])


def test_kills_and_a_deleted_checkpoint_lose_and_double_nothing(
    stack: Any, env: dict[str, str], processes: Processes
) -> None:
    streams = Streams(stack, env, processes)
    streams.run_dag("keep")
    with ThreadPoolExecutor(1) as putting:
        for part in batched(range(FIRST, FIRST + POSTS), -(-POSTS // KILLS)):
            put = putting.submit(streams.put, part)
            time.sleep(streams.pick.uniform(0, LONGEST_SECONDS))  # the kill comes at any moment
            streams.kill_driver()
            put.result()
    streams.run_dag("stop")
    streams.check()

    shutil.rmtree(Path(env["PIPELINE_HOME"]) / "databricks" / "dbfs" / env["PREFIX"] / "checkpoints")
    streams.put(range(FIRST + POSTS // 2, FIRST + POSTS + 50))
    streams.run_dag("drain")
    streams.check()
