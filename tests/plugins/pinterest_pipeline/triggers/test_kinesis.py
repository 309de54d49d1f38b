from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from unittest import mock

import pytest
from airflow.providers.databricks.hooks.databricks import DatabricksHook

from pinterest_pipeline.triggers.kinesis import (
    ConsumerLag,
    KinesisStreamStatusTrigger,
    StreamCommittedTrigger,
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


class TestCommitted:
    @pytest.fixture(autouse=True)
    def databricks(self) -> Iterator[Any]:
        hook = mock.create_autospec(DatabricksHook, instance=True)
        hook.__aenter__.return_value = hook
        hook.a_get_run.return_value = run("RUNNING")
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

    def commit(
        self, s3: Any, bucket: str, committed: dict[str, str], read: int = 0, run_id: str = "42"
    ) -> None:
        streams = {STREAM: {"committed": committed, "read": read}}
        s3.put_object(Bucket=bucket, Key=KEY, Body=json.dumps({"run_id": run_id, "streams": streams}))

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
            "cancel_on_kill": False,
            "databricks_conn_id": "databricks_default",
            "poll_interval": 0,
            "end_time": FOREVER,
            "aws_conn_id": "aws_default",
            "region_name": None,
            "verify": None,
            "botocore_config": None,
        }
        assert StreamCommittedTrigger(**arguments).serialize() == (path, arguments)

    def put(self, kinesis: Any, count: int, start: int = 0) -> dict[str, str]:
        """Put records to the one shard; return the last one's shard and sequence number."""
        reply: dict[str, str] = {}
        for number in range(start, start + count):
            reply = kinesis.put_record(StreamName=STREAM, Data=b"{}", PartitionKey=str(number))
        return {reply["ShardId"]: reply["SequenceNumber"]}

    @pytest.fixture
    def stream(self, kinesis: Any) -> str:
        kinesis.create_stream(StreamName=STREAM, ShardCount=1)
        return STREAM

    def wanted(self, last: dict[str, str]) -> dict[str, Any]:
        return {STREAM: {shard: {"last": number, "records": 1} for shard, number in last.items()}}

    async def test_positions(self, s3: Any, kinesis: Any, bucket: str, stream: str) -> None:
        first, last = self.put(kinesis, 3), self.put(kinesis, 4, 3)
        self.put(kinesis, 5, 7)  # others' records, after those that are waited for
        trigger = self.trigger(bucket, self.wanted(last))
        assert re.fullmatch(
            rf"behind: {STREAM}: 7 record\(s\), the oldest put \ds ago", told(await trigger.look())
        )
        self.commit(s3, bucket, first)
        assert "4 record(s)" in (await trigger.look()).message
        self.commit(s3, bucket, last, read=7)
        seen = await trigger.look()
        assert seen.done
        assert seen.value[STREAM]["read"] == 7

    async def test_the_wait_reads_each_record_once(
        self, s3: Any, kinesis: Any, bucket: str, stream: str
    ) -> None:
        """And counts down as they are committed, however far the job goes ahead of what was read."""
        first, second, last = self.put(kinesis, 3), self.put(kinesis, 4, 3), self.put(kinesis, 5, 7)
        messages = []
        async with self.trigger(bucket, self.wanted(last)).connect() as look:
            messages.append((await look()).message)
            for committed in (first, second, last):
                self.commit(s3, bucket, committed)
                messages.append((await look()).message)
        assert [re.findall(r"(\d+) record", message) for message in messages] == [["12"], ["9"], ["5"], []]

    @pytest.mark.parametrize("result", ["FAILED", ""])
    async def test_a_dead_run_ends_the_wait(
        self, s3: Any, kinesis: Any, bucket: str, stream: str, databricks: Any, result: str
    ) -> None:
        databricks.a_get_run.return_value = run("INTERNAL_ERROR", result, message="boom")
        seen = await self.trigger(bucket, self.wanted(self.put(kinesis, 4))).look()
        assert (seen.done, seen.hopeless) == (False, True)
        how = result or "INTERNAL_ERROR"
        assert seen.message.startswith(
            f"the stream job's run 42 has ended ({how}: boom), but behind: {STREAM}: 4"
        )

    async def test_what_a_run_committed_before_it_died_counts(
        self, s3: Any, kinesis: Any, bucket: str, stream: str, databricks: Any
    ) -> None:
        databricks.a_get_run.return_value = run("TERMINATED", "FAILED")
        last = self.put(kinesis, 1)
        self.commit(s3, bucket, last)
        assert (await self.trigger(bucket, self.wanted(last)).look()).done

    async def test_attempts_that_commit_nothing_end_the_wait(
        self, s3: Any, kinesis: Any, bucket: str, stream: str, databricks: Any
    ) -> None:
        first, last = self.put(kinesis, 1), self.put(kinesis, 1, 1)
        async with self.trigger(bucket, self.wanted(last)).connect() as look:
            databricks.a_get_run.return_value = run("RUNNING", attempt=4)
            seen = await look()
            assert not seen.hopeless
            assert seen.message.endswith(" (attempt 5 of the stream job: http://databricks/42)")
            self.commit(s3, bucket, first)  # it has come further, so there is hope again
            assert not (await look()).hopeless
            databricks.a_get_run.return_value = run("RUNNING", attempt=8)
            assert not (await look()).hopeless
            databricks.a_get_run.return_value = run("RUNNING", attempt=9)
            seen = await look()
        assert seen.hopeless
        assert seen.message.startswith(
            "the stream job's run 42 has failed 5 times in a row without committing anything; what its last attempt "
            f"says is on its page, http://databricks/42, but behind: {STREAM}: 1 record(s)"
        )

    async def test_attempts_from_before_the_wait_do_not_count(
        self, s3: Any, kinesis: Any, bucket: str, stream: str, databricks: Any
    ) -> None:
        databricks.a_get_run.return_value = run("RUNNING", attempt=9)
        assert not (await self.trigger(bucket, self.wanted(self.put(kinesis, 1))).look()).hopeless

    async def test_a_run_need_not_be_watched(
        self, s3: Any, kinesis: Any, bucket: str, stream: str, databricks: Any
    ) -> None:
        assert not (await self.trigger(bucket, self.wanted(self.put(kinesis, 1)), run_id=None).look()).done
        databricks.a_get_run.assert_not_awaited()

    @pytest.mark.parametrize(("cancel", "cancelled"), [(True, [mock.call(42)]), (False, [])])
    async def test_killing_the_wait_cancels_the_run_it_has_started(
        self, bucket: str, databricks: Any, cancel: bool, cancelled: list[Any]
    ) -> None:
        await self.trigger(bucket, cancel_on_kill=cancel).on_kill()
        assert databricks.cancel_run.mock_calls == cancelled

    async def test_without_positions_everything_is_drained(
        self, s3: Any, kinesis: Any, bucket: str, stream: str
    ) -> None:
        assert (await self.trigger(bucket).look()).done, "an empty stream is drained"
        first, last = self.put(kinesis, 1), self.put(kinesis, 3, 1)
        trigger = self.trigger(bucket, since=time.time() + 1)
        assert f"{STREAM}: 4 record(s), the oldest put " in (await trigger.look()).message
        self.commit(s3, bucket, first)
        assert "3 record(s)" in (await trigger.look()).message
        self.commit(s3, bucket, last)
        assert (await trigger.look()).done

    async def test_what_another_run_has_told_ends_no_wait(
        self, s3: Any, kinesis: Any, bucket: str, stream: str
    ) -> None:
        """It may have filled the tables of another schema, or these before they were made anew."""
        last = self.put(kinesis, 3)
        self.commit(s3, bucket, last, run_id="41")
        for trigger in (self.trigger(bucket, self.wanted(last)), self.trigger(bucket, since=time.time() + 1)):
            seen = await trigger.look()
            assert (seen.done, seen.value) == (False, {})
            assert f"{STREAM}: 3 record(s)" in seen.message
            assert seen.message.endswith(" (run 42 has told nothing yet, only run 41)")
        self.commit(s3, bucket, last)
        assert (await self.trigger(bucket, self.wanted(last)).look()).done
        self.commit(s3, bucket, last, run_id="41")
        assert (await self.trigger(bucket, self.wanted(last), run_id=None).look()).done

    async def test_a_run_tells_under_the_name_that_it_was_started_with(
        self, s3: Any, kinesis: Any, bucket: str, stream: str, databricks: Any
    ) -> None:
        parameters = {"notebook_params": {"run_id": "manual__2026=3A1"}}
        databricks.a_get_run.return_value = {**run("RUNNING"), "overriding_parameters": parameters}
        last = self.put(kinesis, 3)
        self.commit(s3, bucket, last)
        told = (await self.trigger(bucket, self.wanted(last)).look()).message
        assert told.endswith(" (run manual__2026=3A1 has told nothing yet, only run 42)")
        self.commit(s3, bucket, last, run_id="manual__2026=3A1")
        assert (await self.trigger(bucket, self.wanted(last)).look()).done

    @pytest.mark.parametrize(("ahead", "behind"), [(600, ["2"]), (0, ["2"]), (-600, [])])
    async def test_a_drain_goes_by_the_clock_of_kinesis(self, ahead: int, behind: list[str]) -> None:
        """Records that were there when the wait began count, however far this machine's clock is off."""
        now = time.time()
        arrivals = [datetime.fromtimestamp(now + seconds, UTC) for seconds in (-1, -0.5)]
        date = format_datetime(datetime.fromtimestamp(int(now + ahead), UTC), usegmt=True)
        client = mock.Mock(
            get_shard_iterator=mock.Mock(return_value={"ShardIterator": "first"}),
            get_records=mock.Mock(
                return_value={
                    "Records": [
                        {"SequenceNumber": str(n), "ApproximateArrivalTimestamp": at}
                        for n, at in enumerate(arrivals)
                    ],
                    "NextShardIterator": "next",
                    "MillisBehindLatest": 0,
                }
            ),
            list_shards=mock.Mock(
                return_value={
                    "Shards": [{"ShardId": "shardId-0"}],
                    "ResponseMetadata": {"HTTPHeaders": {"date": date}},
                }
            ),
        )
        # by our clock the wait begins this much later or earlier than by theirs
        lag = ConsumerLag(client, {}, [STREAM], now - max(ahead, 0))
        found = await lag.behind({})
        assert [re.findall(r"(\d+) record", line)[0] for line in found] == behind

    async def test_an_empty_answer_is_no_end(self, s3: Any, kinesis: Any, bucket: str, stream: str) -> None:
        """GetRecords may come back with nothing where there is something further on."""
        self.put(kinesis, 1)
        nothing = {"Records": [], "NextShardIterator": "next", "MillisBehindLatest": 1000}
        client = mock.Mock(
            get_shard_iterator=mock.Mock(return_value={"ShardIterator": "first"}),
            get_records=mock.Mock(return_value=nothing),
            list_shards=mock.Mock(return_value={"Shards": [{"ShardId": "shardId-0"}]}),
        )
        lag = ConsumerLag(client, {}, [STREAM], time.time())
        [line] = await lag.behind({})
        assert line.startswith(f"{STREAM}: more than 0 record(s)")
        client.get_records.return_value = {**nothing, "MillisBehindLatest": 0}
        assert await lag.behind({}) == []

    async def test_what_is_far_behind_is_counted_up_to_a_limit_until_the_wait_ends(
        self,
        s3: Any,
        kinesis: Any,
        bucket: str,
        stream: str,
        databricks: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("pinterest_pipeline.triggers.kinesis.COUNTED", 3)
        monkeypatch.setattr("pinterest_pipeline.triggers.kinesis.COUNTED_AT_LAST", 9)
        first, last = self.put(kinesis, 4), self.put(kinesis, 8, 4)
        positions = self.wanted(last)
        async with self.trigger(bucket, positions).connect() as look:
            assert f"{STREAM}: more than 3 record(s)" in (await look()).message
            assert f"{STREAM}: more than 3 record(s)" in (await look()).message
            self.commit(s3, bucket, first)
            assert f"{STREAM}: more than 3 record(s)" in (await look()).message
        assert f"{STREAM}: 8 record(s)" in (await self.trigger(bucket, positions, end_time=0).look()).message
        self.commit(s3, bucket, {})
        out_of_time = await self.trigger(bucket, positions, end_time=0).look()
        assert f"{STREAM}: more than 9 record(s)" in out_of_time.message
        databricks.a_get_run.return_value = run("INTERNAL_ERROR", "FAILED")
        assert f"{STREAM}: more than 9 record(s)" in (await self.trigger(bucket, positions).look()).message

    @pytest.mark.parametrize(
        ("error", "first"),
        [("ExpiredIteratorException", "5"), ("ProvisionedThroughputExceededException", "more than 3")],
    )
    async def test_a_refused_call_does_not_end_the_wait(self, error: str, first: str) -> None:
        """An iterator is good for five minutes, and a shard's readers share its throughput."""

        def answer(*numbers: int, behind: int) -> dict[str, Any]:
            at = datetime.fromtimestamp(time.time() - 60, UTC)
            records = [{"SequenceNumber": str(n), "ApproximateArrivalTimestamp": at} for n in numbers]
            return {"Records": records, "NextShardIterator": "next", "MillisBehindLatest": behind}

        names = ("ExpiredIteratorException", "ProvisionedThroughputExceededException")
        errors = {name: type(name, (Exception,), {}) for name in names}
        answers = [answer(1, 2, 3, behind=1000), errors[error], answer(4, 5, behind=0)]
        client = mock.Mock(
            exceptions=mock.Mock(**errors),
            get_shard_iterator=mock.Mock(return_value={"ShardIterator": "first"}),
            get_records=mock.Mock(side_effect=answers),
            list_shards=mock.Mock(return_value={"Shards": [{"ShardId": "shardId-0"}]}),
        )
        lag = ConsumerLag(client, {}, [STREAM], time.time())
        assert [re.sub(r" rec.*", "", line) for line in await lag.behind({})] == [f"{STREAM}: {first}"]
        assert [re.sub(r" rec.*", "", line) for line in await lag.behind({})] == [f"{STREAM}: 5"]
        starts = [call.kwargs.get("StartingSequenceNumber") for call in client.get_shard_iterator.mock_calls]
        assert starts == ([None, "3"] if error == "ExpiredIteratorException" else [None])

    async def test_what_arrives_after_the_wait_began_is_not_drained(
        self, s3: Any, kinesis: Any, bucket: str, stream: str
    ) -> None:
        self.put(kinesis, 2)
        assert (await self.trigger(bucket, since=time.time() - 3600).look()).done


class Shards:
    """Kinesis with shards of so many records each, in two streams; keeps what it was asked, and by which thread."""

    class exceptions:
        class ExpiredIteratorException(Exception): ...

        class ProvisionedThroughputExceededException(Exception): ...

    def __init__(self, **streams: list[int]) -> None:
        self.streams = streams
        self.limits: list[int] = []
        self.threads: set[threading.Thread] = set()

    def list_shards(self, StreamName: str) -> dict[str, Any]:
        self.threads.add(threading.current_thread())
        return {"Shards": [{"ShardId": str(shard)} for shard in range(len(self.streams[StreamName]))]}

    def get_shard_iterator(self, StreamName: str, ShardId: str, **start: str) -> dict[str, str]:
        self.threads.add(threading.current_thread())
        return {"ShardIterator": f"{StreamName} {ShardId} {start.get('StartingSequenceNumber', '0')}"}

    def get_records(self, ShardIterator: str, Limit: int) -> dict[str, Any]:
        self.threads.add(threading.current_thread())
        self.limits.append(Limit)
        stream, shard, after = ShardIterator.split()
        count = self.streams[stream][int(shard)]
        numbers = range(int(after) + 1, min(int(after) + Limit, count) + 1)
        at = datetime.fromtimestamp(time.time() - 60, UTC)
        last = numbers[-1] if numbers else int(after)
        return {
            "Records": [{"SequenceNumber": str(n), "ApproximateArrivalTimestamp": at} for n in numbers],
            "NextShardIterator": f"{stream} {shard} {last}",
            "MillisBehindLatest": (count - last) * 1000,
        }


def lags(lines: list[str]) -> list[str]:
    return [line.split(" record(s)")[0] for line in lines]


class TestBudget:
    async def test_all_shards_share_one(self) -> None:
        client = Shards(a=[90] * 4, b=[90] * 4)
        lag = ConsumerLag(client, {}, ["a", "b"], time.time())
        for _ in range(2):
            assert lags(await lag.behind({}, 80)) == ["a: more than 40", "b: more than 40"]
        assert client.limits == [10] * 8  # the second time nothing more is read
        assert sum(len(shard.waiting) for shard in lag._shards.values()) == 80

    async def test_what_a_shard_does_not_use_is_for_those_that_follow(self) -> None:
        client = Shards(a=[1, 1, 1, 90])
        assert lags(await ConsumerLag(client, {}, ["a"], time.time()).behind({}, 40)) == ["a: more than 40"]
        assert client.limits == [10, 13, 19, 37]

    async def test_more_shards_than_records_that_are_counted_are_all_looked_at(self) -> None:
        client = Shards(a=[5] * 6)
        assert lags(await ConsumerLag(client, {}, ["a"], time.time()).behind({}, 3)) == ["a: more than 6"]

    async def test_a_small_share_still_sees_a_stream_drained(self) -> None:
        client = Shards(a=[30, 30])
        lag = ConsumerLag(client, {}, ["a"], time.time())
        assert lags(await lag.behind({"a": {"0": "3"}}, 8)) == ["a: more than 8"]
        assert lags(await lag.behind({"a": {"0": "30", "1": "29"}}, 8)) == ["a: 1"]
        assert await lag.behind({"a": {"0": "30", "1": "30"}}, 8) == []

    async def test_what_a_shard_held_is_forgotten_when_it_is_committed(self) -> None:
        client = Shards(a=[6, 6])
        positions = {"a": {shard: {"last": "6", "records": 6} for shard in ("0", "1")}}
        lag = ConsumerLag(client, positions, [], time.time())
        assert lags(await lag.behind({}, 100)) == ["a: 12"]
        assert lags(await lag.behind({"a": {"0": "6"}}, 100)) == ["a: 6"]
        assert sum(len(shard.waiting) for shard in lag._shards.values()) == 6

    async def test_records_that_came_after_the_tip_was_reached_are_read_with_a_smaller_share(self) -> None:
        client = Shards(a=[20])
        positions = {"a": {"0": {"last": "25", "records": 25}}}
        lag = ConsumerLag(client, positions, [], time.time())
        assert lags(await lag.behind({}, 100)) == ["a: 20"]
        client.streams["a"] = [25]
        assert lags(await lag.behind({}, 10)) == ["a: more than 21"]
        assert client.limits == [100, 1]

    async def test_nothing_is_parsed_in_the_event_loop(self) -> None:
        client = Shards(a=[5])
        await ConsumerLag(client, {}, ["a"], time.time()).behind({})
        assert client.threads
        assert threading.current_thread() not in client.threads


def told(seen: Any) -> str:
    return re.sub(r"(\d) s ago", r"\1s ago", seen.message)


def run(life_cycle: str, result: str = "", message: str = "", attempt: int = 0) -> dict[str, Any]:
    """A run as the Jobs API gives it."""
    state = {"life_cycle_state": life_cycle, "state_message": message, "result_state": result}
    return {
        "state": {name: value for name, value in state.items() if value},
        "tasks": [{"attempt_number": attempt}],
        "run_page_url": "http://databricks/42",
    }
