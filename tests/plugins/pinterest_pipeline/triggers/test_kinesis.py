from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from airflow.providers.databricks.hooks.databricks import DatabricksHook, RunState

from pinterest_pipeline.triggers.kinesis import (
    KinesisStreamStatusTrigger,
    StreamCommittedTrigger,
    behind_positions,
    reached,
)

STREAM = "streaming-p-pin"
KEY = "streams/p/progress.json"
FOREVER = 1e12


class TestStreamStatus:
    def trigger(self, *names: str, target_status: str = "ACTIVE") -> KinesisStreamStatusTrigger:
        return KinesisStreamStatusTrigger(
            stream_names=list(names), target_status=target_status, poll_interval=0, end_time=FOREVER
        )

    def test_serialize(self) -> None:
        path, arguments = self.trigger("a", "b").serialize()
        assert path == "pinterest_pipeline.triggers.kinesis.KinesisStreamStatusTrigger"
        assert arguments == {
            "stream_names": ["a", "b"],
            "target_status": "ACTIVE",
            "poll_interval": 0,
            "end_time": FOREVER,
            "aws_conn_id": "aws_default",
            "region_name": None,
            "verify": None,
            "botocore_config": None,
        }
        assert KinesisStreamStatusTrigger(**arguments).serialize() == (path, arguments)

    async def test_all_have_to_be_active(self, kinesis: Any) -> None:
        kinesis.create_stream(StreamName="a", ShardCount=1)
        seen = await self.trigger("a").look()
        assert (seen.done, seen.value) == (True, {"a": "ACTIVE"})
        seen = await self.trigger("a", "b").look()
        assert (seen.done, seen.hopeless) == (False, True)
        assert seen.message == "a is ACTIVE, b is missing"

    async def test_another_status_is_waited_for(self, kinesis: Any) -> None:
        kinesis.create_stream(StreamName="a", ShardCount=1)
        seen = await self.trigger("a", target_status="UPDATING").look()
        assert (seen.done, seen.hopeless) == (False, False)


@pytest.mark.parametrize(
    ("committed", "wanted", "is_reached"),
    [
        (None, "1", False),
        ("9", "10", False),
        ("10", "9", True),
        ("5", "5", True),
        ("4" * 56, "4" * 55 + "5", False),
        ("4" * 56, "9" * 55, True),
    ],
)
def test_sequence_numbers_compare_as_numbers(committed: str | None, wanted: str, is_reached: bool) -> None:
    assert reached(committed, wanted) is is_reached


def test_what_is_behind_is_counted_by_stream() -> None:
    positions = {
        "a": {"0": {"last": "10", "records": 3}, "1": {"last": "7", "records": 2}},
        "b": {"0": {"last": "5", "records": 1}},
    }
    assert behind_positions(positions, {"a": {"0": "9", "1": "7"}, "b": {"0": "5"}}) == [
        "a: 1 of 2 shard(s), up to 3 record(s)"
    ]
    assert behind_positions(positions, {"a": {"0": "11", "1": "7"}}) == [
        "b: 1 of 1 shard(s), up to 1 record(s)"
    ]


