"""Waiting for Kinesis streams, and for what the stream job has made of their records."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.databricks.hooks.databricks import DatabricksHook

from pinterest_pipeline.hooks.kinesis import KinesisHook
from pinterest_pipeline.triggers.aws import AwsPollingTrigger
from pinterest_pipeline.triggers.base import Look

Committed = Mapping[str, Mapping[str, str]]  # stream → shard → sequence number
Positions = Mapping[str, Mapping[str, Mapping[str, Any]]]  # stream → shard → {"last": …, "records": n}

# An empty answer of GetRecords does not mean that there are no records: the shard has to be followed until
# its end, which takes a few calls. Each poll goes on where the last one stopped.
CALLS_PER_POLL = 4


class KinesisStreamStatusTrigger(AwsPollingTrigger):
    """
    Fires when all streams have a status.

    :param stream_names: the streams.
    :param target_status: the status that is waited for.
    :param kwargs: arguments of :class:`~pinterest_pipeline.triggers.aws.AwsPollingTrigger`.
    """

    def __init__(self, *, stream_names: list[str], target_status: str = "ACTIVE", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stream_names = stream_names
        self.target_status = target_status

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of this class alone."""
        return {"stream_names": self.stream_names, "target_status": self.target_status}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Callable[[], Awaitable[Look]]]:
        """Open the client."""
        async with await self.open_client(KinesisHook) as client:

            async def look() -> Look:
                statuses = {name: await self._status_of(client, name) for name in self.stream_names}
                told = ", ".join(f"{name} is {status or 'missing'}" for name, status in statuses.items())
                gone = [name for name, status in statuses.items() if status in {None, "DELETING"}]
                return Look(
                    told,
                    done=all(status == self.target_status for status in statuses.values()),
                    hopeless=bool(gone) and self.target_status == "ACTIVE",
                    value=statuses,
                )

            yield look

    async def _status_of(self, client: Any, name: str) -> str | None:
        try:
            reply = await client.describe_stream_summary(StreamName=name)
        except client.exceptions.ResourceNotFoundException:
            return None
        status: str = reply["StreamDescriptionSummary"]["StreamStatus"]
        return status


