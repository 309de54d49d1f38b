"""The way from PutRecords to a row that can be queried: how long it takes, and how fast a backlog is worked off.

It needs a stack that is up (``make up``, with its PIPELINE_HOME and PORT_OFFSET) and uses its streams and tables. A
record is queryable from the moment the Delta commit that holds its row is there: the time of the commit's file. It
was put at the moment its request was sent. The limit that all of it is held against is the raw rate: the same records
by GetRecords alone, read by one client in the same run.

Settings, by environment: BENCH_SECONDS (30, of each rate), BENCH_RATES (200,1000 records a second, of the three
streams together), BENCH_BACKLOG (450000 records: of few, a cold driver's first seconds would be the most).
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate, batched
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
from botocore.credentials import Credentials

from bench._settings import one_number, whole_numbers

ROOT = Path(__file__).parents[1]
DAG = "pinterest_kinesis_streams"
TABLES = ("pin", "geo", "user")
TICK_SECONDS = 0.25
WARM_UP_SECONDS = 40
"""Of new posts, and again of known ones: the JVM compiles what a micro-batch needs for a minute or two."""
TIMEOUT_SECONDS = 300
_SENDERS = 3

Sent = dict[tuple[str, str, str], float]
"""(table, shard, sequence number) → when the request that put it was sent."""


def run() -> None:
    seconds = one_number("BENCH_SECONDS", "30", 1, 3_600)
    rates = whole_numbers("BENCH_RATES", "200,1000", 1, 100_000)
    backlog = one_number("BENCH_BACKLOG", "450000", 3_000, 100_000_000)
    bench = Bench(_stack())
    print(f"on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before it began")
    bench.dag(job="keep")
    try:
        cold = bench.latencies(rates[0], WARM_UP_SECONDS, known=False)
        print(
            f"a new driver's first {WARM_UP_SECONDS} s, not counted below: up to {max(cold):.1f} s",
            flush=True,
        )
        bench.latencies(rates[0], WARM_UP_SECONDS, known=True)
        for rate in rates:
            for known, what in ((False, "new posts"), (True, "known posts, whose rows are replaced")):
                waits = bench.latencies(rate, seconds, known=known)
                print(
                    f"put to queryable, {rate} records/s, {what}: "
                    f"p50 {percentile(waits, 50):.1f} s, p99 {percentile(waits, 99):.1f} s ({len(waits)} records)",
                    flush=True,
                )
        bench.drain(backlog)
    finally:
        bench.dag(job="stop")


def percentile(values: list[float], percent: int) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _stack() -> dict[str, str]:
    done = subprocess.run(["make", "-s", "env"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench streams needs a stack; run make up.\n{done.stdout}{done.stderr}")
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@dataclass
class Bench:
    """A stack under load."""

    env: dict[str, str]
    number: int = field(default_factory=lambda: int(time.time()) % 1_000_000 * 1_000)
    """The next post; no run uses the posts of another."""

    def __post_init__(self) -> None:
        from pinterest_pipeline.gateway import GatewayClient

        keys = (self.env["AWS_ACCESS_KEY_ID"], self.env["AWS_SECRET_ACCESS_KEY"])
        self.region = self.env["AWS_REGION"]
        self.api = GatewayClient(self.env["API_GATEWAY_URL"], Credentials(*keys), self.region)
        self.first = self.number

    def client(self, service: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.env["AWS_ENDPOINT_URL"],
            region_name=self.region,
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
        )

    def stream(self, table: str) -> str:
        return f"streaming-{self.env['PREFIX']}-{table}"

    def dag(self, job: str) -> None:
        """Runs the DAG without posts: it drains, and leaves the stream job running, or stops it."""
        conf = json.dumps({"posts": 0, "job": job, "confirm": self.env["PREFIX"]})
        command = ["make", "-s", "dag", f"DAG={DAG}", f"CONF={conf}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} has failed:\n{done.stdout}{done.stderr}")

    def put(self, numbers: Sequence[int]) -> Sent:
        """Puts the three records of each post; each must be acknowledged."""
        sent: Sent = {}
        for table in TABLES:
            at = time.time()
            results = self.api.put_records(self.stream(table), [(n, record(table, n)) for n in numbers])
            for result in results:
                sent[table, result.shard_id, result.sequence_number] = at
        return sent

    def latencies(self, rate: int, seconds: float, *, known: bool) -> list[float]:
        """Seconds from put to queryable of each record, at so many records a second."""
        posts = max(1, round(rate / len(TABLES) * TICK_SECONDS))
        sent: Sent = {}
        began = time.monotonic()
        first = self.first
        for tick in range(round(seconds / TICK_SECONDS)):
            time.sleep(max(0.0, began + tick * TICK_SECONDS - time.monotonic()))
            if known and first + posts <= self.number:
                numbers, first = list(range(first, first + posts)), first + posts
            else:
                numbers, self.number = list(range(self.number, self.number + posts)), self.number + posts
            sent |= self.put(numbers)
        late = time.monotonic() - began - seconds
        if late > 1:
            print(
                f"  (putting {rate} records/s took {late:.0f} s longer than it should: the API is the limit)"
            )
        self.await_all(sent)
        queryable = self.queryable()
        return [queryable[record] - at for record, at in sent.items()]

    def await_all(self, sent: Sent) -> None:
        """Waits until the job says that all of it is committed."""
        wanted: dict[tuple[str, str], str] = {}
        for table, shard, number in sent:
            wanted[table, shard] = max(number, wanted.get((table, shard), ""), key=lambda n: (len(n), n))
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            streams = self.progress()
            done = {
                (table, shard): streams.get(self.stream(table), {}).get("committed", {}).get(shard, "")
                for table, shard in wanted
            }
            if all((len(done[at]), done[at]) >= (len(n), n) for at, n in wanted.items()):
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"not all was committed within {TIMEOUT_SECONDS} s")
            time.sleep(0.2)

    def progress(self) -> dict[str, Any]:
        return dict(self.told().get("streams", {}))

    def told(self) -> dict[str, Any]:
        """The progress object; empty when no job has written one."""
        s3 = self.client("s3")
        key = f"streams/{self.env['PREFIX']}/{Path(self.env['LAKE_DIR']).stem}/progress.json"
        try:
            body = s3.get_object(Bucket=self.env["BUCKET"], Key=key)["Body"].read()
        except s3.exceptions.NoSuchKey:
            return {}
        return dict(json.loads(body))

    def queryable(self) -> dict[tuple[str, str, str], float]:
        """For each record that ever was a row, when the first commit with it was there."""
        found: dict[tuple[str, str, str], float] = {}
        for table in TABLES:
            folder = Path(self.env["LAKE_DIR"]) / f"{self.env['PREFIX']}_{table}_table"
            for at, file in _added(folder):
                rows = pq.read_table(file, columns=["_shard", "_sequence_number"]).to_pydict()
                for shard, number in zip(rows["_shard"], rows["_sequence_number"], strict=True):
                    found.setdefault((table, shard, number), at)
        return found

    def drain(self, records: int) -> None:
        """Puts a backlog while no job runs, and lets one work it off."""
        self.dag(job="stop")
        sent = self.put_fast(records // len(TABLES))
        raw = self.raw_rate(sent)
        self.dag(job="keep")  # a new run of the job, which tells its own batches only
        told = self.told()
        # by the moment they were in the tables, of the three streams together
        batches: Counter[str] = Counter()
        for table in TABLES:
            for batch in told["streams"][self.stream(table)]["batches"]:
                batches[batch["at"]] += batch["records"]
        print(f"drain of {len(sent)} records, GetRecords alone {raw:.0f} records/s", flush=True)
        moments = sorted(batches)
        so_far = accumulate(batches[at] for at in moments)
        half = next(at for at, number in zip(moments, so_far, strict=True) if 2 * number >= len(sent))
        for what, since in (
            ("all of it, by a driver that has just come up", told["started_at"]),
            ("what is left when half of it is taken", half),
        ):
            taken = sum(number for at, number in batches.items() if at > since)
            rate = taken / (_seconds(moments[-1]) - _seconds(since)) if taken else 0
            print(f"  {what}: {taken} at {rate:.0f} records/s, {rate / raw:.0%} of it", flush=True)

    def put_fast(self, posts: int) -> Sent:
        """Puts posts by several senders at once."""
        from pinterest_pipeline.gateway import MAX_RECORDS

        requests = batched(range(self.number, self.number + posts), MAX_RECORDS)
        self.number += posts
        with ThreadPoolExecutor(_SENDERS) as senders:
            return {record: at for sent in senders.map(self.put, requests) for record, at in sent.items()}

    def raw_rate(self, sent: Sent) -> float:
        """Records a second that one client gets by GetRecords alone, from the first record that was sent."""
        kinesis = self.client("kinesis")
        firsts: dict[tuple[str, str], str] = {}
        for table, shard, number in sent:
            firsts[table, shard] = min(number, firsts.get((table, shard), number), key=lambda n: (len(n), n))
        began, got = time.monotonic(), 0
        for (table, shard), number in firsts.items():
            iterator = kinesis.get_shard_iterator(
                StreamName=self.stream(table),
                ShardId=shard,
                ShardIteratorType="AT_SEQUENCE_NUMBER",
                StartingSequenceNumber=number,
            )["ShardIterator"]
            while iterator:
                answer = kinesis.get_records(ShardIterator=iterator, Limit=10_000)
                got += len(answer["Records"])
                iterator = answer.get("NextShardIterator") if answer["MillisBehindLatest"] else None
        return got / (time.monotonic() - began)


def _added(folder: Path) -> Iterator[tuple[float, Path]]:
    """The data files that each commit of a Delta table added, oldest first, with the time of the commit."""
    for log in sorted((folder / "_delta_log").glob("*.json")):
        at = log.stat().st_mtime
        for line in log.read_text().splitlines():
            added = json.loads(line).get("add")
            if added and (folder / added["path"]).exists():
                yield at, folder / added["path"]


def _seconds(moment: str) -> float:
    return dt.datetime.fromisoformat(moment).timestamp()


def record(table: str, number: int) -> dict[str, Any]:
    """A record of ordinary size."""
    if table == "pin":
        return {
            "index": number,
            "unique_id": f"00000000-0000-4000-8000-{number:012d}",
            "title": f"A post to measure with, number {number}",
            "description": "Words that say little, " * 12,
            "poster_name": f"Poster {number % 500}",
            "follower_count": f"{number % 900}k",
            "tag_list": "Measuring,Waiting,Counting",
            "is_image_or_video": "image",
            "image_src": f"https://images.example/{number}.jpg",
            "downloaded": 1,
            "save_location": "Local save in /data/measuring",
            "category": "measuring",
        }
    if table == "geo":
        return {
            "ind": number,
            "timestamp": "2020-08-28T03:52:47",
            "latitude": number % 90 / 1.5,
            "longitude": number % 180 / 1.5,
            "country": "Measureland",
        }
    return {
        "ind": number,
        "first_name": "Some",
        "last_name": "Body",
        "age": 20 + number % 40,
        "date_joined": "2016-02-03T04:05:06",
    }