class TestCommitted:
    @pytest.fixture(autouse=True)
    def databricks(self) -> Iterator[Any]:
        hook = mock.create_autospec(DatabricksHook, instance=True)
        hook.__aenter__.return_value = hook
        hook.a_get_run_state.return_value = RunState("RUNNING")
        with mock.patch("pinterest_pipeline.triggers.kinesis.DatabricksHook", return_value=hook):
            yield hook

    def trigger(
        self, bucket: str, positions: Any = None, run_id: int | None = 42, **arguments: Any
    ) -> StreamCommittedTrigger:
        return StreamCommittedTrigger(**{
            "positions": positions or {},
            "stream_names": [STREAM],
            "since": time.time(),
            "bucket": bucket,
            "progress_key": KEY,
            "databricks_run_id": run_id,
            "poll_interval": 0,
            "end_time": FOREVER,
            **arguments,
        })

    def commit(self, s3: Any, bucket: str, committed: dict[str, str], read: int = 0) -> None:
        streams = {STREAM: {"committed": committed, "read": read}}
        s3.put_object(Bucket=bucket, Key=KEY, Body=json.dumps({"run_id": "r", "streams": streams}))

    def test_serialize(self) -> None:
        positions = {STREAM: {"shard-0": {"last": "5", "records": 2}}}
        path, arguments = self.trigger("b", positions, since=3.5).serialize()
        assert path == "pinterest_pipeline.triggers.kinesis.StreamCommittedTrigger"
        assert arguments == {
            "positions": positions,
            "stream_names": [STREAM],
            "since": 3.5,
            "bucket": "b",
            "progress_key": KEY,
            "databricks_run_id": 42,
            "databricks_conn_id": "databricks_default",
            "poll_interval": 0,
            "end_time": FOREVER,
            "aws_conn_id": "aws_default",
            "region_name": None,
            "verify": None,
            "botocore_config": None,
        }
        assert StreamCommittedTrigger(**arguments).serialize() == (path, arguments)

    async def test_positions(self, s3: Any, bucket: str) -> None:
        trigger = self.trigger(bucket, {STREAM: {"shard-0": {"last": "10", "records": 4}}})
        assert (await trigger.look()).message == f"behind: {STREAM}: 1 of 1 shard(s), up to 4 record(s)"
        self.commit(s3, bucket, {"shard-0": "9"})
        assert not (await trigger.look()).done
        self.commit(s3, bucket, {"shard-0": "10"}, read=4)
        seen = await trigger.look()
        assert seen.done
        assert seen.value[STREAM]["read"] == 4

    @pytest.mark.parametrize("state", [RunState("TERMINATED", "FAILED", "boom"), RunState("INTERNAL_ERROR")])
    async def test_a_dead_run_ends_the_wait(
        self, s3: Any, bucket: str, databricks: Any, state: RunState
    ) -> None:
        databricks.a_get_run_state.return_value = state
        seen = await self.trigger(bucket, {STREAM: {"shard-0": {"last": "10", "records": 4}}}).look()
        assert (seen.done, seen.hopeless) == (False, True)
        how = state.result_state or state.life_cycle_state
        assert seen.message.startswith(f"the stream job's run 42 has ended ({how}: {state.state_message}), ")
        assert "up to 4 record(s)" in seen.message

    async def test_what_a_run_committed_before_it_died_counts(
        self, s3: Any, bucket: str, databricks: Any
    ) -> None:
        databricks.a_get_run_state.return_value = RunState("TERMINATED", "FAILED")
        self.commit(s3, bucket, {"shard-0": "10"})
        assert (await self.trigger(bucket, {STREAM: {"shard-0": {"last": "10", "records": 4}}}).look()).done

    async def test_a_run_need_not_be_watched(self, s3: Any, bucket: str, databricks: Any) -> None:
        positions = {STREAM: {"shard-0": {"last": "10", "records": 4}}}
        assert not (await self.trigger(bucket, positions, run_id=None).look()).done
        databricks.a_get_run_state.assert_not_awaited()

    def put(self, kinesis: Any, count: int) -> tuple[str, str]:
        """Put records to the one shard; return it and the last sequence number."""
        reply: dict[str, str] = {}
        for number in range(count):
            reply = kinesis.put_record(StreamName=STREAM, Data=b"{}", PartitionKey=str(number))
        return reply["ShardId"], reply["SequenceNumber"]

    async def test_without_positions_everything_is_drained(self, s3: Any, kinesis: Any, bucket: str) -> None:
        kinesis.create_stream(StreamName=STREAM, ShardCount=1)
        empty = self.trigger(bucket)
        assert (await empty.look()).done, "an empty stream is drained"
        shard, first = self.put(kinesis, 1)
        _, last = self.put(kinesis, 3)
        trigger = self.trigger(bucket, since=time.time() + 1)
        seen = await trigger.look()
        assert seen.message == f"behind: {STREAM}: 1 of 1 shard(s) not drained"
        self.commit(s3, bucket, {shard: first})
        assert not (await trigger.look()).done
        self.commit(s3, bucket, {shard: last})
        assert (await trigger.look()).done

    async def test_what_arrives_after_the_wait_began_is_not_drained(
        self, s3: Any, kinesis: Any, bucket: str
    ) -> None:
        kinesis.create_stream(StreamName=STREAM, ShardCount=1)
        self.put(kinesis, 2)
        assert (await self.trigger(bucket, since=time.time() - 3600).look()).done