class StreamCommittedTrigger(AwsPollingTrigger):
    """
    Fires when the stream job has committed everything up to the given positions.

    With no positions at all it drains: it fires when every record that was in the streams when the wait
    began is committed. The job's run is watched all the while: when it is over, nothing more will come.

    :param positions: stream → shard → ``{"last": sequence number, "records": how many}``.
    :param stream_names: the streams to drain if there are no positions.
    :param since: moment (seconds since the epoch) the wait began at.
    :param bucket: bucket that holds the job's progress.
    :param progress_key: key of the progress object.
    :param databricks_run_id: the run of the stream job; None: it is not watched.
    :param databricks_conn_id: the Databricks connection.
    :param kwargs: arguments of :class:`~pinterest_pipeline.triggers.aws.AwsPollingTrigger`.
    """

    def __init__(
        self,
        *,
        positions: dict[str, dict[str, dict[str, Any]]],
        stream_names: list[str],
        since: float,
        bucket: str,
        progress_key: str,
        databricks_run_id: int | None = None,
        databricks_conn_id: str = "databricks_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.positions = positions
        self.stream_names = stream_names
        self.since = since
        self.bucket = bucket
        self.progress_key = progress_key
        self.databricks_run_id = databricks_run_id
        self.databricks_conn_id = databricks_conn_id

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of this class alone."""
        return {
            "positions": self.positions,
            "stream_names": self.stream_names,
            "since": self.since,
            "bucket": self.bucket,
            "progress_key": self.progress_key,
            "databricks_run_id": self.databricks_run_id,
            "databricks_conn_id": self.databricks_conn_id,
        }

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Callable[[], Awaitable[Look]]]:
        """Open the clients of S3, Kinesis and Databricks, each only if it is needed."""
        async with AsyncExitStack() as stack:
            s3 = await stack.enter_async_context(await self.open_client(S3Hook))
            kinesis = databricks = None
            if not self.positions:
                kinesis = await stack.enter_async_context(await self.open_client(KinesisHook))
            if self.databricks_run_id is not None:
                hook = DatabricksHook(self.databricks_conn_id, caller="StreamCommittedTrigger")
                databricks = await stack.enter_async_context(hook)
            ends = ShardEnds(kinesis, self.since)

            async def look() -> Look:
                # The run's state is read first: what it committed before it ended is then seen as well.
                ended = await self._how_the_run_ended(databricks)
                progress = await self._progress(s3)
                committed = {name: stream["committed"] for name, stream in progress.items()}
                behind = await self._behind(ends, committed)
                if not behind:
                    told = "everything that was waited for is committed"
                    return Look(told, done=True, value=progress)
                told = f"behind: {'; '.join(behind)}"
                if ended:
                    return Look(f"{ended}, but {told}", hopeless=True, value=progress)
                return Look(told, value=progress)

            yield look

    async def _progress(self, s3: Any) -> dict[str, Any]:
        try:
            reply = await s3.get_object(Bucket=self.bucket, Key=self.progress_key)
        except s3.exceptions.NoSuchKey:
            return {}
        async with reply["Body"] as body:
            streams: dict[str, Any] = json.loads(await body.read())["streams"]
        return streams

    async def _how_the_run_ended(self, hook: DatabricksHook | None) -> str | None:
        if hook is None or self.databricks_run_id is None:
            return None
        state = await hook.a_get_run_state(self.databricks_run_id)
        if not state.is_terminal:
            return None
        how = state.result_state or state.life_cycle_state
        return f"the stream job's run {self.databricks_run_id} has ended ({how}: {state.state_message})"

    async def _behind(self, ends: ShardEnds, committed: Committed) -> list[str]:
        """Return a line for each stream that lags."""
        if self.positions:
            return behind_positions(self.positions, committed)
        return [
            line for name in self.stream_names for line in await ends.behind(name, committed.get(name, {}))
        ]


class ShardEnds:
    """
    Finds out whether shards hold records that were there at `since` and are not committed.

    Kinesis does not tell the last sequence number of a shard. But a reader that starts after the committed
    one sees whether anything follows, and when it arrived.

    :param client: an open Kinesis client.
    :param since: moment (seconds since the epoch); what arrived later does not count.
    """

    def __init__(self, client: Any, since: float) -> None:
        self.client = client
        self.since = since
        self._iterators: dict[tuple[str, str, str], str | None] = {}

    async def behind(self, stream: str, committed: Mapping[str, str]) -> list[str]:
        """Return a line if any shard of the stream holds such a record."""
        shards = await self._shards(stream)
        late = [shard for shard in shards if await self._holds_more(stream, shard, committed.get(shard, ""))]
        return [f"{stream}: {len(late)} of {len(shards)} shard(s) not drained"] if late else []

    async def _shards(self, stream: str) -> list[str]:
        page = await self.client.list_shards(StreamName=stream)
        shards = [shard["ShardId"] for shard in page["Shards"]]
        while token := page.get("NextToken"):
            page = await self.client.list_shards(NextToken=token)
            shards += [shard["ShardId"] for shard in page["Shards"]]
        return shards

    async def _holds_more(self, stream: str, shard: str, committed: str) -> bool:
        place = (stream, shard, committed)
        if place not in self._iterators:
            self._iterators[place] = await self._iterator(stream, shard, committed)
        for _ in range(CALLS_PER_POLL):
            iterator = self._iterators[place]
            if iterator is None:
                return False  # a closed shard, read to its end
            reply = await self.client.get_records(ShardIterator=iterator, Limit=1)
            if reply["Records"]:
                # The iterator is kept: as long as nothing more is committed, this record is the answer.
                arrived = reply["Records"][0]["ApproximateArrivalTimestamp"]
                return bool(arrived.timestamp() <= self.since)
            self._iterators[place] = reply.get("NextShardIterator")
            if reply["MillisBehindLatest"] == 0:
                return False
        return True

    async def _iterator(self, stream: str, shard: str, committed: str) -> str:
        if committed:
            start = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": committed}
        else:
            start = {"ShardIteratorType": "TRIM_HORIZON"}
        reply = await self.client.get_shard_iterator(StreamName=stream, ShardId=shard, **start)
        iterator: str = reply["ShardIterator"]
        return iterator


def reached(committed: str | None, wanted: str) -> bool:
    """Return whether a sequence number is at or past another: as numbers of up to 56 digits."""
    if committed is None:
        return False
    return (len(committed), committed) >= (len(wanted), wanted)


def behind_positions(positions: Positions, committed: Committed) -> list[str]:
    """Return a line for each stream with shards that are not committed up to their position."""
    lines = []
    for stream, shards in positions.items():
        done = committed.get(stream, {})
        late = [shard for shard, at in shards.items() if not reached(done.get(shard), str(at["last"]))]
        if late:
            records = sum(int(shards[shard]["records"]) for shard in late)
            lines.append(f"{stream}: {len(late)} of {len(shards)} shard(s), up to {records} record(s)")
    return lines
