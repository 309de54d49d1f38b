"""Waiting for Kinesis streams, and for what the stream job has made of their records."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.databricks.hooks.databricks import DatabricksHook, RunState

from pinterest_pipeline.hooks.databricks import given_run_id
from pinterest_pipeline.hooks.kinesis import KinesisHook
from pinterest_pipeline.triggers.aws import AwsPollingTrigger
from pinterest_pipeline.triggers.base import Look

Committed = Mapping[str, Mapping[str, str]]  # stream → shard → sequence number
Positions = Mapping[str, Mapping[str, Mapping[str, Any]]]  # stream → shard → {"last": …, "records": n}

COUNTED = 10_000
"""Records of all shards that are counted together; what is behind by more is behind by "more than" that.

Each has to be read, which takes from the stream job what it drains with: a shard gives all its readers 2 MB a second.
"""
COUNTED_AT_LAST = 100_000
"""As many are counted when the wait ends without all of it: nothing else is told then."""
LARGEST_ANSWER = 10_000
"""Records that GetRecords returns at most."""
CALLS = 4
"""For each answer that is wanted: an empty one does not mean that there are no records further on."""
FRUITLESS_ATTEMPTS = 5
"""Attempts of the stream job in a row that commit nothing: the next one will not either."""


class KinesisStreamStatusTrigger(AwsPollingTrigger):
    """
    Fires when all streams have a status.

    :param stream_names: the streams.
    :param target_status: the status that is waited for; None: that there is no such stream.
    :param kwargs: arguments of :class:`~pinterest_pipeline.triggers.aws.AwsPollingTrigger`.
    """

    def __init__(
        self, *, stream_names: list[str], target_status: str | None = "ACTIVE", **kwargs: Any
    ) -> None:
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
    Fires when the stream job has committed everything up to the given positions; until then it measures the lag.

    With no positions at all it drains: it fires when every record that was in the streams when the wait
    began is committed. The job's run is watched all the while: when it is over, or has been tried again several
    times without committing anything, nothing more will come.

    :param positions: stream → shard → ``{"last": sequence number, "records": how many}``.
    :param stream_names: the streams to drain if there are no positions.
    :param since: moment (seconds since the epoch) the wait began at.
    :param bucket: bucket that holds the job's progress.
    :param progress_key: key of the progress object.
    :param databricks_run_id: the run of the stream job; None: it is not watched.
    :param cancel_on_kill: cancel that run when the waiting task is killed.
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
        cancel_on_kill: bool = False,
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
        self.cancel_on_kill = cancel_on_kill
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
            "cancel_on_kill": self.cancel_on_kill,
            "databricks_conn_id": self.databricks_conn_id,
        }

    def _databricks(self) -> DatabricksHook:
        return DatabricksHook(self.databricks_conn_id, caller="StreamCommittedTrigger")

    def _kinesis(self) -> Any:
        """Return a client for threads: to parse 10 MB of records in the event loop would stop all other waits."""
        return KinesisHook(
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            config=self.botocore_config,
        ).get_conn()

    async def on_kill(self) -> None:
        """Cancel the run if it belongs to the task that is killed."""
        if self.cancel_on_kill and self.databricks_run_id is not None:
            await asyncio.to_thread(self._databricks().cancel_run, self.databricks_run_id)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Callable[[], Awaitable[Look]]]:
        """Open the clients of S3, Kinesis and Databricks."""
        async with AsyncExitStack() as stack:
            s3 = await stack.enter_async_context(await self.open_client(S3Hook))
            kinesis = stack.enter_context(closing(await asyncio.to_thread(self._kinesis)))
            databricks = None
            if self.databricks_run_id is not None:
                databricks = await stack.enter_async_context(self._databricks())
            watch = RunWatch(databricks, self.databricks_run_id)
            lag = ConsumerLag(kinesis, self.positions, self.stream_names, self.since)

            async def look() -> Look:
                # The run's state is read first: what it committed before it ended is then seen as well.
                state = await watch.look()
                progress, unheard = await self._progress(s3, state.told_as)
                committed = {name: stream["committed"] for name, stream in progress.items()}
                problem = watch.hopeless(state, committed)
                at_last = bool(problem) or self.time_is_up()
                behind = await lag.behind(committed, COUNTED_AT_LAST if at_last else COUNTED)
                if not behind:
                    told = "everything that was waited for is committed"
                    return Look(told, done=True, value=progress)
                told = f"behind: {'; '.join(behind)}"
                if problem:
                    return Look(f"{problem}, but {told}{unheard}", hopeless=True, value=progress)
                return Look(f"{told}{unheard}{state.told}", value=progress)

            yield look

    async def _progress(self, s3: Any, told_as: str) -> tuple[dict[str, Any], str]:
        """Return what the watched run has told of each stream, and a remark when only another run has told anything."""
        try:
            reply = await s3.get_object(Bucket=self.bucket, Key=self.progress_key)
        except s3.exceptions.NoSuchKey:
            return {}, ""
        async with reply["Body"] as body:
            told: dict[str, Any] = json.loads(await body.read())
        if told_as and told["run_id"] != told_as:
            return {}, f" (run {told_as} has told nothing yet, only run {told['run_id']})"
        return told["streams"], ""


@dataclass(frozen=True)
class RunSeen:
    """
    The state of the stream job's run.

    :param ended: how it has ended; empty while it goes on.
    :param attempt: number of the attempt of its task that goes on, from 0.
    :param reason: what is said of the last failure.
    :param page: the run's page.
    :param told_as: what it calls itself in the progress object: whoever starts it may name it.
    """

    ended: str = ""
    attempt: int = 0
    reason: str = ""
    page: str = ""
    told_as: str = ""

    @property
    def told(self) -> str:
        """Return what a line of the log says of it: nothing, unless it was tried again."""
        return f" (attempt {self.attempt + 1} of the stream job: {self.page})" if self.attempt else ""


class RunWatch:
    """
    Watches the run of the stream job, whose task Databricks tries again when it fails.

    :param hook: an open Databricks hook; None: there is no run to watch.
    :param run_id: the run.
    """

    def __init__(self, hook: DatabricksHook | None, run_id: int | None) -> None:
        self.hook = hook
        self.run_id = run_id
        self._committed: Committed | None = None
        self._attempt = 0

    async def look(self) -> RunSeen:
        """Return how the run stands."""
        if self.hook is None or self.run_id is None:
            return RunSeen()
        run = await self.hook.a_get_run(self.run_id)
        known = {name: run["state"].get(name) or "" for name in ("life_cycle_state", "result_state")}
        message = run["state"].get("state_message") or ""
        state = RunState(**known, state_message=message)
        tasks = run.get("tasks") or [{}]
        how = state.result_state or state.life_cycle_state
        return RunSeen(
            ended=f"{how}: {message}" if state.is_terminal else "",
            attempt=max(int(task.get("attempt_number") or 0) for task in tasks),
            reason=" ".join(task.get("state", {}).get("state_message") or "" for task in tasks).strip(),
            page=run.get("run_page_url") or f"run {self.run_id}",
            told_as=given_run_id(run) or str(self.run_id),
        )

    def hopeless(self, seen: RunSeen, committed: Committed) -> str | None:
        """Return why nothing more will be committed, or None while there is hope."""
        if seen.ended:
            return f"the stream job's run {self.run_id} has ended ({seen.ended})"
        if committed != self._committed:
            self._committed, self._attempt = committed, seen.attempt
        fruitless = seen.attempt - self._attempt
        if fruitless < FRUITLESS_ATTEMPTS:
            return None
        return (
            f"the stream job's run {self.run_id} has failed {fruitless} times in a row without committing "
            f"anything; what its last attempt says is on its page, {seen.page}"
        )


class ShardLag:
    """
    Counts the records of one shard that are not committed, up to an end.

    Kinesis does not tell how many records follow another one. So they are read once, and their numbers kept until
    they are committed.

    :param client: a Kinesis client of boto3, which is called in threads.
    :param stream: the stream.
    :param shard: the shard.
    :param belongs: whether a record (number, arrival in seconds since the epoch) counts; in a shard, the first that
        does not is followed by no other that does.
    :param ends_now: whether what is there now is all that counts.
    """

    def __init__(
        self,
        client: Any,
        stream: str,
        shard: str,
        *,
        belongs: Callable[[str, float], bool],
        ends_now: bool,
    ) -> None:
        self.client = client
        self.stream = stream
        self.shard = shard
        self.belongs = belongs
        self.ends_now = ends_now
        self.waiting: deque[tuple[str, float]] = deque()
        self.whole = False
        """Whether all that counts has been read."""
        self.more = True
        """Whether there may be records further on."""
        self._iterator: str | None = None
        self._read = ""

    def look(self, committed: str, most: int) -> None:
        """Forget what is committed, and read on until so many are known to wait; blocks."""
        while self.waiting and reached(committed, self.waiting[0][0]):
            self.waiting.popleft()
        if self.whole or (self.more and len(self.waiting) >= most):
            return
        if self._iterator is None or (committed and not reached(self._read, committed)):
            self.waiting.clear()
            self._read = committed
            self._iterator = self._start(committed)
        for _ in range(CALLS * -(-most // LARGEST_ANSWER)):
            if self._call(committed, most - len(self.waiting)) or len(self.waiting) >= most:
                return

    def _call(self, committed: str, most: int) -> bool:
        """Read once; return whether there is no more to be read now."""
        try:
            limit = max(1, min(most, LARGEST_ANSWER))
            reply = self.client.get_records(ShardIterator=self._iterator, Limit=limit)
        except self.client.exceptions.ExpiredIteratorException:
            self._iterator = self._start(self._read)
            return False
        except self.client.exceptions.ProvisionedThroughputExceededException:
            return True
        for record in reply["Records"]:
            number = record["SequenceNumber"]
            arrived = record["ApproximateArrivalTimestamp"].timestamp()
            if not self.belongs(number, arrived):
                self.whole, self.more = True, False
                return True
            self._read = number
            if not reached(committed, number):
                self.waiting.append((number, arrived))
        self._iterator = reply.get("NextShardIterator")
        at_the_tip = self._iterator is None or reply["MillisBehindLatest"] == 0  # None: a closed shard's end
        self.whole = at_the_tip and (self.ends_now or self._iterator is None)
        self.more = not at_the_tip
        return at_the_tip

    def _start(self, after: str) -> str:
        start = {"ShardIteratorType": "TRIM_HORIZON"}
        if after:
            start = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        reply = self.client.get_shard_iterator(StreamName=self.stream, ShardId=self.shard, **start)
        iterator: str = reply["ShardIterator"]
        return iterator


class ConsumerLag:
    """
    Measures how far the stream job is behind: records, and seconds since the oldest of them was put.

    :param client: a Kinesis client of boto3, which is called in threads.
    :param positions: stream → shard → its last record that counts; empty: all that came by `since` count.
    :param stream_names: the streams that are looked at if there are no positions.
    :param since: moment (seconds since the epoch, by this machine's clock); without positions, what arrived later
        does not count. Kinesis dates arrivals by its own clock, which its answers tell.
    """

    def __init__(self, client: Any, positions: Positions, stream_names: list[str], since: float) -> None:
        self.client = client
        self.positions = positions
        self.stream_names = stream_names
        self.since = since
        self._shards: dict[tuple[str, str], ShardLag] = {}
        self._ahead: float | None = None

    async def behind(self, committed: Committed, most: int = COUNTED) -> list[str]:
        """Return a line for each stream that lags; of all its shards together up to so many records are counted."""
        late = [
            (stream, shard)
            for stream in self.positions or self.stream_names
            for shard in await self._late(stream, committed.get(stream, {}))
        ]
        self._shards = {place: self._shards.get(place) or self._lag_of(*place) for place in late}
        lines: dict[str, list[ShardLag]] = {}
        left = most
        for done, (stream, shard) in enumerate(late):
            lag = self._shards[stream, shard]
            # What a shard does not use of its share is for those that follow.
            share = max(1, left // (len(late) - done))
            await asyncio.to_thread(lag.look, committed.get(stream, {}).get(shard, ""), share)
            left -= len(lag.waiting)
            # Positions are acknowledged: even if their records cannot be read here, they are not committed.
            if lag.waiting or not lag.whole or self.positions:
                lines.setdefault(stream, []).append(lag)
        return [_line(stream, lags) for stream, lags in lines.items()]

    async def _late(self, stream: str, done: Mapping[str, str]) -> list[str]:
        """Return the shards that may hold something that counts and is not committed."""
        if self.positions:
            shards = self.positions[stream].items()
            return [shard for shard, at in shards if not reached(done.get(shard), str(at["last"]))]
        return await asyncio.to_thread(self._list_shards, stream)

    def _list_shards(self, stream: str) -> list[str]:
        page = self.client.list_shards(StreamName=stream)
        if self._ahead is None:
            self._ahead = ahead_of_us(page)
        names = [shard["ShardId"] for shard in page["Shards"]]
        while token := page.get("NextToken"):
            page = self.client.list_shards(NextToken=token)
            names += [shard["ShardId"] for shard in page["Shards"]]
        return names

    def _lag_of(self, stream: str, shard: str) -> ShardLag:
        return ShardLag(
            self.client,
            stream,
            shard,
            belongs=self._belongs(stream, shard),
            ends_now=not self.positions,
        )

    def _belongs(self, stream: str, shard: str) -> Callable[[str, float], bool]:
        if self.positions:
            last = str(self.positions[stream][shard]["last"])
            return lambda number, _: reached(last, number)
        until = self.since + (self._ahead or 0)
        return lambda _, arrived: arrived <= until


def _line(stream: str, late: list[ShardLag]) -> str:
    records = sum(len(lag.waiting) for lag in late)
    more = "more than " if any(lag.more for lag in late) else ""
    oldest = min((lag.waiting[0][1] for lag in late if lag.waiting), default=time.time())
    return f"{stream}: {more}{records} record(s), the oldest put {max(0, time.time() - oldest):.0f} s ago"


def ahead_of_us(reply: Mapping[str, Any]) -> float:
    """Return by how many seconds, rounded up, the clock of a service that has just replied is ahead of this one's."""
    date = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if date is None:
        return 0
    # whole seconds: the service's clock may have come to the end of the one that is told
    return parsedate_to_datetime(date).timestamp() + 1 - time.time()


def reached(committed: str | None, wanted: str) -> bool:
    """Return whether a sequence number is at or past another: as numbers of up to 56 digits."""
    if committed is None:
        return False
    return (len(committed), committed) >= (len(wanted), wanted)
